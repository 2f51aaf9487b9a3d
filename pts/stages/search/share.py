"""A shard of a search: the share of the problems that one of several processes takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pts.errors import ConfigError
from pts.setting_names import setting

T = TypeVar("T")

SHARD = "shard"
"""The setting's name, in inputs and in the manifest of a shard."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which of how many shards: the `number`-th of `shares`, counted from 1.

    Shard i takes the problems i, i + K, i + 2K, … of K shards. So a longer list only adds to what each has.

    Example:
        >>> Share(2, 3).of(["a", "b", "c", "d", "e"])
        ['b', 'e']
    """

    number: int
    shares: int

    def of(self, items: Sequence[T]) -> list[T]:
        """The items of this shard, in their order."""
        return list(items[self.number - 1 :: self.shares])

    def part(self, total: int) -> int:
        """The whole part of a total that is this shard's; the parts of all shards add up to the total."""
        return total * self.number // self.shares - total * (self.number - 1) // self.shares

    def __str__(self) -> str:
        return f"{self.number}/{self.shares}"


def read_share(text: str) -> Share:
    """The share that `2/8` names. Raises ConfigError for anything else."""
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    share = None if found is None else Share(int(found[1]), int(found[2]))
    if share is None or not 1 <= share.number <= share.shares:
        raise ConfigError(
            f"{setting(SHARD)} is {text!r}; write it as I/K, the I-th of K shards, such as 1/4 to 4/4."
        )
    return share
