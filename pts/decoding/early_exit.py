"""Thinking that stops as soon as a trial answer is confident."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pts.decoding.answers import Answer
from pts.decoding.confidence import geometric_mean
from pts.decoding.limits import Amount, ThinkingBudget, TokenLimits, tokens_of
from pts.decoding.session import Ask, Draft, Question, Session
from pts.decoding.strategies import OneReader, require_no_stop, require_think_format, require_thinking
from pts.errors import ConfigError
from pts.records import TokenIds
from pts.seeds import derive_seed

THRESHOLD, STEP, TRIAL_TOKENS, OPENING = 0.95, 1 / 16, 16, "\n\nThe answer is"


@dataclass(slots=True, eq=False)
class _Thought:
    """One question on its way: its thinking so far, and what its trials have cost."""

    index: int
    question: Question
    ask: Ask
    draft: Draft | None = None
    probe: int = 0
    rejected: int = 0
    reported: int = 0
    over: bool = False
    confidence: float | None = None
    exited: bool = False


@dataclass(frozen=True, slots=True)
class EarlyExit(OneReader):
    """Thinks until a trial answer's confidence reaches `threshold` (after DEER, Yang et al. 2025).

    A trial is made where a thought turns, and at the first end of a sentence after `step` tokens (a share of
    the total where it is a float) since the last one: thinking is closed by force, the word by which the
    thought turned left out, the answer begun by `opening`, and at most `trial_tokens` more are drawn. Its
    confidence is the geometric mean of the model's own probabilities of them. DEER gives 0.95.

    The trial that passes is the beginning of the answer and goes on from there, so its tokens are `answer` (and
    the forced ones `thinking` and `injected`); those of all other trials are `probe`, and the word left out is
    `rejected`. It saves tokens and keeps success only where the model is unsure of an answer that is not yet
    thought through: one that copies its last thought with certainty exits at once. `budget` holds for the whole
    completion; before its least thinking no trial is made. `confidence` is the last trial's, `route` "early"
    or "full". Raises ConfigError for a threshold outside (0, 1], or a step or trial without tokens.
    """

    name: str
    threshold: float = THRESHOLD
    step: Amount = STEP
    trial_tokens: int = TRIAL_TOKENS
    opening: str = OPENING
    budget: ThinkingBudget = ThinkingBudget()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"the exit threshold is {self.threshold:g}; it must be above 0 and at most 1.")
        if self.step <= 0 or self.trial_tokens < 1 or (isinstance(self.step, float) and self.step > 1):
            raise ConfigError(
                f"a trial of {self.trial_tokens} tokens every {self.step:g} is not possible: "
                "both must be whole tokens above 0, or the step a share of the total up to "
                "1."
            )

    def check(self, session: Session) -> None:
        """Raise ConfigError for a model without think tags, or an unfit opening or budget."""
        require_think_format(self.name, session)
        require_thinking(self.name, session, self.budget)
        require_no_stop(self.name, session, self.opening)
        opening, answer = self._opening(session), session.limits(self.budget).answer
        if answer is not None and answer <= len(opening):
            raise ConfigError(
                f"an answer of at most {answer} tokens is no longer than the {len(opening)} that begin a trial "
                f"of strategy {self.name}: give more, or a shorter opening."
            )

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Rounds of thinking and of trials, each one batch over all questions that still think."""
        final = session.limits(self.budget)
        pausing = replace(final, pause=True, pause_after=tokens_of(self.step, session.sampling.budget))
        thoughts = [
            _Thought(
                index,
                question,
                Ask(
                    index,
                    session.encode(question.prompt),
                    pausing,
                    question.seed,
                    question.variant,
                    heard=False,
                ),
            )
            for index, question in enumerate(questions)
        ]
        while thoughts:
            by_ask = {id(thought.ask): thought for thought in thoughts}
            for draft in session.complete([thought.ask for thought in thoughts]):
                thought = by_ask[id(draft.ask)]
                thought.draft = draft
                if draft.stop != "pause":
                    yield thought.index, self._answer(session, thought, final)
            thoughts = [thought for thought in thoughts if _draft(thought).stop == "pause"]
            yield from self._trials(session, thoughts, pausing, final)
            thoughts = [thought for thought in thoughts if not thought.over]

    def _trials(
        self, session: Session, thoughts: Sequence[_Thought], pausing: TokenLimits, final: TokenLimits
    ) -> Iterator[tuple[int, Answer]]:
        """Try an answer for each thought; yield those that are whole, and have the others' next ask ready."""
        asks: dict[int, _Thought] = {}
        trials: list[Ask] = []
        for thought in thoughts:
            if _draft(thought).budget.before_turn()[0].thinking < final.least_thinking:
                thought.ask = _onward(thought, _draft(thought), pausing)
                continue
            trial = self._trial(session, thought, final)
            if trial is None:  # no room: what is left of the total is for thinking and its own answer
                thought.ask = _onward(thought, _draft(thought), final)
            else:
                asks[id(trial)] = thought
                trials.append(trial)
        for draft in session.complete(trials, probs=True):
            thought = asks[id(draft.ask)]
            paused = _draft(thought)
            thought.confidence = geometric_mean(draft.probs)
            if thought.confidence < self.threshold:
                thought.probe += draft.new_tokens
                thought.ask = _onward(thought, paused, pausing)
                continue
            thought.exited = True
            thought.rejected = len(paused.completion) - len(draft.ask.prefix)
            thought.draft = draft
            thought.over = draft.ended or draft.budget.answer == final.answer
            if thought.over:
                yield thought.index, self._answer(session, thought, final)
            else:
                thought.ask = _onward(thought, draft, final)

    def _trial(self, session: Session, thought: _Thought, final: TokenLimits) -> Ask | None:
        """The trial answer to ask for; None where the total leaves no room for it."""
        draft = _draft(thought)
        assert session.think is not None
        budget, word = draft.budget.before_turn()
        opening = self._opening(session)
        longest = len(session.think.end) + len(opening) + self.trial_tokens
        session.tell(thought.index, draft.completion[thought.reported : budget.total])
        thought.reported = budget.total
        answer = budget.answer + len(opening) + self.trial_tokens
        if final.answer is not None:
            answer = min(answer, final.answer)
        if budget.total + longest > session.sampling.budget or answer <= budget.answer + len(opening):
            return None
        limits = replace(final, answer=answer)
        return Ask(
            thought.index,
            draft.ask.prompt,
            limits,
            derive_seed(thought.question.seed, "trial"),
            thought.question.variant,
            draft.completion[: len(draft.completion) - word],
            budget.end_thinking(opening),
            heard=False,
        )

    def _answer(self, session: Session, thought: _Thought, final: TokenLimits) -> Answer:
        draft = _draft(thought)
        session.tell(thought.index, draft.completion[thought.reported :])
        return session.answer(
            thought.question,
            draft,
            self.name,
            final,
            probe=thought.probe,
            rejected=thought.rejected,
            route="early" if thought.exited else "full",
            confidence=thought.confidence,
        )

    def _opening(self, session: Session) -> TokenIds:
        policy = session.policy
        ids = policy.encode_completion(self.opening) if self.opening else ()
        if policy.unknown_token_id in ids:
            raise ConfigError(
                f"strategy {self.name} begins a trial answer with {self.opening!r}, which the model's "
                "vocabulary cannot write: give another opening, or an empty one."
            )
        return ids


def _draft(thought: _Thought) -> Draft:
    assert thought.draft is not None
    return thought.draft


def _onward(thought: _Thought, draft: Draft, limits: TokenLimits) -> Ask:
    """Go on from a draft under other limits."""
    return Ask(
        thought.index,
        draft.ask.prompt,
        limits,
        thought.question.seed,
        thought.question.variant,
        draft.completion,
        draft.budget,
        heard=False,
    )
