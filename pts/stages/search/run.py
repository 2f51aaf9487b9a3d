"""The stage `search`: from problems and a model to a run directory of pivotal tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.pivot_search.config import Progress
from pts.records import Completions
from pts.runs.directory import RunDirectory, open_run
from pts.runs.manifest import differences, list_problems
from pts.runs.rollout_journal import RolloutJournal
from pts.runs.search_run import ROLLOUTS, SEARCH, SearchEnvironment, read_search, search_digest
from pts.runs.search_summary import SearchSummary, search_summary
from pts.runs.settle import settle_manifest
from pts.runs.shard import ShardLine, results_journal
from pts.stages.search.derived import write_derived
from pts.stages.search.engine import Searched, SearchHere, SearchTask
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.plan import SearchPlan, plan_search
from pts.stages.shared.cut_completions import FEWEST, warn_of_cut
from pts.stages.shared.recorded import recorded_by

if TYPE_CHECKING:
    from pts.stages.search.ray_search import SearchOnRay

logger = logging.getLogger(__name__)


def run_search(inputs: SearchInputs, observe: Callable[[Progress], None] | None = None) -> SearchSummary:
    """Do the search that `inputs` describes, or what is left of it, and write its directory.

    Nothing is written, and nothing generated but for the checks of the model, before the model, the data, every
    reference answer and the prompt format have been found good. A complete run is left as it is. `observe` is
    told of every rollout; its problems and tokens are of the whole run, its confirmed candidates of this
    session. Raises PtsError.
    """
    with open_run(inputs.directory(), SEARCH) as directory:
        plan = plan_search(inputs, directory)
        if not plan.todo:
            logger.info("%s: nothing is left to search.", directory.path)
            _note_idle(inputs, plan, directory)
        else:
            _search(inputs, plan, directory, observe)
        return write_derived(directory)


def _note_idle(inputs: SearchInputs, plan: SearchPlan, directory: RunDirectory) -> None:
    """Bring the manifest up to date where other settings, or more problems for other shards, need no search."""
    manifest = plan.earlier
    assert manifest is not None
    if differences(manifest.settings, plan.settings):
        manifest = replace(manifest, settings=plan.settings)
    if manifest.whole is not None and plan.whole is not None and len(plan.whole) > manifest.whole.count:
        environment = {**manifest.environment, "limit": inputs.problems}
        manifest = replace(manifest, whole=list_problems(plan.whole), environment=environment)
    if manifest != plan.earlier:
        directory.write_manifest(manifest)


def resume_note(inputs: SearchInputs) -> str:
    """A sentence on what a stopped search leaves and how to go on with it."""
    path = inputs.directory()
    try:
        done = search_summary(read_search(path))
    except RunError:
        return "nothing had been written yet."
    again = "the same command without --fresh" if inputs.fresh else "the same command"
    kept = (
        f"{done.done} of {done.problems} problems are done, and {done.tokens_generated:,} generated tokens kept"
    )
    return f"{kept} in {path}; {again} continues."


def _search(
    inputs: SearchInputs, plan: SearchPlan, directory: RunDirectory, observe: Callable[[Progress], None] | None
) -> None:
    """Open the engine, settle the manifest and search what is left. Raises PtsError."""
    task = _task(inputs, plan, directory)
    with SearchHere(task) if inputs.ray is None else _on_ray(task, len(plan.todo)) as engine:
        resolved = engine.resolved
        logger.info("%s in %s on %s.", resolved.model_id, resolved.dtype, engine.device)
        logger.info(
            "%s: read as %s, graded by %s; %d problems to search.",
            resolved.dataset_id,
            resolved.problem_schema,
            resolved.grader,
            len(plan.todo),
        )
        environment = SearchEnvironment(
            *(engine.device, inputs.batch_rows, inputs.token_limit, inputs.problems, engine.sandbox),
            tensor_parallel=inputs.tensor_parallel,
        )
        settle_manifest(
            directory,
            settings=plan.settings,
            resolved=resolved,
            environment=environment,
            problems=list(plan.digests.values()),
            whole=plan.whole,
            fresh=inputs.fresh,
        )
        if plan.spent:
            write_derived(directory)
        with _rollouts(directory) as rollouts:
            _record(
                inputs, plan, directory, rollouts, engine.search(plan, rollouts, observe), resolved.think_end
            )


def _task(inputs: SearchInputs, plan: SearchPlan, directory: RunDirectory) -> SearchTask:
    earlier = None if inputs.fresh else directory.manifest
    problem_set = plan.problem_set
    return SearchTask(
        inputs,
        recorded_by(earlier, str(directory.path)),
        plan.grader,
        problem_set.name,
        problem_set.schema,
        plan.todo[0],
        plan.first,
        plan.traces,
    )


def _on_ray(task: SearchTask, problems: int) -> SearchOnRay:
    from pts.stages.search.ray_search import SearchOnRay

    return SearchOnRay(task, problems)


def _record(
    inputs: SearchInputs,
    plan: SearchPlan,
    directory: RunDirectory,
    rollouts: RolloutJournal,
    results: Iterable[Searched],
    think_end: str | None,
) -> None:
    """Write down each problem's result as it comes."""
    journal = results_journal(directory.shard)
    drawn, warned = Completions(), False
    for searched in results:
        result = searched.result
        # First the rollouts: whoever reads the result may count on them.
        rollouts.sync()
        rollouts.forget(result.problem_id)
        line = ShardLine(
            plan.digests[result.problem_id],
            inputs.token_limit,
            result,
            searched.contexts,
            searched.undecided,
            rollouts.tokens[result.problem_id] - plan.paid[result.problem_id],
            search_digest(plan.settings),
        )
        journal.append(line)
        drawn = sum((result.completions or {}).values(), drawn)
        if not warned and drawn.drawn >= FEWEST:
            warned = _warn_of_cut(inputs, directory, drawn, think_end)
    if not warned:
        _warn_of_cut(inputs, directory, drawn, think_end)


@contextmanager
def _rollouts(directory: RunDirectory) -> Iterator[RolloutJournal]:
    """The journal of the run's rollouts, closed whatever happens."""
    journal, complete = RolloutJournal(directory.path / ROLLOUTS), False
    try:
        yield journal
        complete = True
    finally:
        journal.close(complete=complete)


def _warn_of_cut(
    inputs: SearchInputs, directory: RunDirectory, drawn: Completions, think_end: str | None
) -> bool:
    thinks = think_end is not None and inputs.thinking is not False
    return warn_of_cut(
        str(directory.path), drawn, inputs.sampling().budget, thinks=thinks, runs_on=inputs.runs_on
    )
