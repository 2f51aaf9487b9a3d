"""What is said of a run whose journal of rollouts is gone or cut."""

from __future__ import annotations

from pts.runs.search_run import ROLLOUTS


def lost_text(tokens: int) -> str:
    """A line, without a full stop, on so many generated tokens whose rollouts are no longer there."""
    return (
        f"Lost: the rollouts of {tokens:,} of the generated tokens are no longer in the run's folder "
        f"{ROLLOUTS}, so no phase counts them; findings and values stay as they are"
    )
