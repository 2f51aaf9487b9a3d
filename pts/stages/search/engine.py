"""What searches problems in one process: the policy, the grader, and the results with their texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pts.pivot_search.config import Progress
from pts.pivot_search.results import Candidate, ProblemResult
from pts.records import Problem, TokenIds
from pts.runs.search_run import SearchResolved
from pts.runs.shard import Context
from pts.stages.search.given_traces import encode_traces
from pts.stages.search.inputs import SearchInputs
from pts.stages.shared.engine import Opened, open_engine
from pts.stages.shared.recorded import Recorded, recorded_options, settled_prompts

if TYPE_CHECKING:
    from pts.graders import Grader
    from pts.models.prompt import PromptFormat
    from pts.pivot_search.ledger import Ledger
    from pts.pivot_search.recorder import RolloutRecorder
    from pts.policies import Policy
    from pts.stages.search.plan import SearchPlan

logger = logging.getLogger(__name__)

TOKENS_AFTER = 16
"""How much of what followed a candidate is kept as text."""


@dataclass(frozen=True, slots=True)
class SearchTask:
    """What a process must know to search problems of a run; it can be sent to another process.

    `grader` is the grader's name, `recorded` what earlier sessions had, `probe` a problem whose length is
    checked, `first` the first result that there is, and `traces` the completions given.
    """

    inputs: SearchInputs
    recorded: Recorded
    grader: str
    dataset_id: str
    problem_schema: str
    probe: Problem
    first: ProblemResult | None = None
    traces: Mapping[str, Sequence[TokenIds | str]] | None = None


@dataclass(frozen=True, slots=True)
class Searched:
    """A problem's result, its candidates' surroundings, and the completions that could not be decided.

    These are counted since the result before.
    """

    result: ProblemResult
    contexts: tuple[Context, ...]
    undecided: int


class SearchHere:
    """A search in this process: the model on its engine, verified, with the grader. Raises PtsError.

    Example:
        with SearchHere(task) as engine:
            for searched in engine.search(plan, rollouts):
                ...
    """

    def __init__(self, task: SearchTask) -> None:
        from pts.graders.code import held_in_by

        inputs = task.inputs
        opened, self._grader, self.resolved = _load(task)
        self._policy, self._config = opened.policy, inputs.search_config()
        self.device = self._policy.identity.device
        self.sandbox = held_in_by(self._grader)
        self._policy.check_length(len(self._policy.encode(task.probe)), inputs.sampling())
        _require_verified(inputs, opened)
        self._given = (
            None if task.traces is None else encode_traces(task.traces, self._policy, inputs.sampling())
        )

    def __enter__(self) -> SearchHere:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left behind."""

    def search(
        self, plan: SearchPlan, rollouts: RolloutRecorder, observe: Callable[[Progress], None] | None = None
    ) -> Iterator[Searched]:
        """The results of what is to do, as they come."""
        yield from self.searched(
            plan.todo, rollouts, observe, searched_tokens=plan.searched_tokens, done=plan.done, spent=plan.spent
        )

    def searched(
        self,
        problems: Iterable[Problem],
        rollouts: RolloutRecorder,
        observe: Callable[[Progress], None] | None,
        *,
        searched_tokens: Mapping[str, ProblemResult],
        done: int = 0,
        spent: int = 0,
        ledger: Ledger | None = None,
    ) -> Iterator[Searched]:
        """The results of any problems, in a run that has so many problems and tokens behind it.

        `searched_tokens` are results of tokens that sentences are added to. `ledger` counts tokens where others
        search the same run.
        """
        from pts.graders.undecided import undecided_by
        from pts.pivot_search import search_problems

        counted = 0
        for result in search_problems(
            problems,
            self._policy,
            self._grader,
            self._config,
            given_traces=self._given,
            searched_tokens=searched_tokens,
            done=done,
            spent=spent,
            ledger=ledger,
            recorder=rollouts,
            observe=observe,
        ):
            undecided = undecided_by(self._grader)
            yield Searched(result, _contexts(self._policy, result), undecided - counted)
            counted = undecided


def _require_verified(inputs: SearchInputs, opened: Opened) -> None:
    """Make the short checks of `pts verify`, unless they are not wanted. Raises ModelError where one fails."""
    from pts.verification import require_verified

    if inputs.verify:
        require_verified(opened.subject(inputs.sampling()))
    else:
        logger.warning("%s was not verified, as requested.", opened.policy.identity.model_id)


def _load(task: SearchTask) -> tuple[Opened, Grader, SearchResolved]:
    """The policy and the grader, and what they turned out to be. Raises PtsError."""
    from pts.graders import make_grader
    from pts.models.thinking import find_think_tags, require_think_tags

    inputs, recorded, digest = task.inputs, task.recorded, ""

    def settle(tokenizer: Any) -> PromptFormat:
        nonlocal digest
        settled, digest = settled_prompts(tokenizer, inputs.prompt_format(), recorded, task.first)
        return settled

    options = recorded_options(inputs.model_options(), recorded)
    own = {**inputs.server(), **inputs.parallel_options()}
    opened = open_engine(options, inputs.engine, settle, inputs.batch_rows, own)
    needed = inputs.thinking is True or inputs.think_end is not None
    find = require_think_tags if needed else find_think_tags
    tags = find(opened.tokenizer, inputs.think_start, inputs.think_end)
    grader = make_grader(
        task.grader,
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
        dataset_id=task.dataset_id,
        problem_schema=task.problem_schema,
        grader=task.grader,
        attention=identity.attention,
        prompt_date=opened.prompt_format.written_on,
        prompt_digest=digest,
    )
    return opened, grader, resolved


def _contexts(policy: Policy, result: ProblemResult) -> tuple[Context, ...]:
    prompt = policy.decode(result.prompt)
    return tuple(
        _context(policy, prompt, result.traces[candidate.trace].completion, candidate)
        for candidate in result.candidates
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
