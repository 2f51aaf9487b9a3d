"""The outcomes of a measurement: with a set's vectors, without them, and with random ones in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.runs.directory import RunDirectory, RunKind, open_run
from pts.runs.manifest import differences, list_problems
from pts.runs.settle import settle_manifest
from pts.setting_names import setting

if TYPE_CHECKING:
    from pts.calibration.set_controls import SetControls
    from pts.evaluation.decoder import Decoder
    from pts.evaluation.outcomes import Outcomes
    from pts.records import Problem
    from pts.stages.search.reload import Loaded
    from pts.steering.vector_set import VectorSet

MEASUREMENT = RunKind("measurement", "outcomes.jsonl", ("measured.json",))
BLOCK = 16
"""Problems that are measured together where they are kept: with every vector, before the next ones begin."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured: `samples` completions of each problem, each with `controls.settings(random)`."""

    decoder: Decoder
    controls: SetControls
    problems: Sequence[Problem]
    samples: int
    seed: int
    random: int


def measured_outcomes(
    task: Task, directory: RunDirectory | None, observe: Callable[[int, float], None]
) -> list[Outcomes]:
    """Outcomes without the vectors, with them, and with each random control, on the same problems.

    What stands in the directory's journal is not measured again. `observe` hears of tokens as they are
    generated, and of the share that is done.
    """
    from pts.calibration.evaluator import Evaluator
    from pts.calibration.set_controls import blocks

    settings = task.controls.settings(task.random)
    whole = len(settings) * len(task.problems) * task.samples
    evaluate = Evaluator(
        task.decoder,
        task.controls,
        task.problems,
        task.samples,
        task.seed,
        None if directory is None else directory.shard,
        lambda tokens, done: observe(tokens, done / whole),
    )
    size = len(task.problems) if directory is None else BLOCK
    parts = [evaluate(settings, first, end) for first, end in blocks(len(task.problems), size)]
    return [reduce(lambda some, more: some.joined(more), (part[each] for part in parts)) for each in settings]


@contextmanager
def kept_measurement(
    output: Path,
    vectors: VectorSet,
    search: Loaded,
    task: Task,
    read: Callable[[int], Sequence[Problem]],
) -> Iterator[RunDirectory]:
    """The directory of a measurement, held, its manifest written; `read` gives the first so many problems.

    Raises RunError for a directory whose outcomes are of other vectors, completions or problems: what is there
    is kept.
    """
    from pts.calibration.evaluator import intervention_digest
    from pts.problems import problem_digest

    settings = {
        "vectors": "+".join(intervention_digest(each) for each in task.controls.kept),
        "sampling": asdict(search.sampling),
        "samples": task.samples,
        "seed": task.seed,
    }
    with open_run(output, MEASUREMENT) as directory:
        earlier = directory.manifest
        if earlier is not None:
            changed = differences(earlier.settings, settings)
            drawn = [problem_digest(problem) for problem in read(earlier.problems.count)]
            if list_problems(drawn) != earlier.problems:
                changed.append("other problems")
            if changed:
                raise RunError(
                    f"{output} was begun with other settings ({_short(changed)}): give what it was begun with, "
                    f"or another {setting('output')}."
                )
        settle_manifest(
            directory,
            settings=settings,
            resolved={"model_id": vectors.model.id, "model_revision": vectors.model.revision},
            environment={"device": str(search.loaded.device)},
            problems=[problem_digest(problem) for problem in task.problems],
        )
        yield directory


def _short(changed: Sequence[str]) -> str:
    """What changed; that the vectors did, without their digests."""
    return "; ".join("other vectors" if each.startswith("vectors ") else each for each in changed)
