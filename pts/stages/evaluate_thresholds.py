"""Thresholds for an evaluation, fitted on problems that it does not ask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pts.decoding.parts import Parts
from pts.decoding.registry import make_strategy
from pts.errors import ConfigError, DataError
from pts.evaluation.thresholds import ThresholdFit, ThresholdPoint, cheapest_of_best
from pts.problems import ProblemSet, problem_digest, question_words
from pts.records import Problem
from pts.search.seeds import derive_seed
from pts.stages.evaluate_inputs import EvaluateRun

if TYPE_CHECKING:
    from pts.decoding import Session
    from pts.graders import Grader

Fits: TypeAlias = Mapping[str, ThresholdFit]
"""By strategy."""
Heard: TypeAlias = Callable[[str, int], None]
"""Hears of each answer: the strategy, and its tokens."""

_FITTED: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "early-exit": ("exit_threshold", (0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)),
    "escalate": ("escalate_threshold", (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)),
}
"""Strategies with a threshold: the part that it is, and those that are tried."""


def to_fit(run: EvaluateRun) -> list[str]:
    """The strategies whose threshold is to be fitted. Raises ConfigError where that is asked for in vain."""
    if run.fit_problems is None:
        return []
    found = [name for name in run.strategies if name in _FITTED and getattr(run, _FITTED[name][0]) is None]
    if not found:
        raise ConfigError(
            f"--fit-problems is for thresholds of {' and '.join(_FITTED)} that are not given, and there is "
            "none: leave it out."
        )
    return found


def answers_to_fit(run: EvaluateRun, fits: Fits) -> int:
    """How many answers the fit of what is not in `fits` takes."""
    return sum(len(_FITTED[name][1]) * (run.fit_problems or 0) for name in to_fit(run) if name not in fits)


def threshold_problems(run: EvaluateRun, asked: ProblemSet) -> list[Problem]:
    """The problems to fit on: the last of the data set, or of `fit_split`, none of which is among `asked`.

    Of the demo they are of the split `calibrate` (`train` where that is evaluated). Raises DataError where
    there are too few.
    """
    from pts.evaluation.benchmarks import benchmark_problems, benchmark_source

    benchmark, count = run.benchmark(), run.fit_problems or 0
    source = run.source()
    if benchmark is not None:
        source = benchmark_source(benchmark, run.data, source)
    split, limit = run.fit_split or source.split, None
    if source.is_demo:
        limit = count
        split = run.fit_split or ("train" if source.split == "calibrate" else "calibrate")
    every = benchmark_problems(benchmark, replace(source, split=split, limit=limit)).problems
    evaluated = {question_words(problem) for problem in asked.problems}
    free = [problem for problem in reversed(every) if question_words(problem) not in evaluated]
    if len(free) < count:
        raise DataError(
            f"{asked.name} has {len(free)} problems that are not evaluated, and {count} are to be fitted on: "
            "lower --fit-problems or --problems, or name another split by --fit-split."
        )
    return free[:count]


def fit_thresholds(
    run: EvaluateRun,
    parts: Parts,
    session: Session,
    problems: Sequence[Problem],
    grader: Grader,
    earlier: Fits,
    heard: Heard,
) -> dict[str, ThresholdFit]:
    """Each threshold to fit: that of `earlier`, or else a new one, by answers of the model as it is.

    Raises ConfigError where the problems are not those of `earlier`.
    """
    fits = {}
    for name in to_fit(run):
        fit = earlier.get(name)
        if fit is None:
            fit = _fit(name, run.seed, parts, session, problems, grader, heard)
        elif fit.digest != _digest(problems):
            raise ConfigError(
                f"the threshold of {name} was fitted on problems that are evaluated now, or that changed: "
                "evaluate as many problems as before, or give another --output."
            )
        fits[name] = fit
    return fits


def with_thresholds(parts: Parts, fits: Fits) -> Parts:
    """The parts with the thresholds that were fitted."""
    chosen: dict[str, Any] = {_FITTED[name][0]: fit.threshold for name, fit in fits.items()}
    return replace(parts, **chosen)


def _fit(
    name: str,
    seed: int,
    parts: Parts,
    session: Session,
    problems: Sequence[Problem],
    grader: Grader,
    heard: Heard,
) -> ThresholdFit:
    """Every threshold that is tried, on the same problems with the same seeds."""
    from pts.decoding import Question

    thresholds = _FITTED[name][1]
    questions = [
        Question(problem.id, problem.query, seed=derive_seed(seed, "fit threshold", problem.id))
        for problem in problems
    ]
    success = np.zeros((len(thresholds), len(problems)))
    tokens = np.zeros_like(success)
    for row, threshold in enumerate(thresholds):
        tried: dict[str, Any] = {_FITTED[name][0]: threshold}
        strategy = make_strategy(name, replace(parts, **tried))
        for index, answer in strategy.answers(session, questions):
            ended = answer.ledger.finish == "end"
            success[row, index] = ended and grader(answer.answer, problems[index].answer)
            tokens[row, index] = answer.ledger.total
            heard(name, answer.ledger.total)
    rows = zip(thresholds, success.mean(axis=1), tokens.mean(axis=1), strict=True)
    points = tuple(ThresholdPoint(threshold, float(won), float(cost)) for threshold, won, cost in rows)
    chosen = thresholds[cheapest_of_best(success, tokens)]
    return ThresholdFit(name, chosen, len(problems), _digest(problems), points)


def _digest(problems: Sequence[Problem]) -> str:
    return hashlib.sha256("".join(map(problem_digest, problems)).encode()).hexdigest()[:16]
