"""The shortest right completions of each problem by the unchanged model: what shortening learns from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Literal

from pts.policies.protocol import SteerablePolicy
from pts.records import Problem, TokenIds
from pts.runs.directory import RunDirectory, RunKind
from pts.runs.journal import Journal
from pts.training.samples import Asker, Mode, Sample, draw

COMPLETIONS = RunKind(name="completions", shard="completions.jsonl", derived=())
"""The run of drawn completions: one line for each problem and mode."""
_TOGETHER = 16
"""Problems whose completions are drawn together: what a kill may lose, and what memory must hold."""
_OFTEN = 0.5
"""The share of right answers from which a problem is learnt without thinking."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Solution:
    """How `n` completions of a problem that began in one mode did, and the shortest right one of them.

    `tokens` is the mean length of all, `right_tokens` that of the right ones. `shortest` and `longest` have the
    token ids as drawn, what was put in at the beginning included. All but `tokens` are None where none is
    right. `dropped` is the number of sentences that `shortest` lacks of what was drawn. Runs of earlier
    versions have no `longest`.
    """

    problem: str
    digest: str
    mode: str
    n: int
    successes: int
    tokens: float
    right_tokens: float | None
    shortest: TokenIds | None
    longest: TokenIds | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """What is learnt: `completion` after `prompt`, in token ids. `thinks` says how it begins."""

    prompt: TokenIds
    completion: TokenIds
    thinks: bool


def solution_journal(directory: RunDirectory) -> Journal[Solution]:
    """The journal of a directory of completions."""
    return Journal(directory.shard, Solution)


def modes_asked(asker: Asker, hybrid: bool) -> list[Mode]:
    """The modes whose completions shortening wants: with thinking, where the model has modes, and without."""
    thinking: Mode = "free" if asker.modes is None else "thinking"
    return [thinking, "no thinking"] if hybrid else [thinking]


def draw_solutions(
    problems: Sequence[Problem],
    digests: Mapping[str, str],
    journal: Journal[Solution],
    policy: SteerablePolicy,
    asker: Asker,
    modes: Sequence[Mode],
    samples: int,
    seed: int,
    observe: Callable[[int, float], None],
) -> list[Solution]:
    """The solutions of all problems in all modes: those that the journal has, and the missing ones, drawn and
    written down.

    Each is of `samples` completions with a stream of their own. `observe` hears of the tokens of each batch
    and of the share done.
    """
    known = {(found.problem, found.mode): found for found in journal.read()}
    asked = [(problem, mode) for mode in modes for problem in problems]
    missing = [(problem, mode) for problem, mode in asked if (problem.id, mode) not in known]
    done = 0
    for _, same in groupby(missing, key=lambda pair: pair[1]):
        listed = list(same)
        for start in range(0, len(listed), _TOGETHER):
            batch = listed[start : start + _TOGETHER]
            groups = draw(policy, asker, [(problem, [mode] * samples) for problem, mode in batch], seed)
            found = [
                solution(problem.id, digests[problem.id], mode, group)
                for (problem, mode), group in zip(batch, groups, strict=True)
            ]
            journal.append(*found)
            known |= {(one.problem, one.mode): one for one in found}
            done += len(batch)
            observe(sum(sample.tokens for group in groups for sample in group), done / len(missing))
    return [known[problem.id, mode] for problem, mode in asked]


def solution(problem: str, digest: str, mode: str, group: Sequence[Sample]) -> Solution:
    """The shortest right completion of a group; of several of one length the first by token ids."""
    right = [sample.completion for sample in group if sample.success]
    return Solution(
        problem,
        digest,
        mode,
        len(group),
        len(right),
        fmean(sample.tokens for sample in group),
        fmean(map(len, right)) if right else None,
        min(right, key=by_length, default=None),
        max(right, key=by_length, default=None),
    )


def by_length(completion: TokenIds) -> tuple[int, TokenIds]:
    """Orders completions by length, and those of one length by token ids."""
    return len(completion), completion


def examples_of(
    solutions: Sequence[Solution],
    prompts: Mapping[str, TokenIds],
    lead: TokenIds,
    length: Literal["shortest", "longest"] = "shortest",
) -> list[Example]:
    """What is learnt from solutions: each problem's shortest right completion, or its longest one.

    One without thinking is learnt only where at least half of the answers without thinking are right, so that
    a lucky guess is not; it is always the shortest. `prompts` are the problems' as users ask them; `lead` is
    what both modes write before they part, which the model learns to write too.
    """
    examples = []
    for one in solutions:
        thinks = one.mode != "no thinking"
        completion = one.longest if thinks and length == "longest" else one.shortest
        if completion is not None and (thinks or one.successes >= _OFTEN * one.n):
            examples.append(Example(prompts[one.problem], lead + completion, thinks))
    return examples
