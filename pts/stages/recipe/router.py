"""The stage `fit-router` in a recipe: what is there of a router, and that no evaluation asks its problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError, RunError
from pts.runs.codec import to_json
from pts.runs.manifest import differences, read_manifest
from pts.runs.search_run import read_search
from pts.stages.fit_router.inputs import FitRouterInputs
from pts.stages.recipe.standing import Standing
from pts.stages.search.inputs import SearchInputs

if TYPE_CHECKING:
    from pts.problems import ProblemSource
    from pts.stages.evaluate.inputs import EvaluateInputs
    from pts.stages.recipe.read import Stage

_FIT_ONLY = ("layer", "token_price")
"""Settings that need no other measurements: the router is fitted again from those that there are."""


def made_router(path: Path) -> str:
    """What there is of a router in a directory, in words; empty for nothing."""
    from pts.decoding.routers.files import JSON_NAME
    from pts.stages.fit_router.run import JOURNAL_NAME

    if (path / JSON_NAME).exists():
        return "a fitted router"
    return "measurements for a router" if (path / JOURNAL_NAME).exists() else ""


def router_standing(inputs: FitRouterInputs) -> Standing:
    """How the router in the directory stands to what is asked, the search and the vectors included.

    Raises PtsError for a search, vectors or a router that cannot be read.
    """
    from pts.decoding.routers.files import JSON_NAME, load_router
    from pts.stages.fit_router.run import JOURNAL_NAME, router_asked
    from pts.steering.vector_files import load_vectors

    path = inputs.directory()
    there = made_router(path)
    if not there:
        return Standing("new")
    vectors = None if inputs.vectors is None else load_vectors(inputs.vectors)
    asked = router_asked(inputs, read_search(inputs.run), vectors)
    fitted = (path / JSON_NAME).exists()
    known = load_router(path).provenance if fitted else _first_line(path / JOURNAL_NAME)
    changes = differences({name: known.get(name) for name in asked}, asked)
    if changes:
        return Standing("changed", there, tuple(changes))
    same_fit = all(known.get(name) == to_json(getattr(inputs, name)) for name in _FIT_ONLY)
    return Standing("complete" if fitted and same_fit else "begun", there)


def require_other_problems(before: Sequence[Stage], run: EvaluateInputs) -> None:
    """Raise ConfigError where an evaluation would ask what the router of a stage before it is fitted on.

    Settled by where the problems are, before anything is made; the evaluation itself compares the questions.
    """
    for stage in before:
        router = stage.inputs
        if not isinstance(router, FitRouterInputs) or run.router != str(router.directory()):
            continue
        search = _search_of(router, before)
        if search is not None and _may_meet(search, run):
            raise ConfigError(
                f"the router is fitted on problems of {search.dataset} that the evaluation may ask: give eval "
                "another data set or split (--dataset, --split), or fewer --problems than were searched."
            )


def _search_of(router: FitRouterInputs, before: Sequence[Stage]) -> SearchInputs | None:
    """The inputs of the search that a router's problems follow; None where it is not there yet."""
    from pts.stages.search.reload import searched_inputs

    inputs = (stage.inputs for stage in before)
    searches = [each for each in inputs if isinstance(each, SearchInputs) and each.directory() == router.run]
    if searches:
        return searches[-1]
    return None if read_manifest(router.run) is None else searched_inputs(read_search(router.run))


def _may_meet(search: SearchInputs, run: EvaluateInputs) -> bool:
    """Whether an evaluation may draw what follows the searched problems; of the demo, its split decides."""
    from pts.evaluation.benchmarks import benchmark_source

    benchmark, searched, asked = run.benchmark(), search.source(), run.source()
    if benchmark is not None:
        asked = benchmark_source(benchmark, run.data, asked)
    if searched.is_demo or asked.is_demo:
        fitted_on = "train" if searched.split == "calibrate" else "calibrate"
        return searched.is_demo and asked.is_demo and (asked.split or "train") == fitted_on
    if _place(searched) != _place(asked):
        return False
    mixed = benchmark is not None and benchmark.mixed
    return mixed or search.problems is None or asked.limit is None or asked.limit > search.problems


def _place(source: ProblemSource) -> tuple[str, str | None, str | None]:
    path = Path(source.dataset)
    name = str(path.resolve()) if path.exists() else source.dataset
    return name, source.config, source.split


def _first_line(path: Path) -> Mapping[str, object]:
    """What a journal's header says is measured. Raises RunError where it says nothing."""
    from pts.calibration.arms import arms_journal

    known = arms_journal(path).header()
    if known is None:
        raise RunError(f"{path} does not say what is measured; give --fresh to delete it and measure anew.")
    return known
