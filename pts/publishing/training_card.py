"""The card of a trained model: what it was trained for, on what, and what was not measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pts.publishing.card_text import base_model, front_matter, marked, render
from pts.training.run_files import ShortenSummary, TrainingResolved, TrainingSummary

_TITLES = {
    "adaptthink": "trained by AdaptThink (Zhang et al. 2025) to choose between thinking and not thinking",
    "length": "trained by reinforcement learning on success with a reward for short completions",
    "shorten": "fine-tuned on the shortest of its own right completions",
}


def training_card(
    summary: TrainingSummary,
    resolved: TrainingResolved,
    name: str,
    repo_id: str | None,
    *,
    license_id: str | None = None,
) -> str:
    """The README.md of a trained model, header included. A licence is named only where one is given."""
    text = render(
        "trained_model.md.j2",
        header=front_matter(
            license=license_id,
            library_name="transformers",
            pipeline_tag="text-generation",
            base_model=base_model(resolved.model_id, resolved.model_revision),
            tags=["pts", "trl", summary.method],
        ),
        name=name,
        repo_id=repo_id,
        summary=summary,
        resolved=resolved,
        title=_TITLES.get(summary.method, f"trained by {summary.method}"),
        settings=list(_flat(summary.settings)),
        saw="shorten" if isinstance(summary, ShortenSummary) else "reinforcement",
    )
    return marked(text)


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Settings as rows of a table; those that were left open are left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} / ".replace("_", " "))
        elif value is not None:
            yield f"{prefix}{key}".replace("_", " "), value
