"""The demo's grader: the whole number after the last "The answer is"."""

from __future__ import annotations

import re

from pts.errors import GraderError
from pts.graders.plain_characters import plain_characters
from pts.graders.run_on import answered_part
from pts.setting_names import setting

_STATED = re.compile(r"The answer is\s+(-?\s?\d+)(?!\s*\d)")


def stated_number(completion: str) -> int | None:
    """The number after the last "The answer is"; None where none is stated there."""
    last = completion.rfind("The answer is")
    match = _STATED.match(completion, last) if last >= 0 else None
    return None if match is None else int(match.group(1).replace(" ", ""))


class DemoGrader:
    """The number after the last "The answer is", in just these words, equals the reference."""

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer that is not a whole number."""
        if not re.fullmatch(r"-?\d+", answer.strip()):
            raise GraderError(
                f"The reference answer {answer!r} is not a whole number; the demo grader is for "
                f"{setting('dataset', 'demo')}, use {setting('grader', 'math')}."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the number agrees; False where none is stated."""
        return stated_number(answered_part(plain_characters(completion))) == int(answer)
