"""Where the sentences of a model's text end: formulas, code, lists, abbreviations and line breaks respected."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

_FENCE = re.compile(r"^[ \t]*(```|~~~).*$", re.MULTILINE)
_FORMULA = re.compile(
    r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\\begin\{(\w+\*?)\}.+?\\end\{\1\}|\$(?=\S)[^$\n]*?(?<=\S)\$|`[^`\n]+`",
    re.DOTALL,
)
"""Displayed and inline LaTeX, and inline code: nothing ends inside."""
_TAG = re.compile(r"</?\s*(?:think(?:ing)?|thought|reasoning|answer)\s*>|\[/?THINK\]", re.IGNORECASE)
"""What parts thinking from the answer; a sentence of its own, so that none holds both."""
_END = re.compile(r"""(?P<mark>[.!?…]+|[。！？]+)(?P<closing>["'”’»)\]*_]*)(?P<space>\s+|(?<=[。！？])|$)""")
_BREAK = re.compile(r"[ \t]*\n\s*")
_ABBREVIATIONS = frozenset(
    (
        *("e.g", "i.e", "cf", "vs", "resp", "approx", "ca", "al", "dr", "mr", "mrs", "ms", "prof", "st", "jr"),
        *("fig", "figs", "eq", "eqs", "thm", "lem", "prop", "def", "sec", "ch", "vol", "p", "pp", "ex"),
        *("inc", "ltd", "dept", "u.s", "u.k", "w.r.t", "w.l.o.g", "s.t", "ph.d", "nos"),
    )
)
"""Words before a full stop that does not end a sentence, unless a line ends with it."""
_LABELS = "step|case|part|question|problem|example|no|figure|table|section|equation|theorem|lemma|option|day"
_ITEM = re.compile(rf"[\W_]*(?:(?:{_LABELS})\s+)?(?:\d+|[a-zA-Z]|[ivxIVX]+)[.)]+[\W_]*", re.IGNORECASE)
"""A number or letter that begins a list's item, or names a step."""
_GOES_ON = re.compile(r"(?:a|[^\W\d_A-Z]{2,})\b")
"""A next word in lower case of more than a letter: a lone letter may be a variable, which begins sentences."""


def sentence_ends(text: str) -> list[int]:
    """The offsets at which the text's sentences end, rising, the last at the text's end; [] for no text.

    The white space after a sentence belongs to it. A line of a code block is a sentence, and so is a line that
    holds nothing but a tag of thinking. Displayed and inline formulas are never divided.
    """
    ends = {len(text)} if text else set()
    for start, end, code in _blocks(text):
        ends.update((start, end))
        if code:
            ends.update(start + match.end() for match in re.finditer(r"\n\s*", text[start:end]))
        else:
            ends.update(start + offset for offset in _prose_ends(text[start:end]))
    return _without_blank(text, sorted(ends - {0}))


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """The text in parts: prose between fences and tags, code within fences (fences too), tags alone."""
    place, opened = 0, False
    marks = [(match, True) for match in _FENCE.finditer(text)]
    marks += [(match, False) for match in _TAG.finditer(text)]
    for match, fence in sorted(marks, key=lambda mark: mark[0].start()):
        if fence:
            edge = match.end() if opened else match.start()
            yield place, edge, opened
            place, opened = edge, not opened
        elif not opened:
            yield place, match.start(), False
            yield match.start(), match.end(), False
            place = match.end()
    yield place, len(text), opened


def _prose_ends(prose: str) -> Iterator[int]:
    """The ends of sentences in prose; its own end is not among them."""
    formulas = [match.span() for match in _FORMULA.finditer(prose)]
    starts = [start for start, _ in formulas]
    places = [(match.start(), match) for match in _END.finditer(prose)]
    places += [(match.start(), match) for match in _BREAK.finditer(prose)]
    last = 0
    for start, match in sorted(places, key=lambda place: place[0]):
        inside = bisect_left(starts, start) - 1
        if start < last or (inside >= 0 and start < formulas[inside][1]):
            continue
        if match.re is _BREAK:
            ends = _line_ends(prose, last, match)
        else:
            ends = "\n" in match["space"] or _mark_ends(prose, last, match)
            ends = ends and not (match["space"].count("\n") and _is_item(prose[last : match.end("mark")]))
        if ends:
            last = match.end()
            yield last


def _line_ends(prose: str, last: int, match: re.Match[str]) -> bool:
    """Whether a line break ends a sentence: not where a wrapped line goes on, or after an item's number."""
    if match.group().count("\n") > 1:
        return True
    before, after = prose[last : match.start()], prose[match.end() : match.end() + _NEAR]
    wrapped = bool(re.search(r"[\w,;]$", before)) and len(before) >= _WRAPPED and bool(_GOES_ON.match(after))
    return not wrapped and not _is_item(before)


_NEAR = 40
"""Characters on each side of a mark that decide whether it ends a sentence."""
_FACTORIAL = re.compile(r"(?:\d|[)\]}]|\b[A-Za-z])!+$")
_CAPITAL = re.compile(r"[\"'“‘«(*_]*[^\W\d_a-z]")
_TITLED = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|[A-Z])\.\s+[A-Z]$")
_WRAPPED = 50
"""Characters of a line before it may have been wrapped rather than ended."""


def _mark_ends(prose: str, last: int, match: re.Match[str]) -> bool:
    """Whether a full stop, question mark or exclamation mark with what closes it ends a sentence."""
    if not match["space"]:
        return True
    mark, after = match["mark"], prose[match.end() : match.end() + _NEAR]
    if mark.startswith("!") and _FACTORIAL.search(prose, last, match.end("mark")) and not _CAPITAL.match(after):
        return False
    if mark != "." and not mark.startswith("..") and mark != "…":
        # What was said may be part of what says it.
        return not (match["closing"] and _GOES_ON.match(after))
    if _GOES_ON.match(after.lstrip("\"'“‘«(*_")):
        return False
    if mark != ".":
        return True
    word = re.search(r"[^\s(\[“\"'*]*$", prose[last : match.start()])
    stem = word.group().lower() if word else ""
    if stem in _ABBREVIATIONS or _is_initial(prose[max(0, match.start() - _NEAR) : match.start()], after):
        return False
    return not _is_item(prose[last : match.end("mark")])


def _is_initial(before: str, after: str) -> bool:
    """Whether a lone capital is one of a person's initials: another one, or a title, stands next to it."""
    alone = re.search(r"(?:^|\s)[A-Z]$", before)
    return bool(alone and (re.match(r"[A-Z]\.\s", after) or _TITLED.search(before)))


def _is_item(before: str) -> bool:
    return _ITEM.fullmatch(before.strip()) is not None


def _without_blank(text: str, ends: Sequence[int]) -> list[int]:
    """Without ends before which, or after which, there is only white space: it belongs to what it follows."""
    kept: list[int] = []
    start = 0
    for end in ends:
        if text[start:end].strip():
            kept.append(end)
        elif kept:
            kept[-1] = end
        else:
            continue
        start = end
    return kept or list(ends[-1:])
