"""The search of one problem as a coroutine: it asks for rollouts and is sent them, whatever draws them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from typing import TypeAlias, get_args

import numpy as np

from pts.pivot_search import range_filter
from pts.pivot_search.audit import ROLLOUTS, audit_draw, draw_audits, inclusion_chances
from pts.pivot_search.config import Phase, SearchConfig
from pts.pivot_search.confirm import EXPECTED_LOOK, Confirmation, tally
from pts.pivot_search.grades import CompletionGrades
from pts.pivot_search.offsets import text_offsets
from pts.pivot_search.posterior import believed_values
from pts.pivot_search.screen import TraceScreen
from pts.pivot_search.sentences import Span, sentence_spans
from pts.pivot_search.values import GradedRollout, TraceMap, off_trace_counts, shared_length
from pts.policies.protocol import Policy
from pts.records import (
    FATE_LETTERS,
    AuditDraw,
    Candidate,
    Completions,
    Problem,
    ProblemResult,
    ProblemStatus,
    RolloutRequest,
    SearchedTrace,
    TokenDetails,
    TokenDistribution,
    TokenIds,
    Trace,
)
from pts.seeds import derive_seed
from pts.setting_names import setting

logger = logging.getLogger(__name__)

LONG_SEARCH = 100_000
"""Expected tokens above which the cost of screening a problem is said before it is paid."""

Requests: TypeAlias = list[RolloutRequest]
Answers: TypeAlias = list[list[GradedRollout]] | None
"""One list of graded rollouts a request, in the order of the requests; None where spending has ended."""


class ProblemSearch:
    """One problem's search: its rollouts so far, its grades, what each phase has spent.

    The key of a request names the problem, the phase, the trace, the look and the position, as far as it has
    them (`gsm8k-17/screen/0/12/57`); the same search asks under the same keys again.
    """

    def __init__(
        self,
        problem: Problem,
        policy: Policy,
        grades: CompletionGrades,
        config: SearchConfig,
        given: Sequence[TokenIds] | None = None,
    ) -> None:
        self.problem = problem
        self.phase: Phase = "range"
        self.confirmed = 0
        self.tokens_left = float("inf")
        """What a spending limit leaves for this search, as of now."""
        self._policy = policy
        self._grades = grades
        self._config = config
        self._given = given
        self._prompt = policy.encode(problem)
        self._seed = derive_seed(config.seed, problem.id)
        self._audited: AuditDraw | None = None
        self._pool: list[GradedRollout] = []
        self._spent: dict[Phase, int] = dict.fromkeys(get_args(Phase), 0)
        self._screens: Sequence[TraceScreen] = ()
        self._pending: list[Confirmation] = []
        self._completions: dict[Phase, Completions] = dict.fromkeys(self._spent, Completions())

    def run(self) -> Generator[Requests, Answers, ProblemResult]:
        """The whole search: range filter, traces, screen, confirmation, audit."""
        in_range = yield from self._range_filter()
        if not in_range:
            return self._result("spent" if in_range is None else "out_of_range")
        traces = yield from self._traces()
        if traces is None:
            return self._result("spent")
        sampling = self._config.sampling
        distributions = [self._policy.next_token_probs(self._prompt, t.completion, sampling) for t in traces]
        graded = [self._graded_trace(t, d) for t, d in zip(traces, distributions, strict=True)]
        maps, spans = self._maps(graded)
        screens = yield from self._screen(maps)
        pending = yield from self._confirm(screens)
        inner: list[TraceScreen] = []
        if self._config.unit == "both":
            inner, more = yield from self._search_inside(graded, pending)
            pending += more
        cut = any(screen.open for screen in [*screens, *inner]) or not all(c.stopped for c in pending)
        if not cut and self._config.unit != "both":  # An audit is of one screen, whose beliefs it draws by.
            audits = yield from self._audit(screens)
            cut = not all(c.stopped for c in audits)
            pending += audits
        confirmations = [c for c in pending if c.looks_taken]
        candidates = tuple(
            c.candidate(self._policy.decode, distributions[c.trace_index][c.position]) for c in confirmations
        )
        searched = tuple(
            self._searched_trace(
                i, success, [each[i] for each in (screens, inner) if each], confirmations, spans[i]
            )
            for i, (_, success) in enumerate(graded)
        )
        return self._result("spent" if cut else "searched", searched, candidates)

    def _key(self, *names: str | int) -> str:
        """The name of a request: the problem, the phase, and what tells it from the phase's others."""
        return "/".join(map(str, (self.problem.id, self.phase, *names)))

    def _request(self, *names: str | int, prefix: TokenIds = (), n: int = 1, seed: int = 0) -> RolloutRequest:
        """A request from the problem's prompt; `names` are what tells it from the phase's others."""
        key, sampling = self._key(*names), self._config.sampling
        return RolloutRequest(self._prompt, prefix, n=n, seed=seed, key=key, sampling=sampling)

    def _ask(self, requests: Requests) -> Generator[Requests, Answers, Answers]:
        """Sends a look's requests and books what comes back to the phase."""
        answers = yield requests
        drawn = [rollout for rollouts in answers or () for rollout in rollouts]
        cut = sum(rollout.count for rollout in drawn if rollout.finish == "budget")
        self._completions[self.phase] += Completions(sum(rollout.count for rollout in drawn), cut)
        self._spent[self.phase] += sum(rollout.new_tokens for rollout in drawn)
        return answers

    def _range_filter(self) -> Generator[Requests, Answers, bool | None]:
        """Whether the prompt's value leaves room to search; None where the spending limit came first."""
        judged: bool | None = None
        for look, total in enumerate(range_filter.LOOKS):
            n = total - sum(r.count for r in self._pool)
            seed = derive_seed(self._seed, "range", look)
            request = self._request(look + 1, n=n, seed=seed)
            drawn = yield from self._ask([request])
            if drawn is None:
                return None
            self._pool += drawn[0]
            judged = range_filter.judge(*tally(self._pool), self._config.value_range)
            if judged is not None:
                break
        return judged

    def _traces(self) -> Generator[Requests, Answers, list[GradedRollout] | None]:
        """The completions to search, given or drawn, equal ones once; None where spending has ended."""
        self.phase = "traces"
        if self._given is not None:
            return (yield from self._given_traces(list(dict.fromkeys(self._given))))
        requests = [
            self._request(i, seed=derive_seed(self._seed, "trace", i)) for i in range(self._config.traces)
        ]
        answers = yield from self._ask(requests)
        if answers is None:
            return None
        return list({rollouts[0].completion: rollouts[0] for rollouts in answers}.values())

    def _given_traces(
        self, given: Sequence[TokenIds]
    ) -> Generator[Requests, Answers, list[GradedRollout] | None]:
        """Given completions with their grades; whether the budget cut a full one, only the policy can tell."""
        full = [
            self._request("given", i, prefix=completion)
            for i, completion in enumerate(given)
            if len(completion) >= self._config.sampling.budget
        ]
        answers = yield full
        if answers is None:
            return None
        cut = {request.prefix: rollouts[0].finish for request, rollouts in zip(full, answers, strict=True)}
        finishes = [(completion, cut.get(completion, "end")) for completion in given]
        return [
            GradedRollout(RolloutRequest(self._prompt), ids, 1, self._grades.success(ids, finish), finish)
            for ids, finish in finishes
        ]

    def _graded_trace(
        self, drawn: GradedRollout, distributions: Sequence[TokenDistribution]
    ) -> tuple[Trace, bool]:
        probs = tuple(d.prob(t) for d, t in zip(distributions, drawn.completion, strict=True))
        return Trace(self._prompt, drawn.completion, probs, drawn.finish), drawn.success

    def _maps(self, graded: Sequence[tuple[Trace, bool]]) -> tuple[list[TraceMap], list[tuple[Span, ...]]]:
        """The traces' maps by the unit that is searched first, and their sentences where those are searched."""
        if self._config.unit == "token":
            return [TraceMap.of(*each) for each in graded], [()] * len(graded)
        spans = [sentence_spans(trace.completion, self._policy.decode) for trace, _ in graded]
        return [TraceMap.of_spans(*each, of) for each, of in zip(graded, spans, strict=True)], spans

    def _search_inside(
        self, graded: Sequence[tuple[Trace, bool]], sentences: Sequence[Confirmation]
    ) -> Generator[Requests, Answers, tuple[list[TraceScreen], list[Confirmation]]]:
        """Screens and confirms the tokens inside the sentences that entered the confirmation."""
        within: list[list[Span]] = [[] for _ in graded]
        for c in sentences:
            within[c.trace_index].append((c.position, c.end or c.position + 1))
        screens = yield from self._screen([TraceMap.of(*each) for each in graded], within)
        pending = yield from self._confirm(screens)
        return screens, pending

    def _screen(
        self, maps: Sequence[TraceMap], within: Sequence[Sequence[Span]] | None = None
    ) -> Generator[Requests, Answers, list[TraceScreen]]:
        """Screens the traces by their maps, all of their forks or those `within` spans."""
        self.phase = "screen"
        config = self._config
        completions = [each.trace.completion for each in maps]
        screens = [
            TraceScreen(
                each,
                config.threshold,
                config.region,
                seed=derive_seed(self._seed, "screen", i),
                shared=max((shared_length(completions[i], c) for c in completions[:i]), default=0),
                within=None if within is None else within[i],
                key=self._key(i) if each.unit == "token" else self._key(i, "sentence"),
                sampling=config.sampling,
            )
            for i, each in enumerate(maps)
        ]
        expected = sum(screen.expected_tokens(self._pool) for screen in screens)
        if expected >= LONG_SEARCH:
            logger.warning(
                "problem %s has %d candidates: the screen is expected to generate about %s tokens "
                f"for it ({setting('region')} and {setting('max_tokens')} limit this).",
                self.problem.id,
                sum(screen.open for screen in screens),
                f"{expected:,}",
            )
        self._screens = screens
        while requests := [request for screen in screens for request in screen.next_look(self._pool)]:
            drawn = yield from self._ask(requests)
            if drawn is None:
                break
            for look in drawn:
                self._pool += look
        return screens

    def _confirm(self, screens: Sequence[TraceScreen]) -> Generator[Requests, Answers, list[Confirmation]]:
        """Fresh rollouts for what the screen advanced, as far as spending allows."""
        self.phase = "confirm"
        pending = [
            self._confirmation(screen, i, k)
            for i, screen in enumerate(screens)
            for k in sorted(screen.advanced)
        ]
        likely = [(place, i, k) for i, s in enumerate(screens) for place, k in enumerate(s.advanced)]
        rank = {(i, int(screens[i].map.forks[k])): place for place, i, k in likely}
        # The screen advances the likeliest first: where not all can be paid, these are confirmed.
        yield from self._confirm_all(sorted(pending, key=lambda c: rank[c.trace_index, c.position]))
        return pending

    def _affordable(self) -> list[Confirmation]:
        """The confirmations to go on with: all, or the first that what is left can bring to their end.

        Those with the largest effects so far come before the others.
        """
        going = [c for c in self._pending if not c.stopped]
        if sum(c.expected_tokens() for c in going) <= self.tokens_left:
            return going
        going.sort(key=lambda c: -abs(c.delta()) if c.looks_taken else 0.0)
        costs = np.cumsum([c.expected_tokens() for c in going])
        return going[: max(1, int((costs <= self.tokens_left).sum()))]

    def expected_tokens(self, request: RolloutRequest) -> int:
        """Roughly what a request's rollouts will generate, by the mean length of those so far; at least n."""
        drawn = sum(rollout.count for rollout in self._pool)
        length = sum(rollout.count * rollout.length for rollout in self._pool) / max(drawn, 1)
        return int(request.n * max(length - len(request.prefix), 1.0))

    def tokens_to_confirm(self) -> int:
        """Roughly what it will take to confirm all that was advanced and is not decided."""
        waiting = sum(
            2 * EXPECTED_LOOK * int(screen.rollout_cost(self._pool)[screen.advanced].sum())
            for screen in self._screens
        )
        return waiting + sum(c.expected_tokens() for c in self._pending if not c.stopped)

    def _confirmation(
        self, screen: TraceScreen, trace_index: int, k: int, audit_weight: float | None = None
    ) -> Confirmation:
        """The confirmation of a trace's fork: a token, or a sentence."""
        trace_map = screen.map
        success = bool(trace_map.final_value) if self._whole(trace_map.trace) else None
        return Confirmation(
            *(
                trace_map.trace,
                success,
                trace_index,
                int(trace_map.forks[k]),
                self._config.threshold,
                self._seed,
            ),
            key=self._key(),
            sampling=self._config.sampling,
            audit_weight=audit_weight,
            end=int(trace_map.ends[k]) if trace_map.unit == "sentence" else None,
        )

    def _whole(self, trace: Trace) -> bool:
        """Whether a trace is known to be a whole completion: given ids may stop anywhere."""
        if self._given is None or trace.finish == "budget":
            return True
        stop = self._policy.end_of_stop(trace.completion, self._config.sampling.stop)
        return trace.completion[-1] in self._policy.end_token_ids or stop == len(trace.completion)

    def _audit(self, screens: Sequence[TraceScreen]) -> Generator[Requests, Answers, list[Confirmation]]:
        """Fresh rollouts at some of what the screen dropped, drawn by chance (`pts.pivot_search.audit`)."""
        share = self._config.audit
        if not share:
            return []
        self.phase = "audit"
        places = [(i, k) for i, screen in enumerate(screens) for k in sorted(screen.dropped)]
        costs = [screen.rollout_cost(self._pool) for screen in screens]
        pivotal = np.array([screens[i].dropped[k] for i, k in places])
        chances = inclusion_chances(
            pivotal,
            ROLLOUTS * np.array([costs[i][k] for i, k in places]),
            share * sum(self._spent.values()),
        )
        chosen = np.flatnonzero(draw_audits(chances, derive_seed(self._seed, "audit")))
        audits = [
            self._confirmation(screens[i], i, k, 1.0 / float(chances[place]))
            for place in chosen.tolist()
            for i, k in (places[place],)
        ]
        yield from self._confirm_all(audits)
        if all(audit.stopped for audit in audits):
            self._audited = audit_draw(pivotal, chances)
        return audits

    def _confirm_all(self, pending: Sequence[Confirmation]) -> Generator[Requests, Answers, None]:
        """Looks at all of them at once, until every one has stopped or spending has ended."""
        before = self.confirmed
        self._screens, self._pending = (), list(pending)
        while going := self._affordable():
            looks = [c.requests() for c in going]
            drawn = yield from self._ask([request for look in looks for request in look])
            if drawn is None:
                break
            answers = iter(drawn)
            for c, look in zip(going, looks, strict=True):
                c.add([rollout for _ in look for rollout in next(answers)])
            self.confirmed = before + sum(c.stopped and abs(c.delta()) >= c.threshold for c in pending)

    def _searched_trace(
        self,
        index: int,
        success: bool,
        screens: Sequence[TraceScreen],
        confirmations: Sequence[Confirmation],
        sentences: tuple[Span, ...],
    ) -> SearchedTrace:
        """A trace's record, by its screens: that of its sentences, of its tokens, or of both in this order."""
        own = [c for c in confirmations if c.trace_index == index]
        trace = screens[0].map.trace
        fates = list(screens[0].fates())
        for c in own:
            if c.end is not None:
                fates[c.position : c.end] = "c" * (c.end - c.position)
        if len(screens) > 1:
            inside = [position for c in own for position in range(c.position, c.end or c.position)]
            for position in inside:
                fates[position] = screens[1].fates()[position]
        for c in own:
            if c.end is None:
                fates[c.position] = "c"
        counts = Counter(FATE_LETTERS[letter] for letter in fates)
        return SearchedTrace(
            completion=trace.completion,
            tokens=tuple(self._policy.decode((token,)) for token in trace.completion),
            token_probs=trace.token_probs,
            finish=trace.finish,
            success=success,
            **{fate: counts[fate] for fate in FATE_LETTERS.values()},
            details=self._details("".join(fates), screens[-1], own),
            sentences=sentences,
        )

    def _details(self, fates: str, screen: TraceScreen, own: Sequence[Confirmation]) -> TokenDetails:
        """Each token's fate and offset, and the value that all rollouts together say it has."""
        confirming = (r for c in own for rollouts in (c.on, c.off) for r in rollouts)
        asked = screen.asked.union(*(c.asked for c in own))
        successes, draws = off_trace_counts([*self._pool, *confirming], screen.map, asked)
        mean, low, high = believed_values(screen.map, successes, draws)
        offsets = text_offsets(screen.map.trace.completion, self._policy.decode)
        return TokenDetails(fates, offsets, *(tuple(each.round(3).tolist()) for each in (mean, low, high)))

    def _result(
        self,
        status: ProblemStatus,
        traces: tuple[SearchedTrace, ...] = (),
        candidates: tuple[Candidate, ...] = (),
    ) -> ProblemResult:
        successes, n = tally([r for r in self._pool if r.request.prefix == () and r.request.avoid is None])
        return ProblemResult(
            problem_id=self.problem.id,
            query=self.problem.query,
            answer=self.problem.answer,
            seed=self._config.seed,
            status=status,
            prompt=self._prompt,
            prompt_value=successes / n if n else float("nan"),
            prompt_n=n,
            traces=traces,
            candidates=candidates,
            tokens_range=self._spent["range"],
            tokens_traces=self._spent["traces"],
            tokens_screen=self._spent["screen"],
            tokens_confirm=self._spent["confirm"],
            tokens_audit=self._spent["audit"],
            audit=self._audited,
            completions={str(phase): counted for phase, counted in self._completions.items()},
        )
