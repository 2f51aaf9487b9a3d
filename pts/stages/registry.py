"""The stages by name. A stage is imported when it is looked up."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pts.stages.stage import Stage

_MODULES = {
    "search": "pts.stages.search.stage",
    "merge": "pts.stages.merge.stage",
    "extract-vectors": "pts.stages.extract.stage",
    "fit-router": "pts.stages.fit_router.stage",
    "train-adaptthink": "pts.stages.train.adaptthink",
    "train-length": "pts.stages.train.length",
    "train-shorten": "pts.stages.train.shorten",
    "eval": "pts.stages.evaluate.stage",
    "report": "pts.stages.report.stage",
    "publish": "pts.stages.publish.stage",
    "demo-model": "pts.stages.demo_model.stage",
}
"""The module of each stage, whose `STAGE` it is."""


def stage_names() -> tuple[str, ...]:
    """The names of all stages, in the order of a day's work."""
    return tuple(_MODULES)


def find_stage(name: str) -> Stage[Any, Any]:
    """The stage of a name. Raises KeyError for an unknown one."""
    stage: Stage[Any, Any] = import_module(_MODULES[name]).STAGE
    return stage
