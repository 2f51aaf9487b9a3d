"""A problem's line in a search's journal of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pts.pivot_search.results import ProblemResult
from pts.runs.journal import Journal


@dataclass(frozen=True, slots=True)
class Context:
    """A token's surroundings as text, decoded together: tokens decoded one by one may lose their spaces.

    `before` includes the prompt with its chat template; `after` is the beginning of what followed.
    """

    before: str
    token: str
    after: str


@dataclass(frozen=True, slots=True)
class ShardLine:
    """One problem's result, with what a later command needs to trust it and to show it.

    `digest` identifies the problem's text, answer and id; `max_tokens` is the run's spending limit when the
    problem was searched; `contexts` are the candidates' surroundings, one each, in their order.
    `undecided` counts the completions graded since the line before that the grader could not decide. `paid` are
    the tokens generated for the problem since its line before, and `search` names the settings of the search
    (`pts.runs.search_run.search_digest`); both are None in a line of an earlier version.
    """

    digest: str
    max_tokens: int | None
    result: ProblemResult
    contexts: tuple[Context, ...] = ()
    undecided: int = 0
    paid: int | None = None
    search: str | None = None

    @property
    def reused(self) -> int:
        """Tokens of the result's rollouts that an earlier line had accounted for."""
        return 0 if self.paid is None else max(0, self.result.tokens_generated - self.paid)

    def settled(self, max_tokens: int | None) -> bool:
        """Whether the problem needs no further search under the spending limit `max_tokens`.

        A problem that the limit cut short is searched again under a larger one, or under none.
        """
        if self.result.status != "spent":
            return True
        return self.max_tokens is not None and max_tokens is not None and max_tokens <= self.max_tokens


def results_journal(path: Path) -> Journal[ShardLine]:
    """The journal of a search's results: a line for each problem as it is done."""
    return Journal(path, ShardLine)


def latest_results(lines: Sequence[ShardLine], search: str) -> dict[str, ShardLine]:
    """Each problem's last line by these search settings, by problem id, in the order of first appearance.

    A line of an earlier version, which does not name its settings, has those of its run.
    """
    return {line.result.problem_id: line for line in lines if line.search in (None, search)}
