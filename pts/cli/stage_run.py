"""A stage run from the command line: its notice, its progress, and what an interrupt leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from pts.cli.interrupts import Stopped
from pts.cli.output import print_report
from pts.cli.progress import evaluation_progress, phase_progress, search_progress
from pts.stages.registry import find_stage
from pts.stages.stage import Observer, Step


def run_command_stage(name: str, given: dict[str, Any], quiet: bool, as_json: bool = False) -> None:
    """Run a command's stage with the inputs that its options give, and print its report. Raises PtsError."""
    stage = find_stage(name)
    step = Step(stage, stage.inputs(**given))
    print_report(stage.report(step.inputs, run_stage(step, quiet or as_json)), as_json)


def run_stage(step: Step, quiet: bool) -> Any:
    """Run a stage with progress on stderr, and return its result; an interrupt says how to go on."""
    stage = step.stage
    notice = None if stage.notice is None or quiet else stage.notice(step.inputs)
    if notice is not None:
        click.echo(f"pts: {notice}", err=True)
    try:
        with _progress(step, quiet) as observe:
            return stage.run(step.inputs, observe)
    except Stopped as stopped:
        note = None if stage.resume_note is None else stage.resume_note(step.inputs)
        if note is not None:
            stopped.note = note
        raise


def _progress(step: Step, quiet: bool) -> AbstractContextManager[Observer | None]:
    """What shows the progress of a stage; None where nothing is to be shown."""
    shown = _PROGRESS.get(step.name)
    return phase_progress(quiet) if shown is None else shown(step.inputs, quiet)


def _bars_of_the_client(_inputs: Any, quiet: bool) -> AbstractContextManager[Observer | None]:
    """An observer where a person watches: the Hub's client then shows its own bars."""
    return nullcontext(None if quiet or not sys.stderr.isatty() else lambda *_: None)


_PROGRESS: Mapping[str, Callable[[Any, bool], AbstractContextManager[Observer | None]]] = {
    "search": search_progress,
    "eval": lambda _inputs, quiet: evaluation_progress(quiet),
    # Only completions that are steered take a while.
    "report": lambda inputs, quiet: phase_progress(quiet) if inputs.vectors else nullcontext(),
    "publish": _bars_of_the_client,
    "demo-model": lambda _inputs, _quiet: nullcontext(),
}
"""How stages show their progress that do not report phases."""
