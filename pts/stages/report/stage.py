"""The stage `report`."""

from __future__ import annotations

from pathlib import Path

from pts.stages.report.inputs import ReportInputs
from pts.stages.stage import Context, Observer, Plan, Report, Source, Stage


def _plan(inputs: ReportInputs, context: Context) -> Plan:
    """What a report will write. Raises PtsError for an output that is something else, and for what has none."""
    from pts.report.write_report import report_target, require_shown

    target = report_target(inputs.sources, inputs.output)
    if not context.active:  # A stage before it may be what makes them.
        require_shown(inputs.sources)
    return Plan(f"report: writes {target}.")


def _run(inputs: ReportInputs, observe: Observer | None) -> Path:
    from pts.stages.report.run import run_report

    return run_report(inputs, observe)


def _report(_inputs: ReportInputs, written: Path) -> Report:
    size = written.stat().st_size

    def data() -> dict[str, object]:
        return {"path": str(written), "bytes": size}

    return Report(f"{written}: {size / 1e6:.2f} MB", data=data)


STAGE: Stage[ReportInputs, Path] = Stage(
    name="report",
    summary="Write a run as one HTML page to look at and to send.",
    inputs=ReportInputs,
    plan=_plan,
    run=_run,
    report=_report,
    takes={
        "paths": Source(
            ("search", "merge", "extract-vectors", "train-adaptthink", "train-length", "train-shorten")
        )
    },
)
