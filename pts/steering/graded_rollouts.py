"""A run's graded rollouts as training data: where each began, what was drawn freely, and its advantage.

A *start* is a prefix of a completion from which rollouts were drawn. Searches of earlier versions drew at a
fork with the trace's token forced and with it avoided. Together these are a stratified sample of the policy at
that prefix: the forced rollouts stand for the share q that the policy gives to the token, the others for 1 − q.
A search of this version draws where rollouts leave the trace, so its starts have the avoided side alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, TypeAlias

import numpy as np

from pts.errors import DataError
from pts.records import Sampling, TokenIds
from pts.runs.rollout_parts import read_parts
from pts.runs.search_run import ROLLOUTS, SearchResults
from pts.setting_names import setting

Arm: TypeAlias = Literal["free", "forced", "avoided"]
"""How the first token of a rollout came: drawn, given, or drawn without one token."""

LEAST_ROLLOUTS, LEAST_PROBLEMS = 200, 8
"""Rollouts at starts with both outcomes, and problems that they are of, below which nothing is fitted."""
ROLLOUT_TOKENS = 1 << 18
"""Tokens to read, prompts included, of the rollouts that a vector is fitted to at most."""

_Pivots: TypeAlias = Collection[tuple[str, TokenIds]] | None

_READ = ("problem", "prefix", "forced", "avoided", "completion", "count", "success")


@dataclass(frozen=True, slots=True)
class Start:
    """A prefix of a completion from which rollouts were drawn; `token` is what was forced or avoided there."""

    problem_id: str
    prompt: TokenIds
    prefix: TokenIds
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """`count` equal rollouts from the start at place `start`: the tokens after the prefix, and their grade."""

    start: int
    arm: Arm
    new: TokenIds
    count: int
    success: bool


@dataclass(frozen=True, slots=True)
class RolloutSample:
    """Graded rollouts to fit a vector to, whole starts of them, drawn by `sampling`."""

    starts: tuple[Start, ...]
    rollouts: tuple[Graded, ...]
    sampling: Sampling

    @property
    def tokens(self) -> int:
        """Tokens to read, prompts and prefixes included."""
        return sum(_length(self.starts[each.start], each.new) for each in self.rollouts)

    def shuffled(self, seed: int) -> RolloutSample:
        """The same rollouts with the grades permuted within each problem: what a fit makes of no information.

        Grades are permuted among single rollouts, so the number of successes of each problem stays.
        """
        singles: dict[str, list[Graded]] = defaultdict(list)
        for rollout in self.rollouts:
            single = replace(rollout, count=1)
            singles[self.starts[rollout.start].problem_id] += [single] * rollout.count
        generator = np.random.default_rng(seed)
        permuted: dict[Graded, int] = defaultdict(int)
        for rows in singles.values():
            grades = generator.permutation([row.success for row in rows])
            for row, success in zip(rows, grades, strict=True):
                permuted[replace(row, success=bool(success))] += 1
        made = tuple(replace(row, count=count) for row, count in permuted.items())
        return RolloutSample(self.starts, made, self.sampling)


def advantages(sample: RolloutSample, probs: Sequence[float | None]) -> list[tuple[float, float]]:
    """Each rollout's advantage and weight, in the order of the sample.

    The advantage is the grade less the value of the very prefix that the rollout began at, estimated without
    the rollout itself. `probs` holds the policy's probability of each start's token (None where it has none).
    Where both sides of a fork were drawn, their values make that of the prefix, V = q·V₊ + (1 − q)·O, and the
    weights give each side the share that the policy does. One side alone has its own value, which does not
    count its first token as drawn freely (`is_joint`). Weights of a start add up to its number of rollouts.
    """
    totals = _totals(sample)
    found = []
    for rollout in sample.rollouts:
        arms, q = totals[rollout.start], probs[rollout.start]
        successes, n = arms[rollout.arm]
        without = (successes - rollout.success) / (n - 1) if n > 1 else float(rollout.success)
        if q is not None and is_joint(arms, q):
            share = q if rollout.arm == "forced" else 1 - q
            other = arms["avoided" if rollout.arm == "forced" else "forced"]
            value = share * without + (1 - share) * other[0] / other[1]
            weight = rollout.count * share * (arms["forced"][1] + arms["avoided"][1]) / n
        else:
            value, weight = without, float(rollout.count)
        found.append((float(rollout.success) - value, weight))
    return found


def is_joint(arms: Mapping[Arm, Sequence[int]], q: float | None) -> bool:
    """Whether a start's two sides are together a sample of the policy: (successes, draws) of each, and q."""
    both = all(arm in arms and arms[arm][1] > 1 for arm in ("forced", "avoided"))
    return both and q is not None and 0 < q < 1


def arms_of(sample: RolloutSample) -> list[Mapping[Arm, Sequence[int]]]:
    """Successes and draws of each start, by arm."""
    return list(_totals(sample))


def journal_sample(
    run: SearchResults,
    sampling: Sampling,
    problems: Collection[str],
    seed: int = 0,
    most_tokens: int = ROLLOUT_TOKENS,
    *,
    pivots: Collection[tuple[str, TokenIds]] | None = None,
) -> RolloutSample:
    """The rollouts of a run's journal to fit a vector to: of these problems, or at these prefixes of theirs.

    Only starts that saw both outcomes say anything; of those, whole starts are drawn at random until they have
    `most_tokens` tokens to read. The journal is read twice, part by part: what is held at once is one number
    set a start, and the sample. Raises DataError where the journal has too few rollouts, or all of one outcome.
    """
    prompts = {result.problem_id: result.prompt for result in run.results if result.problem_id in problems}
    chosen = _chosen_starts(run, prompts, seed, most_tokens, pivots)
    starts: dict[Start, int] = {}
    rollouts: dict[Graded, int] = defaultdict(int)
    for start, rollout in _rows(run, prompts, pivots):
        if _place(seed, start) in chosen:
            place = starts.setdefault(start, len(starts))
            rollouts[replace(rollout, start=place, count=1)] += rollout.count
    made = tuple(replace(rollout, count=count) for rollout, count in rollouts.items())
    return RolloutSample(tuple(starts), made, sampling)


def _chosen_starts(
    run: SearchResults, prompts: Mapping[str, TokenIds], seed: int, most_tokens: int, pivots: _Pivots
) -> set[bytes]:
    """The places of the starts that are taken. Raises DataError where there are too few."""
    arms: dict[bytes, dict[Arm, list[int]]] = {}
    tokens: dict[bytes, int] = defaultdict(int)
    problems: dict[bytes, str] = {}
    seen = 0
    for start, rollout in _rows(run, prompts, pivots):
        key = _place(seed, start)
        counted = arms.setdefault(key, {}).setdefault(rollout.arm, [0, 0])
        counted[0] += rollout.count * rollout.success
        counted[1] += rollout.count
        tokens[key] += _length(start, rollout.new)
        problems[key] = start.problem_id
        seen += rollout.count
    mixed = [key for key, counts in arms.items() if _is_mixed(counts)]
    count = sum(n for key in mixed for _, n in arms[key].values())
    if seen >= LEAST_ROLLOUTS and not mixed:
        raise DataError(
            f"{run.path}: every prefix has one value, as no start of its {seen} rollouts saw both outcomes: "
            "search problems that the model solves sometimes."
        )
    if count < LEAST_ROLLOUTS or len({problems[key] for key in mixed}) < LEAST_PROBLEMS:
        raise DataError(_too_few(str(run.path), count, len({problems[key] for key in mixed})))
    sizes = [(key, tokens[key]) for key in mixed]
    return {mixed[place] for place in _fitting(sizes, most_tokens)}


def _too_few(where: str, count: int, problems: int) -> str:
    return (
        f"{where} has {count} graded rollouts of {problems} problems at prefixes that saw both outcomes; "
        f"the method outcome needs at least {LEAST_ROLLOUTS} of {LEAST_PROBLEMS}: search more problems "
        f"({setting('problems')})."
    )


def _fitting(sizes: Sequence[tuple[bytes, int]], most: int) -> list[int]:
    """Places of the starts that are taken, in the order of their keys, until they have `most` tokens."""
    taken: list[int] = []
    total = 0
    for place in sorted(range(len(sizes)), key=lambda place: sizes[place][0]):
        if taken and total + sizes[place][1] > most:
            break
        taken.append(place)
        total += sizes[place][1]
    return taken


def _rows(
    run: SearchResults, prompts: Mapping[str, TokenIds], pivots: _Pivots
) -> Iterator[tuple[Start, Graded]]:
    """The journal's rollouts of the given problems, oldest first, with where they began."""
    for table in read_parts(run.path / ROLLOUTS, _READ):
        for row in table.to_pylist():
            prefix = tuple(row["prefix"])
            if row["problem"] not in prompts or (pivots is not None and (row["problem"], prefix) not in pivots):
                continue
            forced, avoided = row["forced"], row["avoided"]
            arm: Arm = "forced" if forced is not None else "avoided" if avoided is not None else "free"
            token = forced if forced is not None else avoided
            start = Start(row["problem"], prompts[row["problem"]], prefix, token)
            yield start, Graded(0, arm, tuple(row["completion"]), row["count"], row["success"])


def _place(seed: int, start: Start) -> bytes:
    """A start's place in a random order that is the same whatever the order of the journal."""
    digest = blake2b(repr((seed, start.problem_id, start.token)).encode(), digest_size=12)
    digest.update(np.asarray(start.prefix, dtype="<i8").tobytes())
    return digest.digest()


def _length(start: Start, new: TokenIds) -> int:
    return len(start.prompt) + len(start.prefix) + len(new)


def _totals(sample: RolloutSample) -> list[dict[Arm, list[int]]]:
    totals: list[dict[Arm, list[int]]] = [{} for _ in sample.starts]
    for rollout in sample.rollouts:
        counted = totals[rollout.start].setdefault(rollout.arm, [0, 0])
        counted[0] += rollout.count * rollout.success
        counted[1] += rollout.count
    return totals


def _is_mixed(arms: Mapping[Arm, Sequence[int]]) -> bool:
    """Whether a start saw both outcomes, so that some rollout did better than its prefix."""
    successes, draws = (sum(counts[place] for counts in arms.values()) for place in (0, 1))
    return 0 < successes < draws
