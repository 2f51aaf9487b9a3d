"""The stage `demo-model`."""

from __future__ import annotations

from pathlib import Path

from pts.stages.demo_model.inputs import DemoModelInputs
from pts.stages.stage import Context, Observer, Plan, Report, Stage


def _plan(inputs: DemoModelInputs, _context: Context) -> Plan:
    there = Path(inputs.output).exists()
    return Plan(f"demo-model: {'replaces' if there else 'writes'} {inputs.output}.", deletes=there)


def _run(inputs: DemoModelInputs, _observe: Observer | None) -> Path:
    from pts.stages.demo_model.run import train_demo_model

    return train_demo_model(inputs)


def _report(_inputs: DemoModelInputs, path: Path) -> Report:
    return Report(f"demo-model: {path}")


STAGE: Stage[DemoModelInputs, Path] = Stage(
    name="demo-model",
    summary="Train the demo model and write it as transformers loads it.",
    inputs=DemoModelInputs,
    plan=_plan,
    run=_run,
    report=_report,
)
