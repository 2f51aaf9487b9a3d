"""The stage `search`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.setting_names import setting
from pts.stages.search.inputs import SearchInputs
from pts.stages.stage import Context, Observer, Plan, Report, Stage, Status

if TYPE_CHECKING:
    from pts.runs.search_run import SearchResults
    from pts.runs.search_summary import SearchSummary


def _status(inputs: SearchInputs) -> Status:
    """How the run directory compares with the inputs. Raises PtsError for one that cannot be read."""
    from pts.runs.manifest import differences, read_manifest
    from pts.runs.search_run import read_search
    from pts.runs.search_summary import search_summary
    from pts.stages.search.given_traces import read_traces
    from pts.stages.search.plan import fixed_settings

    path = inputs.directory()
    if read_manifest(path) is None:
        return Status("new")
    searched = read_search(path)
    summary = search_summary(searched)
    limited = ", all that max_tokens allowed" if summary.status == "spent" else ""
    tokens = f"{summary.tokens_generated:,} tokens generated{limited}"
    content = f"{summary.done} of {summary.problems} problems done, {tokens}"
    requested = {**inputs.settings(), "traces_from": read_traces(inputs.traces_from)[1]}
    earlier = searched.manifest.settings
    changes = tuple(differences(fixed_settings(earlier), fixed_settings(requested)))
    if changes:
        return Status("changed", content, changes)
    if differences(earlier, requested):
        return Status("begun", content)
    return Status("complete" if _is_finished(inputs, searched) else "begun", content)


def _is_finished(inputs: SearchInputs, searched: SearchResults) -> bool:
    """Whether the run covers the problems requested, and each is done or cut by the same spending limit."""
    from pts.runs.search_run import SEARCH

    if not (searched.path / SEARCH.derived[-1]).exists():
        return False
    limit, count = searched.environment.limit, searched.manifest.problems.count
    every = limit is None and inputs.source().registered is None
    covers = every or (limit is None if inputs.problems is None else max(count, limit or 0) >= inputs.problems)
    if not covers:
        return False
    if inputs.token_limit is not None and searched.tokens_spent >= inputs.token_limit:
        return True
    settled = sum(line.settled(inputs.token_limit) for line in searched.latest.values())
    return settled >= count


def _plan(inputs: SearchInputs, _context: Context) -> Plan:
    """What a search will do. Raises RunError for a paid search with other settings, which nothing replaces."""
    from pts.runs.directory import open_run
    from pts.runs.search_run import SEARCH

    path, status = inputs.directory(), _status(inputs)
    with open_run(path, SEARCH):
        pass  # now and not after hours, where the directory cannot be had
    if status.state == "new":
        return Plan(f"search: writes {path}.")
    if inputs.fresh:
        return Plan(f"search: deletes {path} ({status.content}) and starts again.", deletes=True)
    if status.state == "changed":
        raise RunError(
            f"{path} holds a search with other settings ({'; '.join(status.changes)}): {status.content}. "
            f"Give another {setting('output')} to keep it, or {setting('fresh', True)} to delete it and "
            "search again."
        )
    if status.state == "complete":
        return Plan(f"search: {path} is complete ({status.content}): nothing to do.", idle=True)
    return Plan(f"search: continues {path} ({status.content}).")


def _run(inputs: SearchInputs, observe: Observer | None) -> SearchSummary:
    from pts.stages.search.run import run_search

    return run_search(inputs, observe)


def _report(inputs: SearchInputs, _summary: SearchSummary) -> Report:
    from pts.runs.search_run import read_search
    from pts.stages.search.report import search_report

    return search_report(read_search(inputs.directory()))


def _notice(inputs: SearchInputs) -> str | None:
    """What a data set's name stands for, where that is not plain."""
    from pts.problems.benchmarks import meaning_of_name

    return meaning_of_name(inputs.source())


def _resume_note(inputs: SearchInputs) -> str | None:
    from pts.stages.search.run import resume_note

    return resume_note(inputs)


STAGE: Stage[SearchInputs, SearchSummary] = Stage(
    name="search",
    summary="Find the pivotal tokens of a model on a set of problems.",
    inputs=SearchInputs,
    plan=_plan,
    run=_run,
    report=_report,
    directory=SearchInputs.directory,
    status=_status,
    notice=_notice,
    resume_note=_resume_note,
)
