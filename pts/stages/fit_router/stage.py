"""The stage `fit-router`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.setting_names import setting
from pts.stages.fit_router.inputs import FitRouterInputs
from pts.stages.stage import Context, Observer, Plan, Report, Source, Stage, Status, note_of_measured

if TYPE_CHECKING:
    from pts.decoding.routers.fitted import FittedRouter

_FIT_ONLY = ("layer", "token_price")
"""Settings that need no other measurements: the router is fitted again from those that there are."""


def _status(inputs: FitRouterInputs) -> Status:
    """How the router in the directory compares with the inputs, the search and the vectors included.

    Raises PtsError for a search, vectors or a router that cannot be read.
    """
    from pts.decoding.routers.files import JSON_NAME, load_router
    from pts.runs.codec import to_json
    from pts.runs.manifest import differences
    from pts.runs.search_run import read_search
    from pts.stages.fit_router.run import JOURNAL_NAME, router_settings
    from pts.steering.vector_files import load_vectors

    path = inputs.directory()
    content = _content(path)
    if not content:
        return Status("new")
    vectors = None if inputs.vectors is None else load_vectors(inputs.vectors)
    requested = router_settings(inputs, read_search(inputs.run), vectors)
    fitted = (path / JSON_NAME).exists()
    known = load_router(path).provenance if fitted else _measured(path / JOURNAL_NAME)
    changes = differences({name: known.get(name) for name in requested}, requested)
    if changes:
        return Status("changed", content, tuple(changes))
    same_fit = all(known.get(name) == to_json(getattr(inputs, name)) for name in _FIT_ONLY)
    return Status("complete" if fitted and same_fit else "begun", content)


def _content(path: Path) -> str:
    """What there is of a router in a directory, in words; empty for nothing."""
    from pts.decoding.routers.files import JSON_NAME
    from pts.stages.fit_router.run import JOURNAL_NAME

    if (path / JSON_NAME).exists():
        return "a fitted router"
    return "measurements for a router" if (path / JOURNAL_NAME).exists() else ""


def _measured(path: Path) -> Mapping[str, object]:
    """What a journal's header says is measured. Raises RunError where it says nothing."""
    from pts.calibration.budget_measurement import budgets_journal

    known = budgets_journal(path).header()
    if known is None:
        raise RunError(
            f"{path} does not record what it measured; give {setting('fresh', True)} to "
            "delete it and measure again."
        )
    return known


def _plan(inputs: FitRouterInputs, context: Context) -> Plan:
    """What a fit will do; a router that other settings, vectors or another search made is made again."""
    path = inputs.directory()
    content = _content(path)
    if not content:
        return Plan(f"fit-router: writes a router to {path}.")
    if inputs.fresh:
        return Plan(f"fit-router: deletes {content} in {path} and starts again.", deletes=True)
    if context.active:
        text = (
            f"fit-router: runs after the stages before it; if {content} in {path} no longer fits what they "
            "make, it is deleted and made again."
        )
        return Plan(text, deletes=True)
    status = _status(inputs)
    if status.state == "changed":
        text = (
            f"fit-router: {content} in {path} has other settings, vectors or another search "
            f"({'; '.join(status.changes)}); it is deleted and made again."
        )
        return Plan(text, deletes=True)
    if status.state == "complete":
        return Plan(f"fit-router: the router in {path} is complete: nothing to do.", idle=True)
    return Plan(f"fit-router: continues {content} in {path}.")


def _run(inputs: FitRouterInputs, observe: Observer | None) -> FittedRouter:
    """The router: the one that is there where it is complete, else a fitted one."""
    from pts.decoding.routers.files import load_router
    from pts.stages.fit_router.run import run_fit_router

    if not inputs.fresh and _status(inputs).state == "complete":
        return load_router(inputs.directory())
    return run_fit_router(inputs, observe)


def _report(inputs: FitRouterInputs, router: FittedRouter) -> Report:
    from pts.decoding.routers.files import router_json
    from pts.report.router_tables import router_report

    return Report(
        f"{router_report(router)}\nstored in {inputs.directory()}",
        data=lambda: router_json(router),
    )


def _resume_note(inputs: FitRouterInputs) -> str | None:
    """What a stopped fit leaves; None where it has not measured anything."""
    from pts.stages.fit_router.run import JOURNAL_NAME

    return note_of_measured(inputs.directory() / JOURNAL_NAME, fresh=inputs.fresh)


STAGE: Stage[FitRouterInputs, FittedRouter] = Stage(
    name="fit-router",
    summary="Fit a router that decides how long to think about a question.",
    inputs=FitRouterInputs,
    plan=_plan,
    run=_run,
    report=_report,
    takes={
        "run": Source(("search", "merge")),
        "vectors": Source(("extract-vectors",)),
        # With another set than the recipe's own, the recipe's is no place for the router.
        "output": Source(("extract-vectors",), unless="vectors"),
    },
    directory=FitRouterInputs.directory,
    status=_status,
    remakes=True,
    resume_note=_resume_note,
)
