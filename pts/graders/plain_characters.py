"""One spelling for what many characters say: minus signs, spaces, digits, quotes, brackets and fractions."""

from __future__ import annotations

import re
import unicodedata

_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_INVISIBLE = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064"
    "\u202a\u202b\u202c\u202d\u202e\ufeff\ufe0f"
)
_MINUS = "\u2212\ufe63\uff0d\u207b\u2010\u2011\u2796"
_SAME = {
    "“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'",
    "‹": "'", "›": "'",
    "「": '"', "」": '"', "『": '"', "』": '"',
    "【": "[", "】": "]", "〔": "(", "〕": ")", "〖": "[", "〗": "]",
    "〈": '"', "〉": '"', "《": '"', "》": '"', "﹙": "(", "﹚": ")", "⟨": "(", "⟩": ")",
    "。": ". ", "、": ", ", "٫": ".", "٬": ",", "،": ",", "；": ";", "．": ".", "∶": ":", "꞉": ":",
    "…": "...", "∙": "·", "⋅": "·", "✕": "×", "✖": "×", "⨯": "×", "∕": "/", "％": "%", "﹪": "%", "٪": "%",
    "﹩": "$", "′": "'",
}  # fmt: skip


def _table() -> dict[int, str]:
    table = {ord(character): " " for character in _SPACES}
    table |= {ord(character): "" for character in _INVISIBLE}
    table |= {ord(character): "-" for character in _MINUS}
    table |= {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if code not in table}
    # Digits of the Arabic, Persian and Indian scripts, and letters that stand in a circle or in brackets.
    table |= {start + digit: str(digit) for start in (0x0660, 0x06F0, 0x0966, 0x09E6) for digit in range(10)}
    table |= {0x24B6 + place: chr(65 + place) for place in range(26)}
    table |= {0x249C + place: f"({chr(65 + place)})" for place in range(26)}
    # Letters and digits of the mathematical alphabets, bold and the like: names of choices and numbers.
    for code in range(0x1D400, 0x1D800):
        plain = unicodedata.normalize("NFKC", chr(code))
        if plain.isascii():
            table[code] = plain
    return table | {ord(old): new for old, new in _SAME.items()}


_PLAIN = _table()
_ABOVE = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_BELOW = "₀₁₂₃₄₅₆₇₈₉"
_DIGITS = str.maketrans(_ABOVE + _BELOW + "⁺⁻", "0123456789" * 2 + "+-")
_SLASHED = re.compile(rf"([{_ABOVE}]+|\d+)⁄([{_BELOW}]+|\d+)")
_FRACTION = re.compile(r"[¼½¾⅐-⅞]")
_RAISED = re.compile(rf"[⁺⁻]?[{_ABOVE}]+")
# A dash is a sign where a number follows it and nothing that it could join or take from precedes it.
_DASH_SIGN = re.compile(r"(?<![\w)\]}%$–‒])(?<![\d)\]}%$] )[–‒](?=[$€£]?\\?\$?[\d.]\d?)")


def plain_characters(text: str) -> str:
    r"""`text` with one character for each meaning: "−5" is "-5", "½" is "\\frac{1}{2}", "10⁵" is "10^{5}".

    An en dash between two numbers stays: it is a range and no minus.
    """
    if text.isascii():
        return text
    text = _FRACTION.sub(_spelt, text)
    text = _SLASHED.sub(lambda m: rf"\frac{{{m[1].translate(_DIGITS)}}}{{{m[2].translate(_DIGITS)}}}", text)
    text = _RAISED.sub(lambda m: f"^{{{m[0].translate(_DIGITS)}}}", text)
    return _DASH_SIGN.sub("-", text.translate(_PLAIN))


def _spelt(match: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", match[0]).partition("⁄")
    return rf"\frac{{{above}}}{{{below}}}" if below else match[0]
