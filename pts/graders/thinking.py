"""Grading what follows the thinking, not the thinking itself."""

from __future__ import annotations

from dataclasses import dataclass

from pts.graders.protocol import Grader
from pts.graders.run_on import FINAL_CHANNEL, without_next_turn
from pts.graders.undecided import undecided_by


@dataclass(frozen=True, slots=True)
class AfterThinking:
    """A grader of the text after the last `think_end`.

    A completion without `think_end` fails where `required` (its thinking was cut) and is graded whole where
    not (the model answered without thinking).
    """

    grader: Grader
    think_end: str
    required: bool = False

    @property
    def undecided(self) -> int:
        """How many completions the inner grader could not decide."""
        return undecided_by(self.grader)

    def check_reference(self, answer: str) -> None:
        """As the inner grader does."""
        self.grader.check_reference(answer)

    def __call__(self, completion: str, answer: str) -> bool:
        """The inner grader's verdict on what follows the thinking."""
        _, tag, visible = without_next_turn(completion).rpartition(self.think_end)
        # A final channel, of which only what follows is left, says that the thinking has ended too.
        if self.required and not tag and FINAL_CHANNEL not in completion:
            return False
        return self.grader(visible, answer)
