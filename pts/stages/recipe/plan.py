"""What running a recipe will do: settled for every stage before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pts.errors import RunError
from pts.runs.codec import known_keys
from pts.stages.recipe.names import named_in_recipe
from pts.stages.recipe.read import stage_keys
from pts.stages.stage import Context, Plan, Step


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step as it is to be run, and what that will do."""

    step: Step
    plan: Plan


def plan_stages(before: Sequence[Step], chosen: Sequence[Step], fresh: bool) -> list[PlannedStep]:
    """What running `chosen` does, the steps `before` it being left alone; nothing is done or deleted yet.

    A complete stage is left as it is and one that was cut goes on. What a stage that `remakes` holds of other
    settings is made again; a search or an evaluation is paid for, and is replaced only where `fresh` says so,
    as everything chosen is then. Raises RunError for such a one, for a stage of `before` that is not complete,
    and for a directory that cannot be written; ConfigError for what contradicts itself.
    """
    keys = stage_keys([*before, *chosen])
    for step in before:
        with named_in_recipe(step.name, keys):
            _require_complete(step)
    planned: list[PlannedStep] = []
    for step in chosen:
        earlier = [*before, *(done.step for done in planned)]
        active = frozenset(done.step.name for done in planned if not done.plan.idle)
        step = _anew(step) if fresh else step
        with named_in_recipe(step.name, keys):
            planned.append(PlannedStep(step, step.stage.plan(step.inputs, Context(earlier, active))))
    return planned


def renewed(step: Step) -> Step:
    """The step, to start again where its stage remakes what other settings made, and there is such.

    To be called when the steps before it are done: what they made decides. Raises PtsError.
    """
    status = step.status if step.stage.remakes else None
    return _anew(step) if status is not None and status.state == "changed" else step


def _anew(step: Step) -> Step:
    """The step, to delete what is there; as it is for a stage that always starts again."""
    if "fresh" not in known_keys(step.stage.inputs):
        return step
    return replace(step, inputs=replace(step.inputs, fresh=True))


def _require_complete(step: Step) -> None:
    """Raise RunError unless a step that is left out has done all that the later ones need of it."""
    directory = step.directory
    status = None if directory is None else step.status
    if status is None or status.state == "complete":
        return
    what = {
        "new": f"{directory} does not exist",
        "begun": f"{directory} has {status.content}",
        "changed": f"{directory} was made with other settings ({'; '.join(status.changes)})",
    }[status.state]
    through = f" up to {step.parts[-1]}" if step.stage.parts else ""
    raise RunError(
        f"--from skips {step.name}{through}, which is not complete: {what}. Leave --from out, or begin with an "
        "earlier stage."
    )
