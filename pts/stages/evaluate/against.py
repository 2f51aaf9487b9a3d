"""The other evaluation that `against` names: read, and checked to have answered the same problems alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError, RunError
from pts.evaluation.against import OtherRun
from pts.evaluation.items import Item
from pts.evaluation.systems import System
from pts.runs.evaluation_run import EVALUATION
from pts.runs.journal import Journal
from pts.runs.manifest import Manifest, read_manifest
from pts.setting_names import setting

if TYPE_CHECKING:
    from pts.stages.evaluate.inputs import EvaluateInputs


def other_run(inputs: EvaluateInputs, digests: Mapping[str, str], grader: str) -> OtherRun | None:
    """The evaluation that `inputs.against` names, None where none is named; `digests` are problems' by id.

    Raises RunError for a directory without a finished evaluation, or with one whose answers cannot be paired
    with these.
    """
    if inputs.against is None:
        return None
    from pts.report.evaluation_data import read_summary

    path = Path(inputs.against)
    if path.resolve() == inputs.directory().resolve():
        raise ConfigError(f"{setting('against', path)} is the run itself: name the run of another model.")
    manifest = _manifest(path)
    summary = read_summary(path)
    systems = tuple(
        System(each.strategy)
        for each in summary.lines
        if each.steering == "none" and each.name == each.strategy
    )
    theirs = {"grader": manifest.resolved.get("grader"), "sampling": manifest.settings.get("sampling")}
    own = {"grader": grader, "sampling": inputs.sampling_settings()}
    for what, value in own.items():
        if theirs[what] != value:
            raise RunError(
                f"{path} was evaluated with {what} {theirs[what]}, this run with {value}: give both the same."
            )
    items = {item.key: item for item in Journal(path / EVALUATION.shard, Item).read()}
    for system in systems:
        for problem, digest in digests.items():
            for k in range(inputs.seeds):
                item = items.get((system.name, problem, k))
                if item is None or item.digest != digest:
                    raise RunError(
                        f"{path} has no answer of {system.name} to problem {problem} as it is here, number "
                        f"{k + 1}: evaluate both on the same problems, and that one with at least as many "
                        f"{setting('seeds')}."
                    )
    return OtherRun(str(path), summary.model_id, systems, items)


def _manifest(path: Path) -> Manifest:
    """The manifest of the evaluation at a path. Raises RunError where there is none."""
    manifest = read_manifest(path)
    if manifest is None or manifest.kind != EVALUATION.name:
        raise RunError(f"{setting('against', path)}: there is no evaluation; give the directory of one.")
    return manifest
