"""What a completion says before it runs on into a question that nobody asked."""

from __future__ import annotations

import re

from pts.graders.languages import OTHER_ANSWER_WORD

_TURN_TOKEN = re.compile(
    r"<[|\uff5c](?:im_start|im_end|eot_id|eom_id|end_of_text|endoftext|start_header_id|user|system|return"
    r"|end(?![|\uff5c]>\s*<\|start\|>assistant)|begin\u2581of\u2581sentence"
    r"|end\u2581of\u2581sentence)[|\uff5c]>"
    r"|<(?:start|end)_of_turn>|</s>|\[/?INST\]|<eos>",
    re.IGNORECASE,
)
_HEADING = r"^[ \t]{0,8}(?:#{1,6}[ \t]{1,4})?(?:\*\*|__)?"
_NEXT = re.compile(
    rf"{_HEADING}(?:(?:next|new|another|example)[ \t]{1, 4})?"
    r"(?P<label>question|problem|exercise|example|q|user|human|instruction|puzzle|prompt|"
    r"问题|問題|题目|題目|质问|質問|문제|질문|frage|aufgabe|pregunta|pergunta|domanda|вопрос|задача|سؤال|السؤال)"
    r"[ \t]{0,4}(?:(?:no\.?|number|\#)?[ \t]{0,4}(?P<number>\d{1,4}))?[ \t]{0,4}(?:\*\*|__)?[ \t]{0,4}[:.：)]",
    re.IGNORECASE | re.MULTILINE,
)
_ANNOUNCED = re.compile(
    r"\\f?boxed\s{0,4}\{\s{0,20}[^\s}]|\\boxed\s+\w|\banswers?\b[^\n]{0,80}?(?:\b(?:is|are|be|was"
    r"|equals|seems)\b|[:=])\W{0,20}\w|####\s{0,20}\S"
    r"|</answer>|^[ \t]{0,8}(?:a|ans|assistant|solution)[ \t]{0,4}:[ \t]{0,8}\S",
    re.IGNORECASE | re.MULTILINE,
)
_LONGEST_BARE = 100
_MOST_MARKS = 1_000


def without_next_turn(text: str) -> str:
    """`text` before the first token that ends the assistant's turn, as "<|im_end|>"; all of it without one."""
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
    first = _first_announced(text)
    numbered: set[int] = set()
    for count, match in enumerate(_NEXT.finditer(text)):
        if count >= _MOST_MARKS:
            break
        before = text[: match.start()]
        stated = first is not None and first <= match.start()
        number = 0 if match["number"] is None else int(match["number"])
        if (number == 1 and not stated) or number - 1 in numbered:
            numbered.add(number)
            continue
        if stated:
            return before
        bare = before.strip()
        if bare and "\n" not in bare and len(bare) <= _LONGEST_BARE and not bare.endswith((":", ",")):
            return before
    return text


def _first_announced(text: str) -> int | None:
    """Where the first stated answer ends."""
    english = _ANNOUNCED.search(text)
    places = [] if english is None else [english.end()]
    if not text.isascii():
        other = OTHER_ANSWER_WORD.search(text)
        places += [] if other is None else [other.end() + 1]
    return min(places, default=None)
