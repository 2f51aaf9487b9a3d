"""Strategies that only ask for brevity, in words: they do something to models that follow instructions."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pts.decoding.session import Session
from pts.decoding.strategies import Plain

_log = logging.getLogger(__name__)

DRAFT = (
    "Work it out in notes, one short line a step: the numbers or a few keywords, never a sentence. "
    "State the answer last."
)
"""Chain of Draft (Xu et al. 2025), in other words: steps as terse drafts."""


def concise(words: int) -> str:
    """A limit on the whole answer's words, put as an instruction (Nayab et al., Concise Thoughts, 2024)."""
    return f"Keep all of it, reasoning and answer, within {words} words."


@dataclass(frozen=True, slots=True)
class Instructed(Plain):
    """One free completion, with an instruction after the question."""

    def check(self, session: Session) -> None:
        """Warn, by the log, where the vocabulary cannot write the instruction: the model cannot read it."""
        Plain.check(self, session)
        policy = session.policy
        if policy.unknown_token_id in policy.encode_completion(self.suffix or ""):
            _log.warning(
                "strategy %s adds an instruction that the model's vocabulary cannot write: it "
                "will have no effect.",
                self.name,
            )
