"""Patterns as they are named on the command line: NAME, or NAME=1.5."""

from __future__ import annotations

from collections.abc import Sequence

from pts.errors import ConfigError


def strengths(named: Sequence[str] | None) -> dict[str, float] | None:
    """Each pattern with its factor, 1.0 where none is given; None where none is named.

    Raises ConfigError for a factor that is no number.
    """
    return dict(_strength(entry) for entry in named) if named else None


def _strength(entry: str) -> tuple[str, float]:
    name, _, factor = entry.partition("=")
    try:
        return name, float(factor) if factor else 1.0
    except ValueError:
        raise ConfigError(f"--pattern {entry}: {factor!r} is not a number; give NAME or NAME=1.5.") from None
