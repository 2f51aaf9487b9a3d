"""The stage `search`: from problems and a model to a run directory of pivotal tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pts.errors import RunError
from pts.pivot_search.config import Progress
from pts.records import Candidate, Completions, ProblemResult, TokenIds
from pts.runs.directory import RunDirectory, open_run
from pts.runs.manifest import differences, list_problems
from pts.runs.rollout_journal import RolloutJournal
from pts.runs.search_run import (
    ROLLOUTS,
    SEARCH,
    SearchEnvironment,
    SearchResolved,
    SearchSummary,
    read_search,
    search_digest,
)
from pts.runs.settle import settle_manifest
from pts.runs.shard import Context, ShardLine, results_journal
from pts.stages.search.derived import write_derived
from pts.stages.search.given_traces import encode_traces
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.plan import SearchPlan, plan_search
from pts.stages.shared.cut_completions import FEWEST, warn_of_cut
from pts.stages.shared.engine import Opened, open_engine
from pts.stages.shared.recorded import (
    recorded_by,
    recorded_options,
    settled_prompts,
)

if TYPE_CHECKING:
    from pts.graders import Grader
    from pts.models.prompt import PromptFormat
    from pts.policies import Policy

logger = logging.getLogger(__name__)

TOKENS_AFTER = 16
"""How much of what followed a candidate is kept as text."""


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
        done = read_search(path).summary()
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
    """Load the model, settle the manifest and search what is left. Raises PtsError."""
    from pts.graders.code import held_in_by
    from pts.graders.undecided import undecided_by
    from pts.pivot_search import search_problems

    opened, grader, resolved = _load(inputs, plan, directory)
    policy = opened.policy
    policy.check_length(len(policy.encode(plan.todo[0])), inputs.sampling())
    logger.info("%s in %s on %s.", resolved.model_id, resolved.dtype, policy.identity.device)
    logger.info(
        "%s: read as %s, graded by %s; %d problems to search.",
        resolved.dataset_id,
        resolved.problem_schema,
        resolved.grader,
        len(plan.todo),
    )
    _require_verified(inputs, opened)
    given = None if plan.traces is None else encode_traces(plan.traces, policy, inputs.sampling())
    environment = SearchEnvironment(
        policy.identity.device, inputs.batch_rows, inputs.max_tokens, inputs.problems, held_in_by(grader)
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
    journal = results_journal(directory.shard)
    drawn, warned, counted = Completions(), False, 0
    with _rollouts(directory) as rollouts:
        results = search_problems(
            plan.todo,
            policy,
            grader,
            inputs.search_config(),
            given_traces=given,
            searched_tokens=plan.searched_tokens,
            done=plan.done,
            spent=plan.spent,
            recorder=rollouts,
            observe=observe,
        )
        for result in results:
            # First the rollouts: whoever reads the result may count on them.
            rollouts.sync()
            rollouts.forget(result.problem_id)
            undecided = undecided_by(grader)
            paid = rollouts.tokens[result.problem_id] - plan.paid[result.problem_id]
            line = _line(inputs, plan, policy, result)
            journal.append(replace(line, undecided=undecided - counted, paid=paid))
            counted = undecided
            drawn = sum((result.completions or {}).values(), drawn)
            if not warned and drawn.drawn >= FEWEST:
                warned = _warn_of_cut(inputs, directory, drawn, resolved.think_end)
    if not warned:
        _warn_of_cut(inputs, directory, drawn, resolved.think_end)


def _require_verified(inputs: SearchInputs, opened: Opened) -> None:
    """Make the short checks of `pts verify`, unless they are not wanted. Raises ModelError where one fails."""
    from pts.verification import require_verified

    if inputs.verify:
        require_verified(opened.subject(inputs.sampling()))
    else:
        logger.warning("%s was not verified, as requested.", opened.policy.identity.model_id)


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


def _load(
    inputs: SearchInputs, plan: SearchPlan, directory: RunDirectory
) -> tuple[Opened, Grader, SearchResolved]:
    """The policy and the grader, and what they turned out to be. Raises PtsError."""
    from pts.graders import make_grader
    from pts.models.thinking import find_think_tags, require_think_tags

    earlier = None if inputs.fresh else directory.manifest
    recorded = recorded_by(earlier, str(directory.path))
    digest = ""

    def settle(tokenizer: Any) -> PromptFormat:
        nonlocal digest
        settled, digest = settled_prompts(tokenizer, inputs.prompt_format(), recorded, plan.first)
        return settled

    options = recorded_options(inputs.model_options(), recorded)
    opened = open_engine(options, inputs.engine, settle, inputs.batch_rows)
    needed = inputs.thinking is True or inputs.think_end is not None
    find = require_think_tags if needed else find_think_tags
    tags = find(opened.tokenizer, inputs.think_start, inputs.think_end)
    grader = make_grader(
        plan.grader,
        pattern=inputs.grader_pattern,
        think_end=None if tags is None else tags.end,
        think_required=inputs.thinking is True,
    )
    identity = opened.policy.identity
    resolved = SearchResolved(
        model_id=identity.model_id,
        model_revision=identity.revision,
        dtype=identity.dtype or "unknown",
        think_end=None if tags is None else tags.end,
        dataset_id=plan.problem_set.name,
        problem_schema=plan.problem_set.schema,
        grader=plan.grader,
        attention=identity.attention,
        prompt_date=opened.prompt_format.written_on,
        prompt_digest=digest,
    )
    return opened, grader, resolved


def _line(inputs: SearchInputs, plan: SearchPlan, policy: Policy, result: ProblemResult) -> ShardLine:
    prompt = policy.decode(result.prompt)
    contexts = tuple(
        _context(policy, prompt, result.traces[candidate.trace].completion, candidate)
        for candidate in result.candidates
    )
    return ShardLine(
        plan.digests[result.problem_id],
        inputs.max_tokens,
        result,
        contexts,
        search=search_digest(plan.settings),
    )


def _context(policy: Policy, prompt: str, completion: TokenIds, candidate: Candidate) -> Context:
    position, end = candidate.position, candidate.end or candidate.position + 1
    before = policy.decode(completion[:position]) if position else ""
    through = policy.decode(completion[:end])
    beyond = policy.decode(completion[: end + TOKENS_AFTER])
    return Context(prompt + before, _added(before, through), _added(through, beyond))


def _added(shorter: str, longer: str) -> str:
    """What `longer` adds to `shorter`; a character of which only the first bytes were there counts as added."""
    shared = next((i for i, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), None)
    return longer[min(len(shorter), len(longer)) if shared is None else shared :]
