"""The stage `fit-router`: measures budgets on fresh problems and fits a router that chooses among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError
from pts.records import Problem
from pts.runs.files import make_directories, write_failure
from pts.runs.lock import sole_writer
from pts.runs.manifest import git_commit, installed_versions, text_digest, utc_now
from pts.runs.search_run import SearchResults, read_search
from pts.stages.fit_router.fitted_on import QUESTIONS, question_digests
from pts.stages.fit_router.inputs import FitRouterInputs

if TYPE_CHECKING:
    from pts.calibration.budget_measurement import BudgetMeasurement
    from pts.calibration.router_fit import States
    from pts.decoding.routers.fitted import FittedRouter, Probe
    from pts.decoding.session import Session
    from pts.decoding.steered_decoder import SteeredDecoder
    from pts.evaluation.outcomes import Outcomes
    from pts.stages.search.reload import Loaded
    from pts.steering.vector_set import VectorSet

logger = logging.getLogger(__name__)

JOURNAL_NAME = "router.jsonl"
LAYERS = 6
"""Layers that are tried where none is named, evenly spread; all of a model with no more."""

Observe = Callable[[str, int, float], None]
"""Told of the phase, and how many more tokens were generated in it."""


def run_fit_router(inputs: FitRouterInputs, observe: Observe | None = None) -> FittedRouter:
    """Measure, fit and store a router. A stopped fit goes on: every measurement is kept as it is made.

    Raises PtsError.
    """
    from pts.decoding.routers.files import JSON_NAME, TENSORS_NAME
    from pts.stages.search.reload import fitting_problems, load_again
    from pts.steering.vector_algebra import require_fits
    from pts.steering.vector_files import load_vectors

    directory = inputs.directory()
    inputs = _with_recorded_layers(inputs, directory)
    searched = read_search(inputs.run)
    vectors = None if inputs.vectors is None else load_vectors(inputs.vectors)
    problems = fitting_problems(searched, inputs.problems, _reserved(vectors), inputs.levels)
    search = load_again(searched, inputs.device, trust_remote_code=inputs.trust_remote_code)
    if vectors is not None:
        require_fits(vectors, search.loaded)
    try:
        make_directories(directory)
    except OSError as error:
        raise write_failure(directory, error) from error
    with sole_writer(directory):
        if inputs.fresh:
            for name in (JOURNAL_NAME, JSON_NAME, TENSORS_NAME):
                (directory / name).unlink(missing_ok=True)
        return _fit(
            inputs,
            searched,
            search,
            vectors,
            problems,
            directory,
            observe or (lambda _phase, _more, _share: None),
        )


def _with_recorded_layers(inputs: FitRouterInputs, directory: Path) -> FitRouterInputs:
    """The inputs with the `layers_path` of a fit that they go on with, where they name none."""
    from pts.calibration.budget_measurement import budgets_journal

    before = None if inputs.fresh else budgets_journal(directory / JOURNAL_NAME).header()
    recorded = None if before is None else before.get("layers_path")
    if inputs.layers_path is not None or not isinstance(recorded, str):
        return inputs
    return replace(inputs, layers_path=recorded)


def _fit(
    inputs: FitRouterInputs,
    searched: SearchResults,
    search: Loaded,
    vectors: VectorSet | None,
    problems: Sequence[Problem],
    directory: Path,
    observe: Observe,
) -> FittedRouter:
    from pts.calibration.budget_measurement import BudgetMeasurement
    from pts.calibration.router_fit import dearest
    from pts.decoding.routers.files import save_router
    from pts.decoding.routers.fitted import FittedRouter
    from pts.stages.shared.cut_completions import cut_of
    from pts.steering.hooks import interventions
    from pts.steering.vector_algebra import described

    decoder = _decoder(inputs, search, vectors)
    settings = _measured_settings(inputs, searched, search, vectors, problems)
    total = len(problems) * inputs.samples * len(inputs.budgets()) * (1 if vectors is None else 2)
    measure = BudgetMeasurement(
        problems,
        search.grade,
        inputs.samples,
        inputs.seed,
        directory / JOURNAL_NAME,
        settings,
        lambda tokens: observe("measuring budgets", tokens, measure.answered / total),
    )
    with decoder.session([] if vectors is None else [interventions(vectors)]) as session:
        # First, while no prompt has been read: then a fit that goes on sees the same to the last bit.
        layers, states = _states(inputs, session, problems)
        fit = _Fit(inputs, measure, layers, states, search.sampling.budget)
        as_it_is = fit.outcomes(session, 0)
        reference = dearest(as_it_is.values())
        measured = [*as_it_is.values()]
        unsteered, steered = fit.probe(as_it_is, {}, reference), None
        if vectors is not None:
            on = {next(iter(vectors.vectors)): 1.0}
            # The same reference: what routing saves is saved beside the model as it is, steered or not.
            outcomes = fit.outcomes(session, 1)
            measured += outcomes.values()
            steered = fit.probe(outcomes, on, reference)
        counted = cut_of(measured)
        search.warn_of_cut(f"{directory}, measured", counted)
        known = None if vectors is None else vectors.model.layers_path
        router = FittedRouter(
            replace(described(search.loaded), layers_path=inputs.layers_path or known),
            search.sampling.budget,
            unsteered,
            steered,
            {
                **settings,
                "completions": counted.to_json(),
                "layer": inputs.layer,
                "token_price": inputs.token_price,
                QUESTIONS: " ".join(question_digests(problems)),
                "created": utc_now(),
                "versions": installed_versions(),
                "git_commit": git_commit(),
            },
        )
    save_router(router, directory)
    logger.info("%s: the router is stored.", directory)
    return router


def _measured_settings(
    inputs: FitRouterInputs,
    searched: SearchResults,
    search: Loaded,
    vectors: VectorSet | None,
    problems: Sequence[Problem],
) -> dict[str, object]:
    """What decides the measurements, the loaded model included: the journal's first line."""
    from pts.models.prompt import prompt_digest
    from pts.problems import problem_digest
    from pts.stages.shared.recorded import dtype_name

    return {
        **router_settings(inputs, searched, vectors),
        "model_revision": search.loaded.revision,
        "dtype": dtype_name(search.loaded),
        "attention": search.loaded.attention,
        "prompt_date": search.prompt_format.written_on,
        "prompt_digest": prompt_digest(search.loaded.tokenizer, search.prompt_format),
        "problem_list": text_digest(map(problem_digest, problems)),
    }


def router_settings(
    inputs: FitRouterInputs, searched: SearchResults, vectors: VectorSet | None
) -> dict[str, object]:
    """What decides the measurements, but for the model's revision: as the journal's first line holds it."""
    from pts.steering.vector_files import vectors_digest

    digest = None if vectors is None else vectors_digest(vectors)
    return {**inputs.settings(), "search": dict(searched.manifest.settings), "vectors": digest}


def _states(
    inputs: FitRouterInputs, session: Session, problems: Sequence[Problem]
) -> tuple[tuple[int, ...], States]:
    """The layers to try, and the residual stream there at the prompts' ends [problems, layers, hidden].

    In float32: problems × layers × hidden × 4 bytes are held through the fit, which widens one layer at a time.
    """
    layers = _layers(inputs, session)
    prompts = [session.encode(problem.query) for problem in problems]
    return layers, session.policy.residuals(prompts, layers).numpy()


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the probes of a router share: the problems' states [problems, layers, hidden], the measurement."""

    inputs: FitRouterInputs
    measure: BudgetMeasurement
    layers: tuple[int, ...]
    states: States
    total: int

    def outcomes(self, session: Session, variant: int) -> dict[str, Outcomes]:
        """Every budget's outcomes, steered by a variant of the session (0: the model as it is)."""
        budgets = self.inputs.budgets()
        return {name: self.measure(session, name, budget, variant) for name, budget in budgets.items()}

    def probe(
        self, outcomes: Mapping[str, Outcomes], patterns: Mapping[str, float], reference: Outcomes
    ) -> Probe:
        """The fit, priced beside `reference`; problems that ask the same are held out together."""
        import numpy as np

        from pts.calibration.router_fit import Measurements, fit_probe

        queries = [problem.query for problem in self.measure.problems]
        groups = np.unique(queries, return_inverse=True)[1]
        measured = Measurements(self.states, self.layers, groups.astype(np.int64), outcomes)
        return fit_probe(
            measured,
            self.inputs.budgets(),
            self.total,
            self.inputs.token_price,
            patterns,
            self.inputs.seed,
            reference,
        )


def _decoder(inputs: FitRouterInputs, search: Loaded, vectors: VectorSet | None) -> SteeredDecoder:
    """A decoder that thinks as the search's model does. Raises ModelError for one that does not think."""
    from pts.decoding.steered_decoder import SteeredDecoder
    from pts.decoding.strategies import require_thinking
    from pts.decoding.think_format import find_think_format

    think = find_think_format(
        search.loaded.tokenizer,
        search.prompt_format,
        search.inputs.think_start,
        search.inputs.think_end,
        required_by="fit-router",
    )
    decoder = SteeredDecoder(
        search.loaded,
        # Without where it came from: a router that is stored there is the one to be replaced.
        None if vectors is None else replace(vectors, directory=None),
        sampling=search.sampling,
        prompt_format=search.prompt_format,
        think=think,
        batch_rows=inputs.batch_rows,
        layers_path=inputs.layers_path,
    )
    with decoder.session([]) as session:
        for name, budget in inputs.budgets().items():
            require_thinking(name, session, budget)
    return decoder


def _layers(inputs: FitRouterInputs, session: Session) -> tuple[int, ...]:
    import numpy as np

    count = session.policy.identity.layers or 0
    if inputs.layer is None:
        return tuple(sorted({round(float(at)) for at in np.linspace(0, count - 1, min(count, LAYERS))}))
    if not 0 <= inputs.layer < count:
        raise ConfigError(
            f"layer {inputs.layer} is out of range: the model has decoder layers 0 to {count - 1}."
        )
    return (inputs.layer,)


def _reserved(vectors: VectorSet | None) -> int:
    """Problems that a set was calibrated and tested on: the first that its search did not draw."""
    if vectors is None:
        return 0
    calibrated = vectors.provenance.get("calibration_problems")
    tested = max((effect.problems for effect in vectors.effects.values()), default=0)
    return tested + (calibrated if isinstance(calibrated, int) else 0)
