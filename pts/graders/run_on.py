"""What a completion says before it runs on into a question that nobody asked."""

from __future__ import annotations

import re
from itertools import islice

from pts.graders.languages import OTHER_ANSWER_WORD

_TURN_TOKEN = re.compile(
    r"<[|\uff5c](?:im_start|im_end|eot_id|eom_id|end_of_text|endoftext|start_header_id|user|system|return"
    r"|end(?![|\uff5c]>\s*<\|start\|>assistant)|begin\u2581of\u2581sentence"
    r"|end\u2581of\u2581sentence)[|\uff5c]>"
    r"|<(?:start|end)_of_turn>|</s>|\[/?INST\]|<eos>",
    re.IGNORECASE,
)
FINAL_CHANNEL = "<|channel|>final<|message|>"
"""What gpt-oss writes before its answer (openai/harmony, "Channels")."""
_HEADING = r"\n[ \t]{0,8}(?:#{1,6}[ \t]{1,4})?(?:\*\*|__)?"
_NEXT = re.compile(
    rf"{_HEADING}(?:(?:next|new|another|example)[ \t]{{1,4}})?"
    r"(?P<label>question|problem|exercise|example|q|user|human|instruction|puzzle|prompt|"
    r"问题|問題|题目|題目|质问|質問|문제|질문|frage|aufgabe|pregunta|pergunta|domanda|вопрос|задача|سؤال|السؤال)"
    r"[ \t]{0,4}(?:(?:no\.?|number|\#)?[ \t]{0,4}(?P<number>\d{1,4}))?[ \t]{0,4}(?:\*\*|__)?[ \t]{0,4}[:.：)]",
    re.IGNORECASE,
)
_NEXT_HEADING = re.compile(
    r"\n[ \t]{0,3}#{1,6}[ \t]{1,4}(?:\*\*)?(?:(?:next|new|another)[ \t]{1,4})?"
    r"(?P<label>question|problem|exercise|example)[ \t]{0,4}(?P<number>\d{1,4})?"
    r"[ \t]{0,4}(?:\*\*)?[ \t]{0,8}(?=\n)",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"\\f?boxed\s{0,4}\{\s{0,20}[^\s}]|\\boxed\s+\w|\banswers?\b[^\n]{0,80}?(?:\b(?:is|are|be|was"
    r"|equals|seems)\b|[:=])\W{0,20}\w|####\s{0,20}\S"
    r"|</answer>|^[ \t]{0,8}(?:a|ans|assistant|solution)[ \t]{0,4}:[ \t]{0,8}\S",
    re.IGNORECASE | re.MULTILINE,
)
_LONGEST_BARE, _BARE_WORDS = 100, 3
_MOST_MARKS = 1_000


def without_next_turn(text: str) -> str:
    """`text` before the first token that ends the assistant's turn, as "<|im_end|>"; all of it without one."""
    text = text.rpartition(FINAL_CHANNEL)[2]
    for match in _TURN_TOKEN.finditer(text):
        if text[: match.start()].strip():
            return text[: match.start()]
    return text


def answered_part(text: str) -> str:
    """`text` up to where, its answer given, it goes on with another question ("Question: …", "User: …").

    Nothing is cut before an answer was stated, so that a completion may repeat its question or ask itself one;
    nor between the numbered questions of a completion that began with the first of them.
    """
    text = without_next_turn(text)
    marks = [*islice(_NEXT.finditer(text), _MOST_MARKS), *islice(_NEXT_HEADING.finditer(text), _MOST_MARKS)]
    marks.sort(key=lambda mark: mark.start())
    if not marks:
        return text
    first = _first_announced(text)
    numbered = _numbers_before(text, marks[0].start())
    for match in marks:
        before = text[: match.start()]
        stated = first is not None and first <= match.start()
        number = 0 if match["number"] is None else int(match["number"])
        if (number == 1 and not stated) or number - 1 in numbered:
            numbered.add(number)
            continue
        if stated or _is_bare_answer(before.strip()):
            return before
    return text


def _numbers_before(text: str, end: int) -> set[int]:
    """The number of a question that the text itself begins with."""
    start = "\n" + text[: min(end, 200)].lstrip()
    begins = _NEXT.match(start) or _NEXT_HEADING.match(start + "\n")
    return set() if begins is None or begins["number"] is None else {int(begins["number"])}


def _is_bare_answer(text: str) -> bool:
    """Whether `text` can be nothing but an answer: one short line with a number, or of a word or two."""
    if not text or "\n" in text or len(text) > _LONGEST_BARE or text.endswith((":", ",")):
        return False
    return len(text.split()) <= _BARE_WORDS or any(character.isdigit() for character in text)


def _first_announced(text: str) -> int | None:
    """Where the first stated answer ends."""
    english = _ANNOUNCED.search(text)
    places = [] if english is None else [english.end()]
    if not text.isascii():
        other = OTHER_ANSWER_WORD.search(text)
        places += [] if other is None else [other.end() + 1]
    return min(places, default=None)
