"""What the search asks of a grader, and how a plain function becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Grader(Protocol):
    """Completion text to success. It sees the completion alone, never the prompt."""

    def check_reference(self, answer: str) -> None:
        """Raises GraderError, before any token is generated, for a reference answer that cannot be read."""

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the completion's answer is the reference answer."""


@dataclass(frozen=True, slots=True)
class CallableGrader:
    """A user's own `function(completion, answer) -> bool` as a Grader that takes any reference answer."""

    function: Callable[[str, str], bool]

    def check_reference(self, answer: str) -> None:
        """Accepts every reference answer: only the function knows what it can read."""

    def __call__(self, completion: str, answer: str) -> bool:
        """What the function says."""
        return bool(self.function(completion, answer))
