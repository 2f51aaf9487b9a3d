"""Pivotal token search over any policy."""

from pts.pivot_search.config import Grade, Phase, Progress, SearchConfig
from pts.pivot_search.drive import SearchResult, find_pivotal_tokens, search_problems
from pts.pivot_search.findings import Finding, effect_interval, select_findings

__all__ = [
    "Finding",
    "Grade",
    "Phase",
    "Progress",
    "SearchConfig",
    "SearchResult",
    "effect_interval",
    "find_pivotal_tokens",
    "search_problems",
    "select_findings",
]
