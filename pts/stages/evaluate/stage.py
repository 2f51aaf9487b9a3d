"""The stage `eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.setting_names import setting
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.stage import Context, Observer, Plan, Report, Source, Stage, Status

if TYPE_CHECKING:
    from pts.evaluation.summary import EvaluationSummary


def _status(inputs: EvaluateInputs) -> Status:
    """How the run directory compares with the inputs, what vectors and router hold left aside.

    Which answers are missing is settled when the problems are read: a run that fits has "begun". Raises
    PtsError.
    """
    from pts.runs.evaluation_run import DIGESTS
    from pts.runs.manifest import differences, read_manifest
    from pts.stages.shared.recorded_layers import with_recorded_layers

    manifest = read_manifest(inputs.directory())
    if manifest is None:
        return Status("new")
    # What vectors and router are is settled when the stage runs: the stage before may make them now.
    known = {key: value for key, value in manifest.settings.items() if key not in DIGESTS}
    changes = tuple(differences(known, with_recorded_layers(inputs, manifest).settings()))
    return Status("changed" if changes else "begun", "an evaluation", changes)


def _plan(inputs: EvaluateInputs, context: Context) -> Plan:
    """What an evaluation will do. Raises RunError for a paid one with other settings: nothing replaces it."""
    from pts.runs.directory import open_run
    from pts.runs.evaluation_run import EVALUATION
    from pts.stages.evaluate.router_problems import require_other_problems

    require_other_problems(inputs, context)
    path = inputs.directory()
    with open_run(path, EVALUATION):
        status = _status(inputs)
    if status.state == "new":
        return Plan(f"eval: writes {path}.")
    if inputs.fresh:
        return Plan(f"eval: deletes {path} and starts again.", deletes=True)
    if status.state == "changed":
        raise RunError(
            f"{path} holds an evaluation with other settings ({'; '.join(status.changes)}). "
            f"Give another {setting('output')} to keep it, or {setting('fresh', True)} to delete it and "
            "evaluate "
            "again."
        )
    return Plan(f"eval: continues {path}, or does nothing if it is complete.")


def _run(inputs: EvaluateInputs, observe: Observer | None) -> EvaluationSummary:
    from pts.stages.evaluate.run import run_evaluation

    return run_evaluation(inputs, observe)


def _report(inputs: EvaluateInputs, summary: EvaluationSummary) -> Report:
    from pts.report.evaluation_tables import EVALUATION_COLUMNS, evaluation_report
    from pts.runs.codec import to_json

    def data() -> dict[str, object]:
        fields = to_json(summary)
        assert isinstance(fields, dict)
        return {"run": str(inputs.directory()), **fields}

    where = f"Run directory: {inputs.directory()} (report.html has all of this)"
    return Report(evaluation_report(summary), EVALUATION_COLUMNS, where, data)


def _resume_note(inputs: EvaluateInputs) -> str | None:
    from pts.stages.evaluate.run import resume_note

    return resume_note(inputs)


def _asks_router(inputs: EvaluateInputs) -> bool:
    return inputs.asks_router()


STAGE: Stage[EvaluateInputs, EvaluationSummary] = Stage(
    name="eval",
    summary="Compare strategies, steered and not, on success against all tokens spent.",
    inputs=EvaluateInputs,
    plan=_plan,
    run=_run,
    report=_report,
    takes={
        "model": Source(("train-adaptthink", "train-length", "train-shorten")),
        "vectors": Source(("extract-vectors",)),
        "router": Source(("fit-router",), needed=_asks_router),
    },
    status=_status,
    resume_note=_resume_note,
)
