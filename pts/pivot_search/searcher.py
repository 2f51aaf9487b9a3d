"""The search of one problem as a coroutine: it asks for rollouts and is sent them, whatever draws them."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pts.pivot_search import range_filter
from pts.pivot_search.audit import ROLLOUTS, audit_draw, draw_audits, inclusion_chances
from pts.pivot_search.config import SearchConfig
from pts.pivot_search.confirm import EXPECTED_LOOK, Confirmation, tally
from pts.pivot_search.different import Differs, other_words
from pts.pivot_search.embedded import EmbeddedSentences, require_embeddings
from pts.pivot_search.grades import CompletionGrades
from pts.pivot_search.problem_rollouts import Answers, ProblemRollouts, Requests
from pts.pivot_search.results import AuditDraw, Candidate, ProblemResult, ProblemStatus, SearchedTrace
from pts.pivot_search.screen import PRICE, SENTENCE_PRICE, Dropped, TraceScreen
from pts.pivot_search.sentence_screen import SentenceScreen
from pts.pivot_search.sentences import sentence_spans
from pts.pivot_search.trace_record import searched_trace
from pts.pivot_search.traces import drawn_traces, given_traces, is_whole, map_trace, shared_tokens
from pts.pivot_search.values import GradedRollout, TraceMap
from pts.policies.protocol import Policy
from pts.records import Completions, Problem, TokenDistribution, TokenIds
from pts.seeds import derive_seed
from pts.setting_names import setting

logger = logging.getLogger(__name__)

LONG_SEARCH = 100_000
"""Expected tokens above which the cost of screening a problem is said before it is paid."""


@dataclass(frozen=True)
class SearchedTokens:
    """What a search of a problem's tokens gave, for one that goes on with its sentences.

    `screened` are the rollouts of its screen.
    """

    result: ProblemResult
    screened: Sequence[GradedRollout]


class ProblemSearch:
    """One problem's search: its phases in order, and what each makes of the `rollouts` so far."""

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
        self.confirmed = 0
        self.tokens_left = float("inf")
        """What a spending limit leaves for this search, as of now."""
        if config.different == "embedding":
            require_embeddings(policy)
        self.rollouts = ProblemRollouts(problem.id, policy.encode(problem), config.sampling)
        self._policy = policy
        self._grades = grades
        self._config = config
        self._given = given
        self._tokens = tokens
        self._seed = derive_seed(config.seed, problem.id)
        self._audited: AuditDraw | None = None
        self._screens: Sequence[TraceScreen] = ()
        self._pending: list[Confirmation] = []

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
        prompt, sampling = self.rollouts.prompt, self._config.sampling
        distributions = [self._policy.next_token_probs(prompt, t.completion, sampling) for t in traces]
        maps = [map_trace(t, d) for t, d in zip(traces, distributions, strict=True)]
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
                self.rollouts.pool,
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
        self.rollouts.pool += tokens.screened
        sentences = self._sentences(maps)
        pending = yield from self._confirm([], sentences)
        traces = tuple(
            replace(trace, sentences=() if by_sentence is None else by_sentence.spans)
            for trace, by_sentence in zip(earlier.traces, sentences, strict=True)
        )
        candidates = self._candidates([c for c in pending if c.looks_taken], distributions)
        cut = not all(c.stopped for c in pending)
        result = self._result("spent" if cut else "searched", traces, (*earlier.candidates, *candidates))
        counted = self.rollouts.completions | {
            phase: self.rollouts.completions[phase] + (earlier.completions or {}).get(phase, Completions())
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

    def _range_filter(self) -> Generator[Requests, Answers, bool | None]:
        """Whether the prompt's value leaves room to search; None where the spending limit came first."""
        rollouts = self.rollouts
        judged: bool | None = None
        for look, total in enumerate(range_filter.LOOKS):
            n = total - sum(r.count for r in rollouts.pool)
            seed = derive_seed(self._seed, "range", look)
            drawn = yield from rollouts.ask([rollouts.request(look + 1, n=n, seed=seed)])
            if drawn is None:
                return None
            rollouts.pool += drawn[0]
            judged = range_filter.judge(*tally(rollouts.pool), self._config.value_range)
            if judged is not None:
                break
        return judged

    def _traces(self) -> Generator[Requests, Answers, list[GradedRollout] | None]:
        """The completions to search, given or drawn, equal ones once; None where spending has ended."""
        self.rollouts.phase = "traces"
        config = self._config
        if self._given is None:
            return (yield from drawn_traces(self.rollouts, config.traces, self._seed))
        return (yield from given_traces(self.rollouts, self._given, config.sampling.budget, self._grades))

    def _sentences(self, maps: Sequence[TraceMap]) -> list[SentenceScreen | None]:
        """The traces' sentences, judged by all rollouts so far; None where only tokens are searched."""
        if self._config.unit == "token":
            return [None] * len(maps)
        return [
            SentenceScreen.of(
                each,
                self.rollouts.pool,
                sentence_spans(each.trace.completion, self._policy.decode),
                self._config.threshold,
                self._config.region,
                shared_tokens(maps, i),
            )
            for i, each in enumerate(maps)
        ]

    def _screen(self, maps: Sequence[TraceMap]) -> Generator[Requests, Answers, list[TraceScreen]]:
        """Screens the traces by their maps."""
        config, rollouts = self._config, self.rollouts
        rollouts.phase = "screen"
        screens = [
            TraceScreen(
                each,
                config.threshold,
                config.region,
                seed=derive_seed(self._seed, "screen", i),
                shared=shared_tokens(maps, i),
                key=rollouts.key(i),
                sampling=config.sampling,
                price=SENTENCE_PRICE if config.unit == "sentence" else PRICE,
            )
            for i, each in enumerate(maps)
        ]
        expected = sum(screen.expected_tokens(rollouts.pool) for screen in screens)
        if expected >= LONG_SEARCH:
            logger.warning(
                "problem %s has %d candidates: the screen is expected to generate about %s tokens "
                f"for it ({setting('region')} and {setting('max_tokens')} limit this).",
                self.problem.id,
                sum(screen.open for screen in screens),
                f"{expected:,}",
            )
        self._screens = screens
        while requests := [request for screen in screens for request in screen.next_look(rollouts.pool)]:
            drawn = yield from rollouts.ask(requests)
            if drawn is None:
                break
            for look in drawn:
                rollouts.pool += look
        return screens

    def _confirm(
        self, screens: Sequence[TraceScreen], sentences: Sequence[SentenceScreen | None]
    ) -> Generator[Requests, Answers, list[Confirmation]]:
        """Fresh rollouts for the tokens or sentences that were advanced, as far as spending allows.

        The likeliest of every trace come first: where not all can be paid, these are confirmed.
        """
        self.rollouts.phase = "confirm"
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

    def tokens_to_confirm(self) -> int:
        """Roughly what it will take to confirm all that was advanced and is not decided."""
        sides = 4 if self._config.unit == "both" else 2  # A pivotal token's sentence is mostly pivotal too.
        pool = self.rollouts.pool
        waiting = sum(sides * EXPECTED_LOOK * screen.tokens_to_confirm(pool) for screen in self._screens)
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
        sampling = self._config.sampling
        whole = self._given is None or is_whole(trace_map.trace, self._policy, sampling.stop)
        success = bool(trace_map.final_value) if whole else None
        return Confirmation(
            *(trace_map.trace, success, trace_index, position, self._config.threshold, self._seed),
            key=self.rollouts.key(),
            sampling=sampling,
            audit_weight=audit_weight,
            end=end,
        )

    def _audit(
        self, screens: Sequence[TraceScreen], sentences: Sequence[SentenceScreen | None]
    ) -> Generator[Requests, Answers, list[Confirmation]]:
        """Fresh rollouts at some of what was dropped, drawn by chance (`pts.pivot_search.audit`).

        Where sentences alone are searched it draws from sentences, otherwise from tokens.
        """
        share = self._config.audit
        if not share:
            return []
        rollouts = self.rollouts
        rollouts.phase = "audit"
        by_trace: list[tuple[int, Sequence[Dropped]]]
        if self._config.unit == "sentence":
            by_trace = [(i, s.dropped(rollouts.pool)) for i, s in enumerate(sentences) if s is not None]
        else:
            by_trace = [(i, screen.dropped(rollouts.pool)) for i, screen in enumerate(screens)]
        places = [(i, each) for i, dropped in by_trace for each in dropped]
        pivotal = np.array([each.pivotal for _, each in places])
        costs = ROLLOUTS * np.array([each.cost for _, each in places])
        chances = inclusion_chances(pivotal, costs, share * sum(rollouts.tokens.values()))
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
            drawn = yield from self.rollouts.ask([request for look in looks for request in look])
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
        rollouts = self.rollouts
        successes, n = tally([r for r in rollouts.pool if r.request.prefix == () and r.request.avoid is None])
        return ProblemResult(
            problem_id=self.problem.id,
            query=self.problem.query,
            answer=self.problem.answer,
            seed=self._config.seed,
            status=status,
            prompt=rollouts.prompt,
            prompt_value=successes / n if n else float("nan"),
            prompt_n=n,
            traces=traces,
            candidates=candidates,
            tokens_range=rollouts.tokens["range"],
            tokens_traces=rollouts.tokens["traces"],
            tokens_screen=rollouts.tokens["screen"],
            tokens_confirm=rollouts.tokens["confirm"],
            tokens_audit=rollouts.tokens["audit"],
            audit=self._audited,
            completions={str(phase): counted for phase, counted in rollouts.completions.items()},
        )
