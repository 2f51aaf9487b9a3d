"""Completions that the budget cut: how many are too many, and what to do about them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from pts.evaluation.outcomes import Outcomes
from pts.records import MOST_CUT, Completions
from pts.setting_names import setting

logger = logging.getLogger(__name__)

FEWEST = 50
"""Completions before a warning in the middle of a run."""


def cut_of(outcomes: Iterable[Outcomes]) -> Completions:
    """The completions of measurements, and those that the budget cut."""
    total = Completions()
    for each in outcomes:
        total += Completions(each.samples * len(each.cut), int(each.cut.sum()))
    return total


def is_too_much(counted: Completions) -> bool:
    """Whether the budget cut more than it should."""
    return counted.cut > MOST_CUT * counted.drawn


def cut_sentence(
    counted: Completions,
    budget: int,
    *,
    thinks: bool,
    remedy: str | None = None,
    runs_on: bool = False,
) -> str:
    """What the budget cut and what to do; `thinks` where a completion may begin with thinking.

    `remedy` says what to raise, None for the budget. `runs_on` where nothing may tell the model that its
    answer is over.
    """
    text = (
        f"{counted.cut:,} of {counted.drawn:,} completions ({counted.cut_share or 0:.0%}) were cut by the "
        f"budget of {budget:,} tokens, and a cut completion has failed: raise {remedy or setting('budget')}"
    )
    if thinks:
        text += (
            "; it must leave room for the whole of the thinking and for the answer (or ask for answers without "
            f"thinking: {setting('thinking', False)}, or {setting('suffix', '/no_think')} where the model "
            "knows that)"
        )
    if runs_on:
        text += (
            f"; or end them where the model begins the next question ({setting('stop')}): without a chat "
            "template many models never write an end token"
        )
    return f"{text}."


def warn_of_cut(
    what: str,
    counted: Completions,
    budget: int,
    *,
    thinks: bool,
    remedy: str | None = None,
    runs_on: bool = False,
) -> bool:
    """Log what the budget cut where that is too much, and whether it was. `what` says which completions."""
    if not is_too_much(counted):
        return False
    logger.warning("%s: %s", what, cut_sentence(counted, budget, thinks=thinks, remedy=remedy, runs_on=runs_on))
    return True
