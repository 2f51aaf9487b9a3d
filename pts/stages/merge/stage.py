"""The stage `merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.stages.merge.inputs import MergeInputs
from pts.stages.stage import Context, Observer, Plan, Report, Stage, Status

if TYPE_CHECKING:
    from pts.runs.search_summary import SearchSummary


def _status(inputs: MergeInputs) -> Status:
    """How what is in the output compares with the shards. Raises RunError for shards that do not fit."""
    from pts.runs.manifest import read_manifest
    from pts.stages.merge.run import compared, merged_content
    from pts.stages.merge.shards import read_shards

    manifest = read_manifest(inputs.output)
    if manifest is None:
        return Status("new")
    return Status(compared(inputs.output, manifest, read_shards(inputs.runs)), merged_content(inputs.output))


def _plan(inputs: MergeInputs, context: Context) -> Plan:
    """What a merge will do. Raises RunError for shards that do not fit, or where other things are there."""
    from pts.runs.directory import open_run
    from pts.runs.manifest import read_manifest
    from pts.runs.search_run import SEARCH
    from pts.stages.merge.run import merged_content
    from pts.stages.merge.shards import read_shards

    if not context.active:  # A stage before it may be what makes them.
        read_shards(inputs.runs)
    with open_run(inputs.output, SEARCH):
        pass
    there = read_manifest(inputs.output) is not None
    if inputs.fresh and there:
        content = merged_content(inputs.output)
        return Plan(f"merge: deletes {inputs.output} ({content}) and merges again.", deletes=True)
    status = _status(inputs)
    if status.state == "new":
        return Plan(f"merge: writes {inputs.output}.")
    if status.state == "complete":
        return Plan(f"merge: {inputs.output} is complete ({status.content}): nothing to do.", idle=True)
    return Plan(f"merge: writes {inputs.output} ({status.content}) again, with what the shards have more.")


def _run(inputs: MergeInputs, _observe: Observer | None) -> SearchSummary:
    from pts.stages.merge.run import run_merge

    return run_merge(inputs)


def _report(inputs: MergeInputs, _summary: SearchSummary) -> Report:
    from pts.runs.search_run import read_search
    from pts.stages.search.report import search_report

    return search_report(read_search(inputs.output))


STAGE: Stage[MergeInputs, SearchSummary] = Stage(
    name="merge",
    summary="Put the shards of a search together into one run.",
    inputs=MergeInputs,
    plan=_plan,
    run=_run,
    report=_report,
    directory=MergeInputs.directory,
    status=_status,
)
