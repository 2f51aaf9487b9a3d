"""The words of the demo language, each of them one token."""

from __future__ import annotations

from pts.demo.expressions import MAX_NUMBER

UNKNOWN = "<unk>"
PAD = "<pad>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
THINK_START = "<think>"
THINK_END = "</think>"

_MARKS = ("+", "-", "=", ".", ",", ":", "?")
_ROLES = ("system", "user", "assistant")
_QUESTION = ("What", "what", "is", "Compute", "compute")
_ANSWER = ("The", "answer")
ORDERING_WORDS = ("First", "Next", "Then", "Finally")
_OPENERS = ("Split", "Wait", "Alternatively", "Check")
_COMMENTS = ("that", "wrong", "right", "it")
_PRACTICE = ("Practice",)


def vocabulary() -> tuple[str, ...]:
    """Every token, in the order of its id."""
    return (
        PAD,
        UNKNOWN,
        TURN_START,
        TURN_END,
        THINK_START,
        THINK_END,
        *_MARKS,
        *_ROLES,
        *_QUESTION,
        *_ANSWER,
        *ORDERING_WORDS,
        *_OPENERS,
        *_COMMENTS,
        *_PRACTICE,
        *(str(number) for number in range(MAX_NUMBER + 1)),
    )
