"""Completions that a grader could not decide: they count as wrong, and are counted."""

from __future__ import annotations

import logging
from functools import cache

logger = logging.getLogger(__name__)


def undecided_by(grader: object) -> int:
    """How many completions `grader` has graded as wrong because it could not decide them; 0 for most kinds."""
    count = getattr(grader, "undecided", 0)
    return count if isinstance(count, int) else 0


@cache
def warn_undecided() -> None:
    """Say, once a process, that an answer could not be decided."""
    logger.warning(
        "an answer could not be compared with its reference (Math-Verify took too long or "
        "crashed); it counts as wrong. The summary says how often this happened."
    )
