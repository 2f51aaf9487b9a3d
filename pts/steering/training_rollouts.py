"""A run's rollouts as a method is fitted to them: of which problems or pivots, read once by the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pts.records import Sampling, TokenIds
from pts.runs.search_run import SearchResults
from pts.steering.graded_rollouts import ROLLOUT_TOKENS, RolloutSample, journal_sample
from pts.steering.pairs import Pair
from pts.steering.reading_memory import ReadingMemory
from pts.steering.rollout_batches import ReadRollout, read_rollouts, rollout_bytes
from pts.steering.screened_pairs import screened_pairs


@dataclass(frozen=True, slots=True)
class TrainingRollouts:
    """The rollouts of some problems of a run, or those that began at some pivots of it.

    `pivots` are problem ids with prefixes, None for every prefix. `shuffle` permutes the grades within each
    problem by this seed: what is then fitted is the null, the same procedure on outcomes that say nothing.
    """

    run: SearchResults
    sampling: Sampling
    problems: frozenset[str]
    seed: int = 0
    pivots: frozenset[tuple[str, TokenIds]] | None = None
    shuffle: int | None = None
    _read: list[list[ReadRollout]] = field(default_factory=list)
    _screened: list[list[Pair]] = field(default_factory=list)

    @classmethod
    def of_run(
        cls, run: SearchResults, sampling: Sampling, held_out: Iterable[str], seed: int = 0
    ) -> TrainingRollouts:
        """The rollouts of all problems but those held out."""
        problems = {result.problem_id for result in run.results} - set(held_out)
        return cls(run, sampling, frozenset(problems), seed)

    def of(self, pairs: Iterable[Pair], *, pivots: bool = False) -> TrainingRollouts:
        """The rollouts of the pairs' problems; with `pivots` those that began at their prefixes."""
        found = frozenset((pair.problem_id, pair.prefix) for pair in pairs)
        problems = self.problems & {problem for problem, _ in found}
        return replace(self, problems=problems, pivots=found if pivots else self.pivots, _read=[], _screened=[])

    def screened(self, reported: Iterable[Pair]) -> list[Pair]:
        """Pairs at the forks that were screened and not reported, read once; none where `pivots` are set.

        `reported` are the pairs of these problems at tokens that were.
        """
        if self.pivots is not None:
            return []
        if not self._screened:
            known = {(pair.problem_id, pair.prefix) for pair in reported}
            self._screened.append(screened_pairs(self.run, self.problems, known))
        return self._screened[0]

    def sample(self, most_tokens: int = ROLLOUT_TOKENS) -> RolloutSample:
        """Those that are trained on. Raises DataError where they are too few."""
        sample = journal_sample(
            self.run, self.sampling, self.problems, self.seed, most_tokens, pivots=self.pivots
        )
        return sample if self.shuffle is None else sample.shuffled(self.shuffle)

    def read(self, model: Any, memory: ReadingMemory) -> list[ReadRollout]:
        """What the unsteered policy says of them, read once. Raises DataError, ConfigError."""
        if not self._read:
            most = memory.cache_bytes // rollout_bytes(model, self.sampling)
            sample = self.sample(max(1, min(ROLLOUT_TOKENS, most)))
            self._read.append(read_rollouts(model, sample, memory, str(self.run.path)))
        return self._read[0]
