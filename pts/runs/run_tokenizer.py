"""The detokenizer of a run's model, without the model."""

from __future__ import annotations

from collections.abc import Callable

from pts.errors import RunError
from pts.records import TokenIds
from pts.runs.search_run import SearchResults


def load_run_detokenizer(run: SearchResults) -> Callable[[TokenIds], str]:
    """From token ids to text, as the model that was searched writes it. Raises ModelError, RunError."""
    from pts.models.options import ModelOptions
    from pts.models.tokenizer import load_detokenizer

    spec, revision = run.manifest.settings.get("model"), run.manifest.settings.get("revision")
    if not isinstance(spec, str) or not isinstance(revision, str | None):
        raise RunError(
            f"{run.path / 'manifest.json'} does not name the model; search again, into another directory."
        )
    return load_detokenizer(ModelOptions(spec, revision))
