"""Answers that a regular expression of the user's finds."""

from __future__ import annotations

import re

from pts.errors import GraderError
from pts.graders.plain_characters import plain_characters
from pts.graders.run_on import answered_part
from pts.setting_names import setting


class PatternGrader:
    """The one group of the pattern's last match equals the reference, outer spaces aside.

    Matches in a next question that the completion runs on to count only where there are no others.

    Raises GraderError for a pattern that does not compile or has other than one group.
    """

    def __init__(self, pattern: str | None) -> None:
        if not pattern:
            raise GraderError(
                f"The regex grader needs a pattern with one group; give it with {setting('grader_pattern')}."
            )
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise GraderError(f"The pattern {pattern!r} is not a regular expression: {error}.") from error
        if self._pattern.groups != 1:
            raise GraderError(
                f"The pattern {pattern!r} has {self._pattern.groups} groups; put one (…) around the answer, "
                "and write the others (?:…)."
            )

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an empty answer."""
        if not answer.strip():
            raise GraderError(f"The reference answer {answer!r} is empty; leave the problem out.")

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the last match's group is the answer; False without a match."""
        found: list[str] = self._pattern.findall(answered_part(completion)) or self._pattern.findall(completion)
        return bool(found) and plain_characters(found[-1]).strip() == plain_characters(answer).strip()
