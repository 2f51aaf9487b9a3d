"""Pivotal Token Search: find the few tokens that decide a language model's answer, and steer by them.

    import pts

    model = pts.load_model("demo")
    run = pts.search(model, limit=20)
    for token in run.findings:
        print(token)

The names below are the public ones. They are imported when they are first used, so `import pts` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pts.version import __version__ as __version__

if TYPE_CHECKING:
    from pts.api.decode import decode
    from pts.api.evaluate import Evaluation, evaluate
    from pts.api.load import load_model
    from pts.api.report import write_report
    from pts.api.search import Run, load_run, search
    from pts.api.vectors import extract_vectors, fit_vector, steer
    from pts.decoding.answers import Answer
    from pts.errors import ConfigError, DataError, GraderError, ModelError, PtsError, RunError
    from pts.models.load import LoadedModel
    from pts.records import Problem
    from pts.runs.finding_records import PivotalToken
    from pts.steering.vector_files import load_vectors, save_vectors
    from pts.steering.vector_set import VectorSet

_HOMES = {
    "Answer": "pts.decoding.answers",
    "ConfigError": "pts.errors",
    "DataError": "pts.errors",
    "Evaluation": "pts.api.evaluate",
    "GraderError": "pts.errors",
    "LoadedModel": "pts.models.load",
    "ModelError": "pts.errors",
    "PivotalToken": "pts.runs.finding_records",
    "Problem": "pts.records",
    "PtsError": "pts.errors",
    "Run": "pts.api.search",
    "RunError": "pts.errors",
    "VectorSet": "pts.steering.vector_set",
    "decode": "pts.api.decode",
    "evaluate": "pts.api.evaluate",
    "extract_vectors": "pts.api.vectors",
    "fit_vector": "pts.api.vectors",
    "load_model": "pts.api.load",
    "load_run": "pts.api.search",
    "load_vectors": "pts.steering.vector_files",
    "save_vectors": "pts.steering.vector_files",
    "search": "pts.api.search",
    "steer": "pts.api.vectors",
    "write_report": "pts.api.report",
}
"""Each public name's module."""

__all__ = [
    "Answer",
    "ConfigError",
    "DataError",
    "Evaluation",
    "GraderError",
    "LoadedModel",
    "ModelError",
    "PivotalToken",
    "Problem",
    "PtsError",
    "Run",
    "RunError",
    "VectorSet",
    "decode",
    "evaluate",
    "extract_vectors",
    "fit_vector",
    "load_model",
    "load_run",
    "load_vectors",
    "save_vectors",
    "search",
    "steer",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pts' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
