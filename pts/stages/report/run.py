"""A report written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pts.report.write_report import report_target, write_report
from pts.stages.report.inputs import ReportInputs


def run_report(inputs: ReportInputs, observe: Callable[[str, int, float], None] | None = None) -> Path:
    """Write the report; where it is. Raises PtsError, in one line, for what cannot be shown.

    `observe` gets the progress of reading completions steered: the phase, the tokens just read, the share done.
    """
    from pts.stages.report.steered import steered_run

    report_target(inputs.sources, inputs.output)  # before a model is loaded
    steered = None if inputs.vectors is None else steered_run(inputs, inputs.vectors, observe)
    return write_report(*inputs.sources, output=inputs.output, steered=steered)
