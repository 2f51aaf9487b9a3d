"""The unchanged model's success when it thinks, by problem: what AdaptThink's advantage compares with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pts.policies.protocol import SteerablePolicy
from pts.records import Problem
from pts.runs.directory import RunDirectory, RunKind
from pts.runs.journal import Journal
from pts.training.samples import Asker, draw

REFERENCES = RunKind(name="references", shard="references.jsonl", derived=())
"""The run of reference means: one line a problem."""
_TOGETHER = 16
"""Problems whose completions are drawn together: what a kill may lose, and what memory must hold."""


@dataclass(frozen=True, slots=True)
class Reference:
    """How often the unchanged model solved a problem in `n` completions that think, and their mean length."""

    problem: str
    digest: str
    successes: int
    n: int
    tokens: float

    @property
    def mean(self) -> float:
        """Its success."""
        return self.successes / self.n


def half_width(samples: int) -> float:
    """Half the width of a 95% interval for a success of one half, by the normal approximation: ±0.25 at 16."""
    return 1.96 * math.sqrt(0.25 / samples)


def reference_journal(directory: RunDirectory) -> Journal[Reference]:
    """The journal of a directory of references."""
    return Journal(directory.shard, Reference)


def draw_references(
    problems: Sequence[Problem],
    digests: Mapping[str, str],
    journal: Journal[Reference],
    policy: SteerablePolicy,
    asker: Asker,
    samples: int,
    seed: int,
    observe: Callable[[int, float], None],
) -> dict[str, Reference]:
    """The references of all problems: those that the journal has, and the missing ones, drawn and written down.

    Each is of `samples` thinking completions with a stream of their own. `observe` hears of the tokens of
    each batch and of the share done.
    """
    known = {reference.problem: reference for reference in journal.read()}
    missing = [problem for problem in problems if problem.id not in known]
    for start in range(0, len(missing), _TOGETHER):
        batch = missing[start : start + _TOGETHER]
        groups = draw(policy, asker, [(problem, ["thinking"] * samples) for problem in batch], seed)
        found = [
            Reference(
                problem.id,
                digests[problem.id],
                sum(sample.success for sample in group),
                samples,
                fmean(sample.tokens for sample in group),
            )
            for problem, group in zip(batch, groups, strict=True)
        ]
        journal.append(*found)
        known |= {reference.problem: reference for reference in found}
        observe(sum(sample.tokens for group in groups for sample in group), (start + len(batch)) / len(missing))
    return {problem.id: known[problem.id] for problem in problems}


def by_level(problems: Iterable[Problem], references: Mapping[str, Reference]) -> dict[str, float]:
    """The mean reference of each level of difficulty, where the problems have one; else of all."""
    levels: dict[str, list[float]] = {}
    for problem in problems:
        levels.setdefault(level_of(problem), []).append(references[problem.id].mean)
    return {level: fmean(means) for level, means in sorted(levels.items())}


def level_of(problem: Problem) -> str:
    """A problem's level of difficulty as its data set names it; "all" where it names none."""
    return str(problem.metadata.get("level", "all"))
