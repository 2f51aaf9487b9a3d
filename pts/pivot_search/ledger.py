"""What a run has spent and may spend, in generated tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Ledger:
    """Generated tokens of all rollouts delivered so far, against the run's limit (None: no limit)."""

    limit: int | None = None
    spent: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.spent >= self.limit
