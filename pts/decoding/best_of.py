"""Several completions, and the answer that most of them give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pts.decoding.answers import Answer
from pts.decoding.confidence import mean_log_prob, require_draws
from pts.decoding.limits import ThinkingBudget
from pts.decoding.session import Ask, Draft, Question, Session, branch_seed
from pts.decoding.strategies import OneReader, require_thinking
from pts.decoding.votes import answer_key


@dataclass(frozen=True, slots=True)
class BestOf(OneReader):
    """`n` completions and a majority vote over their answers (Wang et al., self-consistency, 2022).

    Each completion is within `budget`. Only completions that ended by themselves vote, where there is one;
    answers are the same where `pts.decoding.votes.answer_key` is. Of answers with as many votes the likelier
    wins, by the mean over its completions of their tokens' mean log-probability; the likeliest completion with
    it is returned. The tokens of all others are `rejected`; `confidence` is the winner's share of the `n`. The
    first completion is the one that `full` gives.
    """

    name: str
    n: int
    budget: ThinkingBudget = ThinkingBudget()  # noqa: RUF009 (frozen)

    def check(self, session: Session) -> None:
        """Raise ConfigError for a greedy sampler, whose completions are all the same, or an unfit budget."""
        require_draws(self.name, session)
        require_thinking(self.name, session, self.budget)

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """All completions of all questions in one batch; a question is answered when its last is done."""
        limits = session.limits(self.budget)
        asks = []
        for index, question in enumerate(questions):
            prompt = session.encode(question.prompt)
            asks += [
                Ask(index, prompt, limits, branch_seed(question.seed, k), question.variant, heard=False)
                for k in range(self.n)
            ]
        drafts: dict[int, list[Draft]] = defaultdict(list)
        for draft in session.complete(asks, probs=True):
            index = draft.ask.question
            drafts[index].append(draft)
            if len(drafts[index]) == self.n:
                yield index, self._voted(session, questions[index], index, drafts.pop(index))

    def _voted(self, session: Session, question: Question, index: int, drafts: list[Draft]) -> Answer:
        order = {branch_seed(question.seed, k): k for k in range(self.n)}
        drafts.sort(key=lambda draft: order[draft.ask.seed])
        chosen, share = vote(session, drafts)
        session.tell(index, chosen.completion)
        rejected = sum(len(draft.completion) for draft in drafts) - len(chosen.completion)
        return session.answer(question, chosen, self.name, rejected=rejected, confidence=share)


def vote(session: Session, drafts: Sequence[Draft]) -> tuple[Draft, float]:
    """The completion that is returned, and its answer's share of the votes (0 where none has an answer)."""
    groups: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        key = answer_key(session.texts(draft)[2]) if draft.ended else ""
        groups[key].append(draft)
    unanswered = groups.pop("", [])
    if not groups:
        return max(unanswered, key=_likelihood), 0.0
    winners = max(groups.values(), key=lambda group: (len(group), sum(map(_likelihood, group)) / len(group)))
    return max(winners, key=_likelihood), len(winners) / len(drafts)


def _likelihood(draft: Draft) -> float:
    return mean_log_prob(draft.probs)
