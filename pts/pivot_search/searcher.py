"""The search of one problem as a coroutine: it asks for rollouts and is sent them, whatever draws them."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, get_args

import numpy as np

from pts.pivot_search import range_filter
from pts.pivot_search.audit import ROLLOUTS, audit_draw, draw_audits, inclusion_chances
from pts.pivot_search.config import Phase, SearchConfig
from pts.pivot_search.confirm import EXPECTED_LOOK, Confirmation, tally
from pts.pivot_search.different import Differs, other_words
from pts.pivot_search.embedded import EmbeddedSentences, require_embeddings
from pts.pivot_search.grades import CompletionGrades
from pts.pivot_search.screen import PRICE, SENTENCE_PRICE, Dropped, TraceScreen
from pts.pivot_search.sentence_screen import SentenceScreen
from pts.pivot_search.sentences import sentence_spans
from pts.pivot_search.trace_record import searched_trace
from pts.pivot_search.values import GradedRollout, TraceMap, shared_length
from pts.policies.protocol import Policy
from pts.records import (
    AuditDraw,
    Candidate,
    Completions,
    Problem,
    ProblemResult,
    ProblemStatus,
    RolloutRequest,
    SearchedTrace,
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


@dataclass(frozen=True)
class SearchedTokens:
    """What a search of a problem's tokens gave, for one that goes on with its sentences.

    `screened` are the rollouts of its screen.
    """

    result: ProblemResult
    screened: Sequence[GradedRollout]


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
        tokens: SearchedTokens | None = None,
    ) -> None:
        self.problem = problem
        self.phase: Phase = "range"
        self.confirmed = 0
        self.tokens_left = float("inf")
        """What a spending limit leaves for this search, as of now."""
        if config.different == "embedding":
            require_embeddings(policy)
        self._policy = policy
        self._grades = grades
        self._config = config
        self._given = given
        self._tokens = tokens
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
            # Tokens that were found stay, though a spending limit came before their sentences.
            spent = self._result("spent")
            return spent if self._tokens is None else replace(self._tokens.result, status="spent")
        sampling = self._config.sampling
        distributions = [self._policy.next_token_probs(self._prompt, t.completion, sampling) for t in traces]
        graded = [self._graded_trace(t, d) for t, d in zip(traces, distributions, strict=True)]
        maps = [TraceMap.of(*each) for each in graded]
        if self._tokens is not None:
            return (yield from self._add_sentences(self._tokens, maps, distributions))
        screens = yield from self._screen(maps)
        sentences = self._sentences(maps)
        pending = yield from self._confirm(screens, sentences)
        cut = any(screen.open for screen in screens) or not all(c.stopped for c in pending)
        if not cut:
            audits = yield from self._audit(screens, sentences)
            cut = not all(c.stopped for c in audits)
            pending += audits
        confirmations = [c for c in pending if c.looks_taken]
        searched = tuple(
            searched_trace(
                screen,
                sentences[i],
                [c for c in confirmations if c.trace_index == i],
                self._pool,
                self._policy.decode,
                by_sentence=self._config.unit == "sentence",
            )
            for i, screen in enumerate(screens)
        )
        candidates = self._candidates(confirmations, distributions)
        return self._result("spent" if cut else "searched", searched, candidates)

    def _add_sentences(
        self,
        tokens: SearchedTokens,
        maps: Sequence[TraceMap],
        distributions: Sequence[Sequence[TokenDistribution]],
    ) -> Generator[Requests, Answers, ProblemResult]:
        """The result of a search of tokens, with the sentences of the same traces added."""
        earlier = tokens.result
        self._pool += tokens.screened
        sentences = self._sentences(maps)
        pending = yield from self._confirm([], sentences)
        traces = tuple(
            replace(trace, sentences=() if by_sentence is None else by_sentence.spans)
            for trace, by_sentence in zip(earlier.traces, sentences, strict=True)
        )
        candidates = self._candidates([c for c in pending if c.looks_taken], distributions)
        cut = not all(c.stopped for c in pending)
        result = self._result("spent" if cut else "searched", traces, (*earlier.candidates, *candidates))
        counted = self._completions | {
            phase: self._completions[phase] + (earlier.completions or {}).get(phase, Completions())
            for phase in ("screen", "confirm", "audit")
        }
        return replace(
            result,
            tokens_screen=earlier.tokens_screen,
            tokens_confirm=earlier.tokens_confirm + result.tokens_confirm,
            tokens_audit=earlier.tokens_audit,
            audit=earlier.audit,
            completions={str(phase): drawn for phase, drawn in counted.items()},
        )

    def _candidates(
        self, confirmations: Sequence[Confirmation], distributions: Sequence[Sequence[TokenDistribution]]
    ) -> tuple[Candidate, ...]:
        """The records of what was confirmed; distributions are by trace and position."""
        decode, differs = self._policy.decode, self._sentence_measure(confirmations)
        return tuple(
            c.candidate(decode, distributions[c.trace_index][c.position], differs) for c in confirmations
        )

    def _sentence_measure(self, confirmations: Sequence[Confirmation]) -> Differs:
        """What tells a different sentence, for these sentences and what was written in their place."""
        if self._config.different == "words":
            return other_words
        decode, sentences = self._policy.decode, [c for c in confirmations if c.end is not None]
        return EmbeddedSentences(self._policy, ((c.text(decode), c.written_instead(decode)) for c in sentences))

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

    def _sentences(self, maps: Sequence[TraceMap]) -> list[SentenceScreen | None]:
        """The traces' sentences, judged by all rollouts so far; None where only tokens are searched."""
        if self._config.unit == "token":
            return [None] * len(maps)
        completions = [each.trace.completion for each in maps]
        return [
            SentenceScreen.of(
                each,
                self._pool,
                sentence_spans(completions[i], self._policy.decode),
                self._config.threshold,
                self._config.region,
                _shared(completions, i),
            )
            for i, each in enumerate(maps)
        ]

    def _screen(self, maps: Sequence[TraceMap]) -> Generator[Requests, Answers, list[TraceScreen]]:
        """Screens the traces by their maps."""
        self.phase = "screen"
        config = self._config
        completions = [each.trace.completion for each in maps]
        screens = [
            TraceScreen(
                each,
                config.threshold,
                config.region,
                seed=derive_seed(self._seed, "screen", i),
                shared=_shared(completions, i),
                key=self._key(i),
                sampling=config.sampling,
                price=SENTENCE_PRICE if config.unit == "sentence" else PRICE,
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

    def _confirm(
        self, screens: Sequence[TraceScreen], sentences: Sequence[SentenceScreen | None]
    ) -> Generator[Requests, Answers, list[Confirmation]]:
        """Fresh rollouts for the tokens or sentences that were advanced, as far as spending allows.

        The likeliest of every trace come first: where not all can be paid, these are confirmed.
        """
        self.phase = "confirm"
        ranked: list[tuple[int, Confirmation]] = []
        for i, screen in enumerate(screens if self._config.unit != "sentence" else ()):
            forks = [int(screen.map.forks[k]) for k in screen.advanced]
            ranked += [(rank, self._confirmation(screen.map, i, fork)) for rank, fork in enumerate(forks)]
        for i, each in enumerate(sentences):
            if each is not None:
                spans = enumerate(each.advanced)
                ranked += [(rank, self._confirmation(each.map, i, *span)) for rank, span in spans]
        ranked.sort(key=lambda each: each[0])
        pending = [c for _, c in ranked]
        yield from self._confirm_all(pending)
        return sorted(pending, key=lambda c: (c.end is not None, c.trace_index, c.position))

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
        sides = 4 if self._config.unit == "both" else 2  # A pivotal token's sentence is mostly pivotal too.
        waiting = sum(sides * EXPECTED_LOOK * screen.tokens_to_confirm(self._pool) for screen in self._screens)
        return waiting + sum(c.expected_tokens() for c in self._pending if not c.stopped)

    def _confirmation(
        self,
        trace_map: TraceMap,
        trace_index: int,
        position: int,
        end: int | None = None,
        audit_weight: float | None = None,
    ) -> Confirmation:
        """The confirmation of a trace's token, or with `end` of the sentence from there to it."""
        success = bool(trace_map.final_value) if self._whole(trace_map.trace) else None
        return Confirmation(
            *(trace_map.trace, success, trace_index, position, self._config.threshold, self._seed),
            key=self._key(),
            sampling=self._config.sampling,
            audit_weight=audit_weight,
            end=end,
        )

    def _whole(self, trace: Trace) -> bool:
        """Whether a trace is known to be a whole completion: given ids may stop anywhere."""
        if self._given is None or trace.finish == "budget":
            return True
        stop = self._policy.end_of_stop(trace.completion, self._config.sampling.stop)
        return trace.completion[-1] in self._policy.end_token_ids or stop == len(trace.completion)

    def _audit(
        self, screens: Sequence[TraceScreen], sentences: Sequence[SentenceScreen | None]
    ) -> Generator[Requests, Answers, list[Confirmation]]:
        """Fresh rollouts at some of what was dropped, drawn by chance (`pts.pivot_search.audit`).

        Where sentences alone are searched it draws from sentences, otherwise from tokens.
        """
        share = self._config.audit
        if not share:
            return []
        self.phase = "audit"
        by_trace: list[tuple[int, Sequence[Dropped]]]
        if self._config.unit == "sentence":
            by_trace = [(i, each.dropped(self._pool)) for i, each in enumerate(sentences) if each is not None]
        else:
            by_trace = [(i, screen.dropped(self._pool)) for i, screen in enumerate(screens)]
        places = [(i, each) for i, dropped in by_trace for each in dropped]
        pivotal = np.array([each.pivotal for _, each in places])
        costs = ROLLOUTS * np.array([each.cost for _, each in places])
        chances = inclusion_chances(pivotal, costs, share * sum(self._spent.values()))
        chosen = np.flatnonzero(draw_audits(chances, derive_seed(self._seed, "audit")))
        audits = [
            self._confirmation(screens[i].map, i, each.position, each.end, 1.0 / float(chances[place]))
            for place in chosen.tolist()
            for i, each in (places[place],)
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


def _shared(completions: Sequence[TokenIds], index: int) -> int:
    """How many leading tokens a trace shares with an earlier one of its problem."""
    return max((shared_length(completions[index], c) for c in completions[:index]), default=0)
