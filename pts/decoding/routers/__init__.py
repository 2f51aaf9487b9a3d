"""Routers: how hard a question is for the model, and so what it may spend on it."""

from pts.decoding.routers.adaptive import AdaptiveRouter
from pts.decoding.routers.chance import RandomRouter
from pts.decoding.routers.files import find_router, load_router, save_router
from pts.decoding.routers.fitted import FittedRouter
from pts.decoding.routers.length import LengthRouter
from pts.decoding.routers.probe import ProbeRouter
from pts.decoding.routers.protocol import AUTO_BUDGETS, ClassBudgets, Route, Router, auto_budgets

__all__ = [
    "AUTO_BUDGETS",
    "AdaptiveRouter",
    "ClassBudgets",
    "FittedRouter",
    "LengthRouter",
    "ProbeRouter",
    "RandomRouter",
    "Route",
    "Router",
    "auto_budgets",
    "find_router",
    "load_router",
    "save_router",
]
