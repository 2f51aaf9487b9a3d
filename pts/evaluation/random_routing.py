"""The control of a router: one that sends as many questions each way, at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pts.decoding.routers.chance import RandomRouter
from pts.decoding.routers.protocol import AUTO_BUDGETS
from pts.decoding.strategy_options import StrategyOptions
from pts.evaluation.items import Item


def shares_of(items: Iterable[Item]) -> dict[str, float]:
    """How often each route was taken, as shares that add up to 1; {} where nothing was routed."""
    counts = Counter(item.route for item in items if item.route is not None)
    return {route: counts[route] / counts.total() for route in sorted(counts)}


def with_random_router(options: StrategyOptions, shares: Mapping[str, float], seed: int) -> StrategyOptions:
    """The options with a router that draws each question's class by `shares`, with the classes' own budgets."""
    budgets = options.budgets or (AUTO_BUDGETS if options.router is None else options.router.budgets)
    return replace(options, router=RandomRouter(shares, seed, budgets))
