"""Token ids of a completion in four bytes each, for whoever holds many."""

from __future__ import annotations

from array import array
from typing import Any, TypeVar

_Drawn = TypeVar("_Drawn")


def packs_completion(kind: type[_Drawn]) -> type[_Drawn]:
    """A dataclass that keeps the ids of its `completion` after its request's prefix in four bytes each.

    To whoever reads it `completion` is a tuple; as one it would take forty bytes for each id.
    """
    setattr(kind, _PACKED, PackedIds())
    return kind


_PACKED = "completion"


class PackedIds:
    """Ids that begin with the prefix of the same object's request, packed; see `packs_completion`."""

    def __get__(self, owner: Any, kind: type) -> tuple[int, ...]:
        if owner is None:
            raise AttributeError(_PACKED)
        shared, own = owner.__dict__["_ids"]
        return (*owner.request.prefix[:shared], *own)

    def __set__(self, owner: Any, ids: tuple[int, ...]) -> None:
        prefix: tuple[int, ...] = owner.request.prefix
        shared = len(prefix) if ids[: len(prefix)] == prefix else 0
        try:
            own = array("i", ids[shared:])
        except OverflowError:
            own = array("q", ids[shared:])
        owner.__dict__["_ids"] = (shared, own)

    @staticmethod
    def length(owner: Any) -> int:
        """How many ids it is."""
        shared, own = owner.__dict__["_ids"]
        return int(shared + len(own))
