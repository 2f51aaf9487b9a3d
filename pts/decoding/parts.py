"""What strategies may be built from, besides the model that answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a user chose; None leaves a strategy its own default."""
