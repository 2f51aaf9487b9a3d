"""That an evaluation does not ask the problems on which the router of its recipe is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError
from pts.runs.manifest import read_manifest
from pts.runs.search_run import read_search
from pts.setting_names import setting
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.fit_router.inputs import FitRouterInputs
from pts.stages.search.inputs import SearchInputs
from pts.stages.stage import Context

if TYPE_CHECKING:
    from pts.problems import ProblemSource


def require_other_problems(inputs: EvaluateInputs, context: Context) -> None:
    """Raise ConfigError where an evaluation would ask what the router of a stage before it is fitted on.

    Settled by where the problems are, before anything is made; the evaluation itself compares the questions.
    """
    for router in context.inputs_of("fit-router"):
        if inputs.router != str(router.directory()):
            continue
        search = _search_of(router, context)
        if search is not None and _may_meet(search, inputs):
            raise ConfigError(
                f"the router is fitted on problems of {search.dataset} that the evaluation may ask: give eval "
                f"another data set or split ({setting('dataset')}, {setting('split')}), or fewer "
                f"{setting('problems')} than were searched."
            )


def _search_of(router: FitRouterInputs, context: Context) -> SearchInputs | None:
    """The inputs of the search that a router's problems follow; None where it is not there yet."""
    from pts.stages.search.reload import searched_inputs

    searches = [inputs for inputs in context.inputs_of("search") if inputs.directory() == router.run]
    if searches:
        search: SearchInputs = searches[-1]
        return search
    return None if read_manifest(router.run) is None else searched_inputs(read_search(router.run))


def _may_meet(search: SearchInputs, inputs: EvaluateInputs) -> bool:
    """Whether an evaluation may draw what follows the searched problems.

    Of a registered data set the split decides.
    """
    from pts.evaluation.benchmarks import benchmark_source

    benchmark, searched, evaluated = inputs.benchmark(), search.source(), inputs.source()
    if benchmark is not None:
        evaluated = benchmark_source(benchmark, inputs.data, evaluated)
    registered = searched.registered
    if registered is not None or evaluated.registered is not None:
        if registered is None or searched.dataset != evaluated.dataset:
            return False
        return (evaluated.split or registered.search_split) == registered.fitting_split(searched.split)
    if _place(searched) != _place(evaluated):
        return False
    mixed = benchmark is not None and benchmark.mixed
    return mixed or search.problems is None or evaluated.limit is None or evaluated.limit > search.problems


def _place(source: ProblemSource) -> tuple[str, str | None, str | None]:
    path = Path(source.dataset)
    name = str(path.resolve()) if path.exists() else source.dataset
    return name, source.config, source.split
