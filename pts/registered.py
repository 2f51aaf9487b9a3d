"""Models and data sets that a package brings along, by the name that users give.

Whatever opens a model or reads problems asks here first; what is found is used like any other. Graders have the
same in `pts.graders.registered`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pts.records import Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model by its name: where it lies, and the new tokens of a completion where no budget is given."""

    directory: Callable[[], Path]
    budget: int


@dataclass(frozen=True, slots=True)
class RegisteredDataset:
    """A data set that is drawn from a seed, by its name.

    `draw(split, count, seed, levels)` gives the problems; more of the same seed and levels extend the list,
    and the splits share no problem. `levels` None are all. A search draws from `search_split`, a fit from
    `fit_split` and a test from `test_split`. `count` is how many there are where no number is given, `grader`
    the name of the grader of its answers.
    """

    draw: Callable[[str, int, int, tuple[int, ...] | None], list[Problem]]
    search_split: str
    fit_split: str
    test_split: str
    count: int
    grader: str

    def unused_splits(self, searched: str | None) -> tuple[str, str]:
        """A split to choose on and one to test on, neither of them the one that was searched."""
        used = searched or self.search_split
        first, second, *_ = (
            split for split in (self.fit_split, self.test_split, self.search_split) if split != used
        )
        return first, second

    def fitting_split(self, used: str | None) -> str:
        """The split to fit on where `used` is searched or evaluated: its own, or that of searches."""
        return self.search_split if used == self.fit_split else self.fit_split


_MODELS: Mapping[str, str] = {"demo": "pts.demo.registration:MODEL"}
_DATASETS: Mapping[str, str] = {"demo": "pts.demo.registration:DATASET"}
"""Where each is declared; imported when it is looked up."""


def registered_model(name: str) -> RegisteredModel | None:
    """The model of a name; None for a path or a Hub id."""
    return lookup(RegisteredModel, _MODELS, name)


def registered_dataset(name: str) -> RegisteredDataset | None:
    """The data set of a name; None for a file or a Hub id."""
    return lookup(RegisteredDataset, _DATASETS, name)


def lookup(kind: type[T], places: Mapping[str, str], name: str) -> T | None:
    """What is declared under a name, imported now; None where there is no such name.

    `places` say where each is declared, as MODULE:ATTRIBUTE.
    """
    place = places.get(name)
    if place is None:
        return None
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    assert isinstance(found, kind)
    return found
