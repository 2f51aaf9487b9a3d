"""Where a completion states its answer: the last box, else the last "the answer is"."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\f?boxed(?![A-Za-z])|\\fbox(?![A-Za-z])")
_BARE_TOKEN = re.compile(r"\s*([^\s{}$\\]+)")
_JOINS_BOXES = re.compile(r"[\s$\\()\[\]]*(?:,|;|,?\s*(?:and|or))[\s$\\()\[\]]*")
_STATEMENT = re.compile(r"\banswer\b(?:[^\n.:=]{0,80}?\bis\b|[^\n.:=]{0,80}[:=])|####", re.IGNORECASE)
_LEAD = re.compile(r"(?:[\s:*]|\bis\b)*")
_DISPLAY = re.compile(r"\$\$.*?\$\$|\\\[.*?\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?;]\**(?=\s|$)")
_MARKUP = re.compile(r"\*\*|__|`")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")


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


def last_statement(text: str) -> str | None:
    """What follows the last "answer is", "answer:", "answer =" or "####"; None where nothing does.

    The sentence's rest, or the display formula that begins there, or the next line where the line ends.
    """
    match = None
    for match in _STATEMENT.finditer(text):  # noqa: B007
        pass
    if match is None:
        return None
    lead = _LEAD.match(text, match.end())
    start = lead.end() if lead else match.end()
    display = _DISPLAY.match(text, start)
    if display is not None:
        return display.group()
    line = text[start:].split("\n", 1)[0]
    end = _SENTENCE_END.search(line)
    return (line[: end.start()] if end else line).strip() or None


def plain_text(text: str) -> str:
    r"""`text` for comparison as text: no markup, `\\text{}`, math delimiters or last full stop; case folded."""
    bare = _TEXT_COMMAND.sub(r"\1", _MARKUP.sub("", text)).strip()
    bare = bare.replace("\\left", "").replace("\\right", "").strip("$ \t\n\"'.")
    if re.fullmatch(r"\(\s*\w\s*\)", bare):
        bare = bare[1:-1]
    return " ".join(bare.split()).casefold()
