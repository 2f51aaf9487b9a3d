"""Next-token distributions along a completion that are too large to keep: made as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import torch

from pts.records import Sampling, TokenDistribution

KEPT_BYTES = 16 << 20
"""Bytes of distributions kept for one completion; others are made again from the completion's prefill."""


class DistributionsAlong(Sequence[TokenDistribution]):
    """The distributions at `length` positions, read from a position on by `read`.

    Going through them reads the completion once; one alone is kept from then, or read by itself.
    """

    def __init__(self, length: int, read: Callable[[int, int], Iterator[TokenDistribution]]) -> None:
        self._length = length
        self._read = read
        self._kept: dict[int, TokenDistribution] = {}
        self._left = KEPT_BYTES

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[TokenDistribution]:
        if len(self._kept) == self._length:
            yield from (self._kept[index] for index in range(self._length))
            return
        for index, distribution in enumerate(self._read(0, self._length)):
            self._keep(index, distribution)
            yield distribution

    @overload
    def __getitem__(self, index: int) -> TokenDistribution: ...

    @overload
    def __getitem__(self, index: slice) -> list[TokenDistribution]: ...

    def __getitem__(self, index: int | slice) -> TokenDistribution | list[TokenDistribution]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._length))]
        place = range(self._length)[index]
        if place not in self._kept:
            (found,) = self._read(place, place + 1)
            self._keep(place, found)
            return found
        return self._kept[place]

    def _keep(self, index: int, distribution: TokenDistribution) -> None:
        size = distribution.nbytes
        if index not in self._kept and size <= self._left:
            self._kept[index] = distribution
            self._left -= size


class WholeVocabulary(TokenDistribution):
    """A distribution that truncates nothing, held by id: sorted only where the order is asked for."""

    __slots__ = ("_by_id",)
    _by_id: npt.NDArray[np.float64]

    def __init__(self, by_id: npt.NDArray[np.float64]) -> None:
        object.__setattr__(self, "_by_id", by_id)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Every id with a probability, most likely first; of equal ones the lower id."""
        order = np.argsort(-self._by_id, kind="stable")
        return order[: int(np.count_nonzero(self._by_id))]

    @property
    def probs(self) -> npt.NDArray[np.float64]:
        """Their probabilities."""
        found: npt.NDArray[np.float64] = self._by_id[self.ids]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self._by_id.nbytes

    def prob(self, token_id: int) -> float:
        """Probability of one token."""
        return float(self._by_id[token_id]) if 0 <= token_id < len(self._by_id) else 0.0


def whole_vocabulary(logits: torch.Tensor, sampling: Sampling) -> Iterator[WholeVocabulary]:
    """The distribution of each row of `logits` [rows, vocabulary], where the sampler truncates nothing."""
    for row in logits:
        scores = row.float() if sampling.temperature == 1 else row.float() / sampling.temperature
        values = scores.cpu().numpy().astype(np.float64)
        weights = np.exp(values - values.max())
        yield WholeVocabulary(weights / weights.sum())
