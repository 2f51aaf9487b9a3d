"""The settings that a training takes from the search whose completions it learns."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from pts.errors import RunError
from pts.registered import registered_dataset, registered_model
from pts.runs.manifest import differences, read_manifest
from pts.runs.search_run import SEARCH
from pts.setting_names import setting
from pts.stages.search.reload import inputs_from
from pts.stages.shared.inputs import ProblemInputs

Inputs = TypeVar("Inputs", bound=ProblemInputs)

_TAKEN = (
    *("model", "revision", "adapter"),
    *("dataset", "config", "split", "dataset_revision", "levels", "grader", "grader_pattern"),
    *("question_field", "answer_field", "id_field", "choices_field"),
    *("system_prompt", "chat_template", "suffix", "thinking", "thinking_switch", "template_options"),
    *("think_start", "think_end", "temperature", "top_k", "top_p", "min_p", "budget"),
)
"""What decides a search's completions. Its stop texts do not suit a training, which refuses them."""
_NONE_IS_NONE = ("system_prompt", "suffix")
"""Settings that are not detected where they are None."""


def with_search_settings(inputs: Inputs, path: Path) -> Inputs:
    """The inputs, and of the search at `path` what they leave at its default; as they are where there is none.

    The number of problems is the search's, and may be given otherwise. So is the seed where the problems are
    drawn by it. Raises RunError for settings that contradict the search.
    """
    manifest = read_manifest(path)
    if manifest is None or manifest.kind != SEARCH.name:
        return inputs
    search = inputs_from(manifest.settings, str(path))
    if search.thinking is False:
        raise RunError(
            f"{path} was searched with {setting('thinking', False)}, so it has no thinking to shorten: give "
            f"another {setting('from_search')}."
        )
    names = [*_TAKEN, *(["seed"] if registered_dataset(search.dataset) is not None else [])]
    defaults = {each.name: each.default for each in fields(inputs)}
    searched = {name: getattr(search, name) for name in names}
    given = {name: getattr(inputs, name) for name in names if getattr(inputs, name) != defaults[name]}
    other = [name for name in given if _contradicts(name, searched[name], given[name])]
    if other:
        changed = differences({name: searched[name] for name in other}, {name: given[name] for name in other})
        raise RunError(
            f"{path} was searched with other settings ({'; '.join(changed)}): leave them out, since a training "
            f"takes them from the search, or give another {setting('from_search')}."
        )
    problems = manifest.environment.get("limit") if inputs.problems is None else inputs.problems
    return replace(inputs, **{**searched, **given, "problems": problems})


def _contradicts(name: str, searched: object, given: object) -> bool:
    """Whether a setting that was given cannot be the search's own, found or written otherwise.

    What a search detected, and data that was moved, are compared later by what they came to mean.
    """
    if searched == given or (searched is None and name not in _NONE_IS_NONE):
        return False
    registered = {"model": registered_model, "dataset": registered_dataset}.get(name)
    if registered is None or registered(str(searched)) is not None:
        return True
    there, here = Path(str(searched)), Path(str(given))
    return not here.exists() or (there.exists() and there.resolve() != here.resolve())
