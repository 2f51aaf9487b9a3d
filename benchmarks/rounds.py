"""Times settings against each other in rounds, so that what else the machine does falls on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch
from transformers import LogitsProcessor


@dataclass(frozen=True)
class Took:
    """Seconds on the clock and of the processor."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Ratio:
    """Unsteered seconds over a setting's: median and quartiles over the rounds, and the median by processor."""

    middle: float
    low: float
    high: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.middle:.3f} [{self.low:.3f}, {self.high:.3f}] cpu {self.cpu:.3f}"


class Clock(LogitsProcessor):
    """Hears of every new token's logits and changes nothing; `took` is the time from the first to the last."""

    def __init__(self, model: Any) -> None:
        self._cuda = model.device.type == "cuda"
        self._marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self._marks.append((time.perf_counter(), time.process_time()))

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.mark()
        return scores

    @property
    def took(self) -> Took:
        (wall, cpu), (last_wall, last_cpu) = self._marks[0], self._marks[-1]
        return Took(last_wall - wall, last_cpu - cpu)


def in_turn(tasks: Mapping[str, Callable[[], Took]], seconds: float, least: int) -> dict[str, list[Took]]:
    """What all tasks took, in rounds, for about `seconds` and at least `least` rounds, after one that warms up.

    Each round begins with another task, and every other one goes backwards: none has one neighbour only.
    """
    for task in tasks.values():
        task()
    taken: dict[str, list[Took]] = {name: [] for name in tasks}
    names, started, number = list(tasks), time.perf_counter(), 0
    while number < least or time.perf_counter() - started < seconds:
        first = number % len(names)
        order = names[first:] + names[:first]
        for name in order if number % 2 == 0 else reversed(order):
            taken[name].append(tasks[name]())
        number += 1
    return taken


def ratio(base: Sequence[Took], other: Sequence[Took]) -> Ratio:
    both = list(zip(base, other, strict=True))
    walls = [plain.wall / steered.wall for plain, steered in both]
    low, middle, high = quantiles(walls, n=4, method="inclusive")
    return Ratio(middle, low, high, median(plain.cpu / steered.cpu for plain, steered in both))
