"""Pivotal token search over any policy."""

from pts.search.config import Grade, Phase, Progress, SearchConfig
from pts.search.drive import SearchResult, find_pivotal_tokens, search_problems
from pts.search.findings import Finding, effect_interval, select_findings

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
