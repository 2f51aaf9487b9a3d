"""Decoding: thinking budgets, strategies, routers and the steered decoder, with the token usage of answers."""

from pts.decoding.answers import Answer, TokenUsage
from pts.decoding.autothink import autothink_answer, autothink_decode
from pts.decoding.context_match import Contexts, pivot_contexts
from pts.decoding.limits import ThinkingBudget, TokenLimits
from pts.decoding.processor import BudgetProcessor
from pts.decoding.registry import STRATEGIES, StrategyEntry, make_strategy
from pts.decoding.session import Question, Session
from pts.decoding.steered_decoder import SteeredDecoder

__all__ = [
    "STRATEGIES",
    "Answer",
    "BudgetProcessor",
    "Contexts",
    "Question",
    "Session",
    "SteeredDecoder",
    "StrategyEntry",
    "ThinkingBudget",
    "TokenLimits",
    "TokenUsage",
    "autothink_answer",
    "autothink_decode",
    "make_strategy",
    "pivot_contexts",
]
