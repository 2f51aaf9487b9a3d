"""What a router was fitted on, and that an evaluation asks none of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from pts.decoding.routers.protocol import Router
from pts.errors import ConfigError
from pts.problems import question_words
from pts.records import Problem
from pts.setting_names import setting

QUESTIONS = "questions"
"""The key of a router's provenance that holds the digests of what it was fitted on, with blanks between."""


def question_digests(problems: Iterable[Problem]) -> list[str]:
    """A short digest of each question, the same however its words are spaced."""
    return [hashlib.sha256(question_words(problem).encode()).hexdigest()[:12] for problem in problems]


def require_unseen(router: Router | None, problems: Sequence[Problem]) -> None:
    """Raise ConfigError where a fitted router was fitted on one of the problems.

    Of a router that an earlier version fitted, and of one of another kind, that is not known.
    """
    from pts.decoding.routers.probe import ProbeRouter

    if not isinstance(router, ProbeRouter):
        return
    fitted_on = set(str(router.fitted.provenance.get(QUESTIONS, "")).split())
    digests = question_digests(problems)
    seen = [problem for problem, digest in zip(problems, digests, strict=True) if digest in fitted_on]
    if seen:
        raise ConfigError(
            f"the router was fitted on {len(seen)} of the {len(problems)} problems to evaluate ({seen[0].id} "
            f"is one): evaluate others ({setting('split')}, {setting('problems')}), fit a router on "
            "others by `pts fit-router`, or "
            f"name another by {setting('router')}."
        )
