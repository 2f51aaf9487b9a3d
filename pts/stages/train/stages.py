"""What the stages of training share: status, plan, run and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pts.errors import RunError
from pts.setting_names import setting
from pts.stages.stage import Context, Observer, Plan, Report, Status
from pts.stages.train.inputs import TrainingInputs
from pts.stages.train.reinforcement_inputs import AdaptThinkInputs, ReinforcementInputs
from pts.stages.train.shorten_inputs import ShortenInputs

if TYPE_CHECKING:
    from pts.training.run_files import ReinforcementSummary, ShortenSummary, TrainingSummary


def training_status(inputs: TrainingInputs) -> Status:
    """How the run directory compares with the inputs. Raises PtsError."""
    from pts.runs.manifest import differences, read_manifest

    path = inputs.directory()
    manifest = read_manifest(path)
    if manifest is None:
        return Status("new")
    changes = tuple(differences(manifest.settings, inputs.effective().bounded().settings()))
    if changes:
        return Status("changed", "a training run", changes)
    complete = (path / "summary.json").exists()
    return Status("complete" if complete else "begun", "a training run")


def training_plan(inputs: TrainingInputs, context: Context) -> Plan:  # noqa: ARG001
    """What a training will do. Raises RunError for a paid one with other settings: nothing replaces it."""
    from pts.runs.directory import open_run
    from pts.training.requirements import require_packages
    from pts.training.run_files import TRAINING

    require_packages()
    name, path = f"train-{inputs.method}", inputs.directory()
    with open_run(path, TRAINING):
        status = training_status(inputs)
    if status.state == "new":
        return Plan(f"{name}: writes {path}.")
    if inputs.fresh:
        return Plan(f"{name}: deletes {path} and starts again.", deletes=True)
    if status.state == "changed":
        raise RunError(
            f"{path} holds a training with other settings ({'; '.join(status.changes)}). "
            f"Give another {setting('output')} to keep it, or {setting('fresh', True)} to delete it and train "
            "again."
        )
    if status.state == "complete":
        return Plan(f"{name}: the model in {path} is complete: nothing to do.", idle=True)
    return Plan(f"{name}: continues {path} from its newest checkpoint.")


def run_stage(inputs: TrainingInputs, observe: Observer | None) -> Any:
    """Train, or what is left of it; the summary is of the kind that the inputs are of."""
    from pts.stages.train.run import run_training

    return run_training(inputs, observe)


def reinforcement_report(inputs: ReinforcementInputs, summary: ReinforcementSummary) -> Report:
    """What reinforcement learning came to, in a few lines."""
    from pts.training.references import half_width

    levels = ", ".join(f"level {level} {share:.2f}" for level, share in summary.levels.items())
    lines = [
        f"last steps, on the problems trained on: success {summary.success:.3f}, {summary.tokens:.1f} tokens, "
        f"share of no thinking {summary.no_thinking:.2f}" + (f" ({levels})" if len(summary.levels) > 1 else ""),
    ]
    if summary.references and isinstance(inputs, AdaptThinkInputs):
        means = ", ".join(f"{level} {mean:.2f}" for level, mean in summary.references.items())
        samples = inputs.effective().reference_samples
        lines.append(
            f"the unchanged model's thinking, by level: {means}; a problem's mean of {samples} completions is "
            f"known to ±{half_width(samples):.2f}"
        )
    if summary.stopped is not None:
        lines.append(f"stopped early: {summary.stopped}")
    return _report(inputs, summary, lines)


def shorten_report(inputs: ShortenInputs, summary: ShortenSummary) -> Report:
    """What shortening learnt, in a few lines."""
    lines = [
        f"learnt: the shortest right completion of {summary.thinking} of {summary.problems} problems, "
        f"{summary.thinking_tokens:.1f} tokens on average (all right ones of these: "
        f"{summary.right_tokens:.1f})"
        + (f", and {summary.no_thinking} answers without thinking" if inputs.hybrid else ""),
        f"success of the unchanged model: {summary.success:.3f}; {summary.unsolved} of {summary.problems} "
        "problems had no right completion and are not learnt",
        f"loss of the last steps: {summary.loss:.3f} nats a token",
    ]
    if summary.dropped is not None:
        lines.insert(
            1,
            f"{summary.shortened} of them lack {summary.dropped} sentences of those in {inputs.from_search}, "
            f"which change the chance of success by less than {inputs.minimum_effect()}",
        )
    return _report(inputs, summary, lines)


def _report(inputs: TrainingInputs, summary: TrainingSummary, lines: list[str]) -> Report:
    """The lines between the first one and the last, which every training has."""
    from pts.runs.codec import to_json

    path = inputs.directory()
    text = [
        f"{summary.method} of {summary.model_id} on {summary.dataset_id}: {summary.steps} steps in "
        f"{summary.seconds:.0f} s",
        *lines,
        f"model: {path} (give it as --model; curves.png shows the training)",
    ]

    def data() -> dict[str, object]:
        values = to_json(summary)
        assert isinstance(values, dict)
        return {"run": str(path), **values}

    return Report("\n".join(text), data=data)


def training_note(inputs: TrainingInputs) -> str:
    """What a stopped training leaves."""
    from pts.stages.train.session import resume_note

    return resume_note(inputs)
