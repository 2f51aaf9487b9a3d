"""A run's graded rollouts as training data: where each began, what was drawn freely, and its advantage.

A *start* is a prefix of a completion from which rollouts were drawn. At a fork there are two sides: rollouts
that take the trace's token, and rollouts that were drawn without it. Together these are a stratified sample of
the policy at that prefix: the first stand for the share q that the policy gives to the token, the others for
1 − q.

The search draws no rollout with a token forced (earlier versions did). The confirmation of a token draws the
place at which the trace is left after it, with the policy's own probabilities, and begins its rollouts there;
a place past the end is the trace itself, with its grade. So these are fair draws of what follows the token, and
they are its taken side here, as rollouts of that one token: what they wrote after it is trained on where they
began. A fork that was only screened has the avoided side alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import numpy as np

from pts.errors import DataError
from pts.pivot_search.confirm import taken_position
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

_READ = ("problem", "key", "prefix", "forced", "avoided", "completion", "count", "success")


@dataclass(frozen=True, slots=True)
class Start:
    """A prefix of a completion from which rollouts were drawn; `token` is what was forced or avoided there."""

    problem_id: str
    prompt: TokenIds
    prefix: TokenIds
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """`count` rollouts from the start at place `start`: the tokens after the prefix, and their grade.

    With `first_only`, `new` is their first token alone: the others are trained on where they were drawn.
    """

    start: int
    arm: Arm
    new: TokenIds
    count: int
    success: bool
    first_only: bool = False


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


@dataclass(frozen=True, slots=True)
class Advantage:
    """What a rollout's first new token and its later ones are worth, in success, and how much it counts."""

    first: float
    later: float
    weight: float


def advantages(sample: RolloutSample, probs: Sequence[float | None]) -> list[Advantage]:
    """Each rollout's advantages and weight, in the order of the sample. `probs` are the policy's of the starts'
    tokens (None for a start that has none).

    The policy at a fork draws the trace's token with probability q, and each other token z with p(z). Its
    gradient of success there is the mean, over what it draws, of ∇log p(token)·(R − b), for the grade R and any
    b that does not depend on the draw. With the value before the token, b = q·V + (1 − q)·O:

    - the taken side (mean grade V) stands for the share q: each of its n rollouts gets weight q·N/n, where N
      counts both sides; its token gains V − b = (1 − q)·(V − O), the token's effect;
    - a rollout without the token drew z with p(z)/(1 − q), so its weight (1 − q)·N/m, for m of them, makes that
      p(z) again. Its ∇log p(z) is of the whole policy: the trace's token counts among those it could have had.

    The later tokens of a rollout are measured by the value of its own side, V or O, since its first token is
    no longer open. Where one side is missing, or q is unknown, both are measured so, every rollout has weight
    1, and the first token was drawn from what is left without the avoided one (`is_joint`). All values leave
    out the rollout that they measure. The weights of a start add up to its number of rollouts.
    """
    totals = _totals(sample)
    found = []
    for rollout in sample.rollouts:
        arms, q = totals[rollout.start], probs[rollout.start]
        successes, n = arms[rollout.arm]
        grade = float(rollout.success)
        own = (successes - rollout.success) / (n - 1) if n > 1 else grade
        before, weight = own, float(rollout.count)
        if q is not None and is_joint(arms, q):
            share = q if rollout.arm == "forced" else 1 - q
            other = arms["avoided" if rollout.arm == "forced" else "forced"]
            before = share * own + (1 - share) * other[0] / other[1]
            weight = rollout.count * share * (n + other[1]) / n
        found.append(Advantage(grade - before, grade - own, weight))
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
    drawn: dict[bytes, int] = defaultdict(int)
    for start, rollout in _rows(run, prompts, pivots):
        key = _place(seed, start)
        counted = arms.setdefault(key, {}).setdefault(rollout.arm, [0, 0])
        counted[0] += rollout.count * rollout.success
        counted[1] += rollout.count
        tokens[key] += _length(start, rollout.new)
        problems[key] = start.problem_id
        # Rollouts that take a confirmed token count where they were drawn.
        drawn[key] += 0 if rollout.first_only else rollout.count
    mixed = [key for key, counts in arms.items() if _is_mixed(counts)]
    seen, count = sum(drawn.values()), sum(drawn[key] for key in mixed)
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
    """The rollouts of the given problems with where they began, oldest first; each taken side beside them."""
    for start, rollout in _all_rows(run, prompts):
        if pivots is None or (start.problem_id, start.prefix) in pivots:
            yield start, rollout


def _all_rows(run: SearchResults, prompts: Mapping[str, TokenIds]) -> Iterator[tuple[Start, Graded]]:
    stayed, avoided = _taken_sides(run, prompts), set()
    for table in read_parts(run.path / ROLLOUTS, _READ):
        for row in table.to_pylist():
            if row["problem"] not in prompts:
                continue
            start, rollout = own = _own(row, prompts[row["problem"]])
            yield own
            taken = _taken(row["key"], start, rollout)
            if taken is not None and rollout.arm != "forced":
                yield taken
            if taken is not None and taken[0] in stayed:
                stayed[taken[0]][0] -= rollout.count
            if rollout.arm == "avoided" and start in stayed:
                avoided.add(start)
    for start, (count, success) in stayed.items():
        if start in avoided and start.token is not None and count > 0:
            yield start, Graded(0, "forced", (start.token,), count, bool(success), first_only=True)


def _own(row: Mapping[str, Any], prompt: TokenIds) -> tuple[Start, Graded]:
    """A journal's row as a rollout from the prefix that it was drawn from."""
    forced, avoided = row["forced"], row["avoided"]
    arm: Arm = "forced" if forced is not None else "avoided" if avoided is not None else "free"
    start = Start(row["problem"], prompt, tuple(row["prefix"]), forced if forced is not None else avoided)
    return start, Graded(0, arm, tuple(row["completion"]), row["count"], row["success"])


def _taken(key: str, start: Start, rollout: Graded) -> tuple[Start, Graded] | None:
    """A rollout as one that takes a confirmed token; None where it says nothing of one."""
    if rollout.arm == "forced":
        return start, rollout
    position = taken_position(key)
    if position is None or position >= len(start.prefix):
        return None
    token = start.prefix[position]
    fork = replace(start, prefix=start.prefix[:position], token=token)
    return fork, replace(rollout, arm="forced", new=(token,), first_only=True)


def _taken_sides(run: SearchResults, prompts: Mapping[str, TokenIds]) -> dict[Start, list[int]]:
    """By token that entered the confirmation: its taken side's number of rollouts, and the grade of the trace.

    Of these the journal lacks those that were drawn to stay on the trace up to its end: they are the trace.
    """
    found: dict[Start, list[int]] = {}
    for result in run.results:
        if result.problem_id in prompts:
            for each in result.candidates:
                trace = result.traces[each.trace]
                if each.unit == "token":
                    prefix = trace.completion[: each.position]
                    start = Start(result.problem_id, result.prompt, prefix, each.token_id)
                    found.setdefault(start, [each.value_n, int(trace.success)])
    return found


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
