"""The phrases in which a completion states the letter of a choice."""

from __future__ import annotations

import re

from pts.graders.languages import OTHER_ANSWER, speaks_another
from pts.graders.statements import is_doubted

_WRAP = r"(?:\\(?:text\w{0,2}|math\w{2}|mbox|boxed|fbox|left|displaystyle)\b|\\[(\[]|[\s*_(\[{\"'$`<]|\\\{)"
_OPEN = rf"{_WRAP}{{0,12}}"
# After a letter: its own bracket or the end, never the word that an article or "I" goes on to.
_CLOSED = r"(?=\s*(?:[)\]}.,:;!?*_\"'$`>\\/]|$|\n|<)|[^\x00-\x7f]|\s+[-–—=](?:\s|\d))"
_BEFORE_REASON = (
    r"(?=\s+(?:because|since|as|for|with|and|or|which|while|whereas|not|due|but|here|instead|is\s+(?:the\s+)?"
    r"(?:correct|right|best|true))\b|\s*\()"
)
_LETTER = (
    rf"(?:[B-HJ-Z](?![A-Za-z0-9_]|'(?![dt][ıiuü]r)[A-Za-z])|[AI](?:{_CLOSED}|{_BEFORE_REASON})|[a-z]{_CLOSED})"
)
_NAME = (
    r"(?:(?:not|never|neither|therefore|thus|clearly|indeed|still|the|definitely|probably|likely|simply"
    r"|just|most\s+likely|actually|in\s+fact|again|both)\s+){0,3}"
)
_KIND = (
    r"(?:(?:option|choice|letter|answer|statement|alternative|number|opción|opção|opzione|optie"
    r"|вариант|lựa\s+chọn)\b\s*"
    r"|(?:选项|選項|選択肢|选|選)\s*)?"
)
_BE = (
    r"(?:(?:is|was|are|would|could|should|can|must)n't(?:\s+be)?|cannot\s+be|is|was|be|are|(?:should"
    r"|would|must|could|will|might|may|can|ought\s+to|has\s+to|have\s+to|had\s+to|needs\s+to)\s+"
    r"(?:\w+\s+)?be|(?:seems|appears|turns\s+out|happens)(?:\s+to\s+be)?|remains|becomes|equals"
    r"|corresponds\s+to|matches)"
)
_BEST = (
    r"(?:correct|right|best|true|most\s+(?:likely|plausible|appropriate|accurate|suitable)|proper"
    r"|appropriate|final|valid)"
)
_THING = r"(?:answers?|choice|option|one|response|selection|statement|solution)"
_AFTER_VERB = rf"(?:[\s*:,]*{_NAME}{_KIND})"
_SAYS = (
    rf"(?:[\"']?\b(?:final_|correct_)?answers?\b[\"']?(?:[^\n.:=]{{0,80}}?\b{_BE}\b"
    rf"|(?:\s*\([^()\n]{{0,30}}\))?[\s*\"']{{0,4}}[:=]+)"
    rf"|\b{_BEST}\s+{_THING}\b(?:[^\n.:=]{{0,40}}?\b{_BE}\b|\s*[:=])"
    rf"|\b(?:my|the|this|our|final)\s+(?:final\s+)?(?:choice|selection|pick|guess|option"
    rf"|conclusion)\b[^\n.:=]{{0,20}}?(?:\b{_BE}\b|[:=])"
    r"|\"(?:choice|option|selected|letter|label|prediction)\"\s*:"
    r"|\b(?:choose|chose|choosing|pick|picking|select|selecting|selected|go(?:ing)?\s+with"
    r"|went\s+with|settle\s+(?:on|for)|opt\s+for|"
    r"vote\s+for|points?\s+to|leads?\s+(?:us\s+)?to|leaves?\s+(?:us\s+with\s+)?|mark|conclude)\b"
    r"|\b(?:answer|choice|option)\s*(?:->|=>|→|—|–)"
    rf"|####|<(?:final[_ -]?)?(?:answer|ans)>)"
)
_STATED = re.compile(rf"(?i:{_SAYS}{_AFTER_VERB}){_OPEN}(?P<letter>{_LETTER})")
_STATED_ELSEWHERE = re.compile(rf"(?i:{OTHER_ANSWER}{_AFTER_VERB}){_OPEN}(?P<letter>{_LETTER})")
_CANDIDATE = re.compile(rf"(?<![A-Za-z0-9]){_LETTER}")
_BEFORE, _AFTER = 240, 200
"""Characters before and after a letter in which a statement of it lies."""
# "C is correct", "(C) must be the right answer", "C fits best", "C it is".
_ASSERTED = re.compile(
    rf"(?:^|(?<=[\s(\[*_\"'$`{{]))(?P<letter>[A-Z])(?:[)\]}}*_\"'$`.:]|\\\)){{0,6}}"
    r"(?:[ \t]+(?!is\b|must\b|should\b|would\b)[^\n.;,:?!()]{1,60}?(?=[)\]}*_\"'$`]{1,4}\s+(?:is|must"
    r"|should|would)\b)[)\]}*_\"'$`]{1,4})?"
    rf"(?i:\s+(?:therefore\s+|thus\s+|also\s+|indeed\s+|clearly\s+)?(?:{_BE}\s+(?:therefore\s+|thus\s+"
    rf"|indeed\s+|clearly\s+|definitely\s+|obviously\s+|likely\s+|probably\s+|the\s+|our\s+|my\s+"
    rf"|only\s+){{0,3}}{_BEST}(?!\s+(?:if|only|when|about))"
    r"|(?:fits|matches|works|answers)\s+(?:\w+\s+){0,2}(?:best|better)|best\s+(?:\w+\s+){0,2}(?:fits|matches"
    r"|answers|describes)|it\s+(?:is|must\s+be)|(?:is|must\s+be|has\s+to\s+be|should\s+be)\s+(?:the\s+|my\s+"
    r"|our\s+){0,2}(?:final\s+)?(?:answer|choice)\b))"
)
# "Hence B." at the very end.
_CONCLUDED = re.compile(
    r"(?:\A|(?<=[.!?;\n])|(?<=[.!?;] ))(?i:so|thus|hence|therefore)"
    r"(?i:,|:|\s+(?:it\s+is|it's|it\s+must\s+be))?\s+(?i:(?:option|choice|answer)\s+)?"
    r"[(\[*\"'$`]{0,4}(?P<letter>[A-HJ-Z])[)\]*\"'$`.!]{0,5}\s*\Z"
)
_JOINED = re.compile(
    rf"(?:[)\]}}*_\"'$`.]{{0,4}}\s*(?i:,|/|&|\bor\b|\band\b"
    rf"|\beither\b)\s*){{1,2}}(?i:{_KIND}){_OPEN}(?P<other>[A-Z])(?![\w'])"
    r"(?!\s+(?i:is|are|was|were|would|does|do|fails?|can|could)\b)"
)
_JOINS_BEFORE = re.compile(
    r"\b[A-Z][)\]*_\"'$`]{0,3}\s*(?:,\s*)?(?:or|and|&)\s*(?:option\s+)?[(\[*_\"'$`]{0,3}\Z"
)
_DENIED = re.compile(
    r"(?i:\b(?:not|never|cannot|can't|isn't|wasn't|neither|nor|unlikely|wrong|incorrect|rather\s+than"
    r"|instead\s+of|eliminate|exclude|rule\s+out|rules\s+out)\b|n't\b)"
    r"[^\n.;,]{0,12}?[\s*_(\[\"'$`]*\Z"
)
_DISMISSED = re.compile(
    r"[)\]}*_\"'$`.:]{0,4}\s*(?i:(?:is|are|was|would\s+be|seems|looks)\s+(?:\w+\s+){0,2}?(?:wrong"
    r"|incorrect|false|not|too|a|an|distractors?|out|impossible|invalid|tempting|irrelevant|similar)\b"
    r"|isn't|doesn't|does\s+not|cannot|can't|fails|contradicts|describes|refers|says|states|mentions"
    r"|could\s+be|might\s+be|may\s+be)"
)
# Who chooses: the writer, not "many students", and not "do not pick B" or "if you selected B".
_CHOOSING = re.compile(r"(?:choos|chose|pick|select|go|went|settle|opt|vote|mark|conclude)", re.IGNORECASE)
_CHOOSER = re.compile(
    r"(?:\A\s*|[.!?:;,\n*>-]\s*|(?<!if )\b(?:I|we)(?:'m|'re|'d|'ll|\s+am|\s+are)?\s*(?:(?:would|will"
    r"|should|must|can|shall|have|therefore|thus"
    r"|then|finally|to|have\s+to)\s+){0,3}|\b(?:let's|let\s+us|let\s+me|so|thus|therefore|hence|then"
    r"|finally|and|must|should|please|"
    r"leaves\s+us\s+to)\s+)\Z",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[)\]}*_\"'$`]{0,4}\s*\?")
_BUT = re.compile(
    rf"[^\n.;?!]{{0,40}}?(?i:\b(?:but|rather|instead|it\s+is|it's|it\s+must\s+be"
    rf"|it\s+should\s+be)[,:]?\s+)(?i:{_AFTER_VERB}(?:is\s+|it's\s+)?){_OPEN}(?P<letter>{_LETTER})"
)
_CORRECTED = re.compile(
    r"[^\n]{0,30}?(?:\.\.\.|[,;.?!—–-])\s*(?i:(?:wait|hmm|sorry|oh)[,.:!\s]*)?(?i:(?:no|actually"
    r"|correction|scratch\s+that|rather|i\s+mean)\b[,.:!\s]*)"
    rf"(?i:(?:wait|no|actually|sorry)[,.:!\s]*){{0,2}}(?i:(?:it\s+is|it's|it\s+should\s+be"
    rf"|it\s+must\s+be|make\s+that|that\s+should\s+be)\s+)?(?i:{_KIND}){_OPEN}(?P<letter>{_LETTER})"
)
_MARKED = re.compile(
    r"\((?P<round>[A-J])\)"
    r"|<(?:b|strong)>\s*\(?(?P<html>[A-J])\)?[).:]?\s*</(?:b|strong)>"
    r"|\A\s*(?P<first>[A-HJ])(?:\s+[-–—]\s|,?\s+(?:because|since)\b|\s+(?:rather\s+than|instead\s+of)\b)"
    r"|\*\*\s*\(?(?P<bold>[A-J])\)?[).:]?\s*(?:\*\*|(?<=[).:])[^*\n]{1,200}\*\*)"
    r"|^[ \t]*[\[(\"'`$]{0,3}(?P<line>[A-Za-z])[\])\"'`$.!]{0,4}[ \t]*$"
    r"|^[ \t]*(?P<head>[A-J])[).:](?=\s)"
    r"|(?i:\b(?:option|choice)\s+)(?P<named>[A-J])\b"
    r"|(?:^|\s)(?P<final>[A-J])[.!]?\s*\Z",
    re.MULTILINE,
)
_LAST_LINE = re.compile(rf"(?:\A|\n){_OPEN}(?P<letter>[A-Za-z])[)\]}}*_\"'$`.!>\\ \n]{{0,12}}\Z")
_LETTER_ALONE = re.compile(
    rf"{_OPEN}(?i:(?:(?:option|choice|answer"
    rf"|letter)\b[\s:]*)?){_OPEN}(?P<letter>[A-Za-z])(?![A-Za-z0-9_^=+(/*-])"
)


def stated_letters(text: str) -> list[tuple[int, str]]:
    """(where, letter) of each statement, in no order; "" for one that names several letters."""
    places = {match.start() for match in _CANDIDATE.finditer(text)}
    patterns = (_STATED, _ASSERTED, _CONCLUDED, *((_STATED_ELSEWHERE,) if speaks_another(text) else ()))
    found = []
    for start, end in _regions(sorted(places), len(text)):
        for pattern in patterns:
            for match in pattern.finditer(text, start, end):
                stated = _settled(text, match) if match.start("letter") in places else None
                if stated is not None:
                    found.append(stated)
    asked = [(where, letter) for where, letter, question in found if not question]
    return asked or [(where, letter) for where, letter, _ in found]


def _regions(places: list[int], length: int) -> list[tuple[int, int]]:
    """The parts of a text that surround its letters: a statement is looked for nowhere else."""
    regions: list[tuple[int, int]] = []
    for place in places:
        start, end = max(0, place - _BEFORE), min(length, place + _AFTER)
        if regions and start <= regions[-1][1]:
            regions[-1] = (regions[-1][0], end)
        else:
            regions.append((start, end))
    return regions


def _settled(text: str, match: re.Match[str]) -> tuple[int, str, bool] | None:
    """Where, which letter and whether it was a question; None for a letter that is denied."""
    start, end = match.start("letter"), match.end("letter")
    letter = match["letter"].upper()
    before = text[max(match.start(), start - 120) : start]
    ahead = text[max(0, match.start() - 40) : match.start()]
    after = text[end : end + 120]
    if is_doubted(text, match.start()):
        return None
    if _DENIED.search(before) or (match.re is _ASSERTED and _DENIED.search(ahead)):
        instead = _BUT.match(after)
        return None if instead is None else (start, instead["letter"].upper(), False)
    if _CHOOSING.match(match[0]) and not _CHOOSER.search(ahead):
        return None
    corrected = _CORRECTED.match(after)
    if corrected is not None:
        return start, corrected["letter"].upper(), False
    if match.re is _ASSERTED and _JOINS_BEFORE.search(ahead + before):
        return start, "", False
    joined = _JOINED.match(after)
    if joined is not None and joined["other"] != letter:
        return start, "", False
    return start, letter, _QUESTION.match(after) is not None


def marked_letter(text: str) -> str | None:
    """The last letter that is set apart and neither denied nor dismissed; None without one."""
    last = None
    for match in _MARKED.finditer(text):
        name, letter = next((name, group) for name, group in match.groupdict().items() if group)
        start, end = match.span(name)
        if is_doubted(text, start):
            continue
        if _DENIED.search(text[max(0, start - 40) : start]) or _DISMISSED.match(text[end : end + 60]):
            continue
        last = (start, end, letter.upper())
    closing = _LAST_LINE.search(text)
    if (
        closing is not None
        and not is_doubted(text, closing.start("letter"))
        and (last is None or closing.start("letter") > last[0])
    ):
        last = (*closing.span("letter"), closing["letter"].upper())
    if last is None:
        return None
    start, _, letter = last
    # "A or B" and "(A) or (B)" settle on neither.
    before = re.search(
        r"([A-J])[)\]*\"'$`]{0,3}\s*(?:,?\s*\b(?:or|and)\b|/)\s*(?:option\s+)?[(\[*\"'$`]{0,3}\Z",
        text[max(0, start - 30) : start],
    )
    return None if before is not None and before[1] != letter else letter


def letter_in(box: str) -> str | None:
    r"""The letter that a box holds: "C", "(C)", "\\text{(C)}", "C) 5 m"; None for anything else, as "A + B"."""
    match = _LETTER_ALONE.match(box)
    if match is None:
        return None
    rest = box[match.end() :]
    if re.match(
        r"\s*(?:[-+=^_*/<>&]|\\(?:cdot|times|le|ge|in|cup|cap|text\s*\{\s*(?:and|or)|[a-z]*frac))", rest
    ) and not re.match(r"\s+-\s", rest):
        return None
    if re.match(r"[)\]}\s]*(?:,|and\b|or\b|;|&)\s*[(\[]*[A-Z](?![A-Za-z])", rest):
        return None
    return match["letter"].upper()
