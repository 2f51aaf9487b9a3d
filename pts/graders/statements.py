"""Where a completion states its answer: the last box or tag, else the last "the answer is"."""

from __future__ import annotations

import re

from pts.graders.languages import OTHER_ANSWER, speaks_another

_BOX = re.compile(r"\\f?boxed(?![A-Za-z])|\\fbox(?![A-Za-z])")
_BARE_TOKEN = re.compile(r"\s*([^\s{}$\\]+)")
_SPACING = r"(?:[\s$\\()\[\]]|\\[,;!]|\\q?quad\b)*"
_JOINS_BOXES = re.compile(rf"{_SPACING}(?:,|;|,?{_SPACING}(?:\\text\s*\{{\s*)?(?:and|or)\s*\}}?){_SPACING}")
_BE = (
    r"(?:isn't|wasn't|is|was|are|equals|(?:be|seems|appears|turns out|comes out|comes|works out"
    r"|happens)(?:\s+to(?:\s+be)?)?)"
)
# The first letter apart: a pattern that begins with a set of letters is searched for many times faster.
_STATEMENT = re.compile(
    rf"[aA](?i:nswer)(?<![A-Za-z](?i:answer))(?i:s?\b[\"']?(?:[^\n.:=]{{0,80}}?\b{_BE}(?!\w)"
    rf"|[^\n.:=]{{0,80}}[:=]))"
)
_HASHES = re.compile("####")
_OTHER_STATEMENT = re.compile(OTHER_ANSWER, re.IGNORECASE)
_LEAD = re.compile(r"(?:[\s:*]|\bis\b)*")
_DISPLAY = re.compile(r"\$\$.*?\$\$|\\\[.*?\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"[.?;]\**(?=\s|$)|!\**(?=\s+[A-Z]|\s*$)")
_MARKUP = re.compile(r"\*\*|__|`")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_TAG = re.compile(
    r"<(?:final[_ -]?)?(?:answer|ans)>|</(?:final[_ -]?)?(?:answer|ans)>|\[answer\]|\[/answer\]", re.IGNORECASE
)
_JSON_LIST = re.compile(r"\[([^\[\]]{0,300})\]\s*[,}]")
_JSON_STRING = re.compile(r"\"((?:[^\"\\]|\\.){0,1000})\"\s*[,}\]]")
_DENIES = re.compile(r"\b(?:not|never|cannot|neither|nor|unlikely)\b|n't\b", re.IGNORECASE)
_DOUBTS = (
    r"(?:(?:\b(?:do|does|did|can|could|would)(?:\s+not|n't)|\bcannot)\s+(?:really\s+)?(?:think|believe|say|claim"
    r"|conclude|agree|mean)|(?<!no )(?<!not )\bdoubt|(?:\bit\s+is|\bit's|\bit\s+seems)"
    r"\s+(?:very\s+|highly\s+)?unlikely"
    r"|\b(?:wrong|incorrect|false|a\s+mistake)\s+to\s+(?:say|think|conclude|claim|assume)"
    r"|\bnot\s+(?:true|the\s+case))(?:\s+that)?\s+(?:(?:the|my|its|this|correct|right|final)\s+){0,3}"
)
_ANSWER_IS = r"answer\s+(?:is|was|(?:could|can|should|would)\s+be)\s+"
_DOUBTED = re.compile(_DOUBTS + r"\Z", re.IGNORECASE)
_DOUBTED_NUMBER = re.compile(
    rf"{_DOUBTS}{_ANSWER_IS}(?P<what>[$\\]{{0,2}}-?\d[\d.,/]*\d|[$\\]{{0,2}}-?\d)", re.IGNORECASE
)
_DOUBTED_LETTER = re.compile(rf"{_DOUBTS}{_ANSWER_IS}[(\[*\"'$]{{0,4}}\Z", re.IGNORECASE)
_DENIED_BOX = re.compile(
    r"(?:\b(?:is|was)\s+not|n't(?:\s+be)?|\bcannot\s+be)\s+(?P<what>(?:\\[(\[]|[$\s]){0,4}\\boxed\s*\{[^{}]*\})"
)
_NOT_THE_ANSWER = re.compile(
    r"(?<![\w.,/])(?P<what>[$\\]{0,2}-?\d[\d,.]*\$?)\s+(?:(?:is|was)(?:\s+not|n't)|(?:can't|cannot)\s+be)"
    r"\s+(?:the|our|my)\s+(?:final\s+|correct\s+|right\s+)?answer\b",
    re.IGNORECASE,
)
_SAID_BEFORE = re.compile(
    r"(?<![\w.,/^{+*=-])(?<![+*/=-] )(?:\\?\$)?-?(?:\d[\d,]*\.)?\d[\d,]*\$?\s+(?:is|must\s+be)"
    r"\s+(?:therefore\s+|thus\s+|indeed\s+|clearly\s+)?(?:the|our|my)\s+(?:final\s+|correct\s+|right\s+)?answer(?=[.!*\s]*(?:$|\n|[.!]))"
)
_DENIED = re.compile(
    r"[\s*]*(?:(?:definitely|clearly|certainly|obviously|surely|also|then)\s+)?(?:not|never"
    r"|neither)\b(?!\s+only)",
    re.IGNORECASE,
)
_INSTEAD = re.compile(
    r"[^\n;]{1,60}?[,;.]?\s*\b(?:but(?:\s+rather)?|rather|instead|it\s+is|it's|it\s+must\s+be"
    r"|it\s+should\s+be)[,:]?\s+(?=\S)"
)
_CORRECTION = re.compile(
    r"(?:\.\.\.|[,;.?!]|\s[-–—])\s*(?:(?:wait|hmm|oh|oops"
    r"|sorry)\b[\s,.:!…-]*)*(?:no\b(?!\s*\.?\s*\d+\b\s*[a-z])|actually\b|correction\b"
    r"|scratch\s+that\b|i\s+mean\b|make\s+that\b|rather\b)"
    r"[\s,.:!—–-]*(?:(?:wait|no|actually|sorry|that's\s+wrong)\b[\s,.:!-]*)*(?:(?:it\s+is|it's"
    r"|it\s+should\s+be|that\s+should\s+be|it\s+must\s+be|make\s+that|make\s+it)\s+)?(?=[-$\\(\[*]{0,4}\d)",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    r"\b(?:that(?:'s|\s+is|\s+was)\s+(?:wrong|incorrect|not\s+right|not\s+correct)|i\s+made\s+(?:a"
    r"|an)\s+(?:\w+\s+)?(?:mistake|error)|scratch\s+that)\b",
    re.IGNORECASE,
)


def last_boxed(text: str) -> str | None:
    r"""What the last `\\boxed{…}` (or `\\fbox`) holds, its braces matched; None without a box.

    Boxes joined by nothing but a comma, "and" or "or" are one answer, "1,-2". A last box whose braces never
    close was cut: it gives "", never the box before it.
    """
    starts = [match.end() for match in _BOX.finditer(text)]
    if not starts:
        return None
    content, _ = _group(text, starts[-1])
    contents = [content]
    later = text.rindex("\\", 0, starts[-1])
    for start in reversed(starts[:-1]):
        content, end = _group(text, start)
        if not _JOINS_BOXES.fullmatch(text, end, later):
            break
        contents.append(content)
        later = text.rindex("\\", 0, start)
    return ",".join(reversed(contents))


def after_last_box(text: str) -> str:
    """The text that follows the last box; all of it without one."""
    last = None
    for last in _BOX.finditer(text):  # noqa: B007
        pass
    return text if last is None else text[_group(text, last.end())[1] :]


def _group(text: str, start: int) -> tuple[str, int]:
    """The brace group, or the bare token, at `start`, and where it ends; ("", end of text) if it is cut."""
    opening = re.compile(r"\s*\{").match(text, start)
    if opening is None:
        token = _BARE_TOKEN.match(text, start)
        return (token.group(1).rstrip(".,"), token.end()) if token else ("", start)
    depth = 0
    position = opening.end() - 1
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1  # an escaped brace is a set's, not the group's
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[opening.end() : position].strip(), position + 1
        position += 1
    return "", len(text)


def last_tagged(text: str) -> tuple[str, int] | None:
    """What the last `<answer>` holds, closed or not, and where it ends; None without one."""
    marks = list(_TAG.finditer(text))
    opened = [place for place, mark in enumerate(marks) if mark[0][1] != "/"]
    if not opened:
        return None
    place = opened[-1]
    end = marks[place + 1].start() if place + 1 < len(marks) else len(text)
    content = text[marks[place].end() : end].strip()
    return (content, end) if content else None


def last_statement(text: str) -> str | None:
    """What follows the last "answer is", "answer:", "answer =" or "####"; None where nothing does.

    The sentence's rest, or the display formula that begins there, or the next line where the line ends. A
    statement that denies ("the answer is not 5") gives what it says instead, or is passed over, and so is a
    question where something else is stated; a correction ("… 5. No, 6") counts, what was taken back
    does not.
    """
    asked = None
    for start in reversed(_statement_starts(text)):
        if asked is None and _is_retracted(text, start):
            return None
        stated = _statement(text, start)
        if stated is None or not stated.endswith("?"):
            return stated or asked
        asked = asked or stated.rstrip("? ")
    return asked


def _is_retracted(text: str, start: int) -> bool:
    """Whether what is stated at `start` is called wrong soon after, and a number follows that."""
    taken_back = _RETRACTED.search(text, start, start + 300)
    return taken_back is not None and re.search(r"\d", text[taken_back.end() :]) is not None


def _statement_starts(text: str, most: int = 50) -> list[int]:
    """Where the last statements begin, after their verb or colon; those that only deny are left out."""
    starts = []
    matches = [*_STATEMENT.finditer(text), *_HASHES.finditer(text)]
    if speaks_another(text):
        matches += _OTHER_STATEMENT.finditer(text)
    said_before = list(_SAID_BEFORE.finditer(text)) if "answer" in text else []
    matches = sorted(matches, key=lambda match: match.start())[-most:]
    for match in matches:
        lead = _LEAD.match(text, match.end())
        start = lead.end() if lead else match.end()
        denied = _DENIED.match(text, match.end())
        if is_doubted(text, match.start()):
            continue
        if denied is None and not _DENIES.search(match[0]):
            starts.append(start)
            continue
        instead = _INSTEAD.match(text, match.end())
        if instead is not None:
            starts.append(instead.end())
    return sorted([*starts, *(match.start() for match in said_before)])


def is_doubted(text: str, start: int) -> bool:
    """Whether what begins at `start` is something that the writer does not think, or calls wrong to say."""
    before = text[max(0, start - 90) : start]
    return _DOUBTED.search(before) is not None or _DOUBTED_LETTER.search(before) is not None


def _statement(text: str, start: int) -> str | None:
    display = _DISPLAY.match(text, start, start + 5_000)
    if display is not None:
        return display.group()
    quoted = _JSON_STRING.match(text, start)
    if quoted is not None:
        return quoted[1].strip() or None
    listed = _JSON_LIST.match(text, start)
    if listed is not None:
        return listed[1].strip() or None
    line = text[start : start + 5_000].split("\n", 1)[0]
    if line.count("}") > line.count("{"):
        line = line.rstrip("} `")
    correction = _CORRECTION.search(line)
    line = line if correction is None else line[correction.end() :]
    end = _SENTENCE_END.search(line)
    if end is not None and line[end.start()] == "?":
        return line[: end.start() + 1].strip() or None
    return (line[: end.start()] if end else line).strip() or None


_DENIED_NUMBER = re.compile(
    r"(?:\b(?:not|never|cannot\s+be|neither)|n't(?:\s+be)?)\s+(?:(?:equal\s+to|be|exactly|just|simply"
    r"|the|at|actually)\s+){0,2}(?P<what>[$\\]{0,2}-?\d[\d.,/]*(?:\s+nor\s+-?\d[\d.,/]*)?)(?!\s+only)",
    re.IGNORECASE,
)


def without_denied(text: str) -> str:
    """`text` without the numbers that it denies: "it is 6, not 5" is "it is 6, not "."""
    lowered = text.lower()
    if not any(word in lowered for word in ("not", "n't", "never", "neither", "doubt", "to ", "unlikely")):
        return text
    for pattern in (_DENIED_BOX, _DENIED_NUMBER, _DOUBTED_NUMBER, _NOT_THE_ANSWER):
        text = pattern.sub(lambda match: match[0][: match.start("what") - match.start()], text)
    return text


_BEFORE_TEXT = re.compile(r"\A(?:[$\s\"'.]*?(?=\.\d)|[$\s\"'.]+)")
"""Marks before a text; the point of ".5" is none."""


def plain_text(text: str) -> str:
    r"""`text` for comparison as text: no markup, `\\text{}`, math delimiters or last full stop; case folded."""
    bare = _TEXT_COMMAND.sub(r"\1", _MARKUP.sub("", text)).strip()
    bare = bare.replace("\\left", "").replace("\\right", "").rstrip("$ \t\n\"'.")
    bare = _BEFORE_TEXT.sub("", bare, count=1)
    if re.fullmatch(r"\(\s*\w\s*\)", bare):
        bare = bare[1:-1]
    return " ".join(bare.split()).casefold()
