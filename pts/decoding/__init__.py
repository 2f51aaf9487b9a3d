"""Decoding: think budgets, strategies, routers and the steered decoder, with a ledger of all that it took."""

from pts.decoding.answers import Answer, Ledger
from pts.decoding.limits import Budget, Limits
from pts.decoding.registry import STRATEGIES, make_strategy
from pts.decoding.session import Question, Session
from pts.decoding.steered_decoder import SteeredDecoder

__all__ = [
    "STRATEGIES",
    "Answer",
    "Budget",
    "Ledger",
    "Limits",
    "Question",
    "Session",
    "SteeredDecoder",
    "make_strategy",
]
