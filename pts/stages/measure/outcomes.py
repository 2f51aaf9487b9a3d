"""The outcomes of a measurement: with a set's vectors, without them, and with random ones in their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.evaluation.outcomes import Outcomes
from pts.runs.directory import RunDirectory, RunKind, open_run
from pts.runs.manifest import differences, list_problems, text_digest
from pts.runs.settle import settle_manifest
from pts.setting_names import setting

if TYPE_CHECKING:
    from pts.calibration.evaluator import Evaluator
    from pts.calibration.set_controls import SetControls
    from pts.calibration.settings import Setting
    from pts.evaluation.decoder import Decoder
    from pts.records import Problem
    from pts.stages.search.reload import Loaded
    from pts.steering.vector_set import VectorSet

MEASUREMENT = RunKind("measurement", "outcomes.jsonl", ("measured.json",))
BLOCK, FILL = 16, 256
"""Problems, and completions of all vectors, that are at least measured together where they are kept: on the
first problems with every vector, before the next ones begin."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured: `samples` completions of each problem, each with `controls.settings(random)`.

    In a `race` the worse half of the vectors is dropped several times on the way.
    """

    decoder: Decoder
    controls: SetControls
    problems: Sequence[Problem]
    samples: int
    seed: int
    random: int
    race: bool = False


@dataclass(frozen=True, slots=True)
class TaskOutcomes:
    """Outcomes without the vectors and with them on all problems, and those of each random control.

    In a race the controls have those of the problems that they saw, the first ones, and `place` is the vectors'
    own, from 1.
    """

    unsteered: Outcomes
    steered: Outcomes
    random: tuple[Outcomes, ...]
    place: int | None = None


def measured_outcomes(
    task: Task, directory: RunDirectory | None, observe: Callable[[int, float], None]
) -> TaskOutcomes:
    """Outcomes of all that is measured, on the same problems with the same random numbers.

    What stands in the directory's journal is not measured again. `observe` hears of tokens as they are
    generated, and of the share that is done.
    """
    from pts.calibration.evaluator import Evaluator
    from pts.calibration.set_controls import KEPT, race_among

    settings = task.controls.settings(task.random)
    unsteered, kept, *random = settings
    count = len(task.problems)
    evaluator = Evaluator(
        task.decoder,
        task.controls,
        task.problems,
        task.samples,
        task.seed,
        None if directory is None else directory.shard,
        lambda tokens, done: observe(tokens, done / _completions(task)),
    )

    def evaluate(settings: Sequence[Setting], first: int, end: int) -> dict[Setting, Outcomes]:
        ranges = [(first, end)] if directory is None else _ranges(evaluator, settings, first, end)
        parts = [evaluator(settings, *each) for each in ranges]
        return {each: reduce(Outcomes.joined, (part[each] for part in parts)) for each in settings}

    if not task.race:
        found = evaluate(settings, 0, count)
        return TaskOutcomes(found[unsteered], found[kept], tuple(found[each] for each in random))
    order, seen = race_among([kept, *random], evaluate, count)
    place = 1 + [setting.method for setting in order].index(KEPT)
    missing = len(seen[kept].successes)
    rest = {kept: seen[kept]}
    if missing < count:
        rest[kept] = seen[kept].joined(evaluate([kept], missing, count)[kept])
    rest |= evaluate([unsteered], 0, count)
    return TaskOutcomes(rest[unsteered], rest[kept], tuple(seen[each] for each in random), place)


def _ranges(evaluator: Evaluator, settings: Sequence[Setting], first: int, end: int) -> list[tuple[int, int]]:
    """Ranges of problems, to be measured one after another: those measured before, and new ones between."""
    known: dict[int, int] = {}
    for start, stop in evaluator.ranges(settings):
        if stop <= end:
            known[start] = max(stop, known.get(start, stop))
    needed = FILL / (len(settings) * evaluator.samples)
    size = BLOCK * max(1, math.ceil(needed / BLOCK))
    ranges, start = [], first
    while start < end:
        later = [each for each in known if each > start]
        stop = known.get(start, min(end, start + size, *later))
        ranges.append((start, stop))
        start = stop
    return ranges


def _completions(task: Task) -> int:
    """Completions of the whole, at most."""
    from pts.calibration.set_controls import SHARES

    vectors, total, first = 1 + task.random, 0.0, 0.0
    for share in SHARES if task.race else (1.0,):
        total += vectors * (share - first)
        first, vectors = share, max(1, math.ceil(vectors / 2))
    # The model as it is, and the set's vectors where they were dropped.
    total += 2 if task.race else 1
    return math.ceil(total * len(task.problems)) * task.samples


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
    from pts.models.prompt import encode_prompt
    from pts.problems import problem_digest

    prompt = encode_prompt(search.loaded.tokenizer, task.problems[0].query, search.prompt_format)
    settings = {
        "vectors": "+".join(intervention_digest(each) for each in task.controls.kept),
        "sampling": asdict(search.sampling),
        "samples": task.samples,
        "seed": task.seed,
        # Of the first problem: the settings above do not say what the model's template makes of it.
        "prompt": text_digest(map(str, prompt))[:16],
    }
    with open_run(output, MEASUREMENT) as directory:
        earlier = directory.manifest
        if earlier is not None:
            # A version before kept no prompt.
            changed = differences({"prompt": settings["prompt"], **earlier.settings}, settings)
            drawn = [problem_digest(problem) for problem in read(earlier.problems.count)]
            if list_problems(drawn) != earlier.problems:
                # Another first problem has another prompt.
                changed = [each for each in changed if not each.startswith("prompt ")]
                changed.append("other problems")
            if changed:
                raise RunError(
                    f"{output} was begun with other settings ({_short(changed)}): give what it was begun with, "
                    f"or another {setting('output')}."
                )
        settle_manifest(
            directory,
            settings=settings,
            # Of the model that is loaded: another of the same shape may stand in for the set's.
            resolved={
                "model_id": vectors.model.id,
                "model_revision": search.loaded.revision,
                "dtype": str(search.loaded.dtype).removeprefix("torch."),
            },
            environment={"device": str(search.loaded.device)},
            problems=[problem_digest(problem) for problem in task.problems],
        )
        yield directory


def _short(changed: Sequence[str]) -> str:
    """What changed; that the vectors or the prompt did, without their digests."""
    named = {"vectors ": "other vectors", "prompt ": "another prompt"}
    return "; ".join(
        next((name for start, name in named.items() if each.startswith(start)), each) for each in changed
    )
