"""Thresholds for an evaluation, fitted on problems that it does not ask."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from pts.errors import ConfigError, DataError
from pts.evaluation.items import Item, Key
from pts.evaluation.thresholds import ThresholdFit, ThresholdPoint, cheapest_of_best
from pts.problems import ProblemSet, problem_digest, question_words
from pts.records import Problem
from pts.setting_names import setting
from pts.stages.evaluate.answers import item_digest
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.jobs import AnswerJob

Fits: TypeAlias = Mapping[str, ThresholdFit]
"""By strategy."""
_FIT = " (fit)"

_FITTED: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "early-exit": ("exit_threshold", (0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)),
    "escalate": ("escalate_threshold", (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)),
}
"""Strategies with a threshold: the option that it is, and those that are tried."""


def to_fit(inputs: EvaluateInputs) -> list[str]:
    """The strategies whose threshold is to be fitted. Raises ConfigError where that is asked for in vain."""
    if inputs.fit_problems is None:
        return []
    found = [
        name for name in inputs.strategies if name in _FITTED and getattr(inputs, _FITTED[name][0]) is None
    ]
    if not found:
        raise ConfigError(
            f"{setting('fit_problems')} fits thresholds of {' and '.join(_FITTED)} that you "
            "did not give, and there is none to fit: leave it out."
        )
    return found


def is_fit(system: str) -> bool:
    """Whether an item's system is one of a fit, and none of the table's."""
    return system.endswith(_FIT)


def answers_to_fit(
    inputs: EvaluateInputs, problems: Sequence[Problem], items: Mapping[Key, Item], fits: Fits
) -> list[tuple[str, Problem]]:
    """What the fit of thresholds that are not in `fits` still has to ask: a system, and a problem."""
    systems = [
        _line(name, threshold) for name in to_fit(inputs) if name not in fits for threshold in _FITTED[name][1]
    ]
    return [
        (system, problem) for system in systems for problem in problems if not _answered(items, system, problem)
    ]


def threshold_problems(inputs: EvaluateInputs, evaluated: ProblemSet) -> list[Problem]:
    """The problems to fit on: the last of the data set, or of `fit_split`, none of which is among `evaluated`.

    Of a registered data set they are of its split to fit on. Raises DataError where there are too few.
    """
    from pts.evaluation.benchmarks import benchmark_problems, benchmark_source

    benchmark, count = inputs.benchmark(), inputs.fit_problems or 0
    source = inputs.source()
    if benchmark is not None:
        source = benchmark_source(benchmark, inputs.data, source)
    split, limit = inputs.fit_split or source.split, None
    if source.registered is not None:
        split = inputs.fit_split or source.registered.fitting_split(source.split)
        limit = count + (len(evaluated.problems) if split == source.split else 0)
    every = benchmark_problems(benchmark, replace(source, split=split, limit=limit)).problems
    known = {question_words(problem) for problem in evaluated.problems}
    free = [problem for problem in reversed(every) if question_words(problem) not in known]
    if len(free) < count:
        raise DataError(
            f"{evaluated.name} has {len(free)} problems besides those evaluated, and "
            f"{setting('fit_problems')} asks for "
            f"{count}: lower {setting('problems')}, or give a new run fewer {setting('fit_problems')} "
            f"or another {setting('fit_split')}."
        )
    return free[:count]


def require_same_problems(inputs: EvaluateInputs, problems: Sequence[Problem], earlier: Fits) -> None:
    """Raise ConfigError where an earlier fit was made on other problems than these."""
    for name in to_fit(inputs):
        if name in earlier and earlier[name].digest != _digest(problems):
            raise ConfigError(
                f"the threshold of {name} was fitted on problems that are evaluated now, or that changed: "
                f"evaluate as many problems as before, or give another {setting('output')}."
            )


def fit_jobs(
    inputs: EvaluateInputs, problems: Sequence[Problem], items: Mapping[Key, Item], fits: Fits
) -> list[AnswerJob]:
    """What the fit of thresholds that are not in `fits` still has to ask, of the model as it is."""
    missing = answers_to_fit(inputs, problems, items, fits)
    jobs = []
    for name in to_fit(inputs):
        option, thresholds = _FITTED[name]
        for threshold in thresholds if name not in fits else ():
            system = _line(name, threshold)
            wanted = tuple((problem, 0) for where, problem in missing if where == system)
            jobs.append(AnswerJob(system, name, wanted, options={option: threshold}))
    return jobs


def chosen_thresholds(
    inputs: EvaluateInputs, problems: Sequence[Problem], items: Mapping[Key, Item], earlier: Fits
) -> dict[str, ThresholdFit]:
    """Each threshold to fit: that of `earlier`, or else a new one, once all that it asks is in `items`."""
    return {name: earlier.get(name) or _chosen(name, problems, items) for name in to_fit(inputs)}


def fitted_options(fits: Fits) -> dict[str, float]:
    """The options of strategies that were fitted, by name."""
    return {_FITTED[name][0]: fit.threshold for name, fit in fits.items()}


def _chosen(name: str, problems: Sequence[Problem], items: Mapping[Key, Item]) -> ThresholdFit:
    """The threshold of the answers that there are to each problem under each threshold."""
    thresholds = _FITTED[name][1]
    found = [[items[_line(name, each), problem.id, 0] for problem in problems] for each in thresholds]
    success = np.array([[item.success for item in row] for row in found], np.float64)
    tokens = np.array([[item.ledger.total for item in row] for row in found], np.float64)
    rows = zip(thresholds, success.mean(axis=1), tokens.mean(axis=1), strict=True)
    points = tuple(ThresholdPoint(threshold, float(won), float(cost)) for threshold, won, cost in rows)
    best = thresholds[cheapest_of_best(success, tokens)]
    return ThresholdFit(name, best, len(problems), _digest(problems), points)


def _line(name: str, threshold: float) -> str:
    return f"{name} at {threshold:g}{_FIT}"


def _answered(items: Mapping[Key, Item], system: str, problem: Problem) -> bool:
    item = items.get((system, problem.id, 0))
    return item is not None and item.digest == item_digest(problem)


def _digest(problems: Sequence[Problem]) -> str:
    return hashlib.sha256("".join(map(problem_digest, problems)).encode()).hexdigest()[:16]
