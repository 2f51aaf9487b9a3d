"""Which words say which reasoning pattern, and what a pivot's own words say."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import yaml

from pts.data_files import parse_json, read_text
from pts.errors import DataError, one_line

UNLABELLED: Final = "unlabelled"
NUMBER: Final = "number"
THINK_TAG: Final = "think_tag"
RESERVED = (UNLABELLED, NUMBER, THINK_TAG, "all")
"""Names that say something else than a pattern of the lexicon; `all` is a set's vector of every pair."""

_NUMBER = re.compile(r"\s*[+\-−]?[\d.,]*\d[\d.,]*\s*")
_THINK_TAG = re.compile(
    r"\s*(</?\s*think(ing)?\s*>|</?\s*(thought|reasoning)\s*>|\[/?THINK\])\s*", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?。！？](?=\s|$)|\n|</?\w+>")
_WORD_LEFT = re.compile(r"\w+$")
_WORD_RIGHT = re.compile(r"^\w+")
_TOKEN_WEIGHT = 3
"""A word that the pivot itself is part of counts as much as this many elsewhere."""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words and phrases by pattern name; upper or lower case is the same."""

    patterns: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the patterns."""
        return tuple(self.patterns)


@dataclass(frozen=True, slots=True)
class PivotText:
    """A pivot's own word, its sentence, and the sentence after it."""

    word: str
    sentence: str
    following: str


_DEFAULT: Mapping[str, tuple[str, ...]] = {
    "self_correction": (
        *("wait", "hold on", "hang on", "hmm", "oops", "actually", "sorry", "correction", "scratch that"),
        *("mistake", "mistaken", "mistakenly", "error", "wrong", "incorrect", "incorrectly", "not right"),
        *("reconsider", "rethink", "redo", "start over", "go back", "let me fix", "misread", "miscalculated"),
        *("i made", "should have been", "should be instead", "that can't be", "doesn't make sense"),
    ),
    "exploration": (
        *("alternatively", "alternative", "another way", "another approach", "another method", "other way"),
        *("different approach", "different way", "different method", "what if", "suppose", "maybe", "perhaps"),
        *("instead", "could try", "let's try", "let me try", "we could", "i could", "one option", "consider"),
        *("possibility", "possibilities", "assume", "imagine", "explore", "guess"),
    ),
    "depth_and_thoroughness": (
        *("split", "break", "break down", "break it down", "in detail", "more carefully", "carefully"),
        *("specifically", "because", "the reason", "this means", "in other words", "that is to say", "explain"),
        *("thoroughly", "in particular", "furthermore", "moreover", "note that", "recall that", "in fact"),
        *("each case", "all cases", "case by case", "expand", "simplify", "definition", "by definition"),
    ),
    "numerical_accuracy": (
        *("check", "double check", "double-check", "recheck", "verify", "verifying", "verification"),
        *("calculate", "calculation", "compute", "recalculate", "recompute", "multiply", "divide", "subtract"),
        *("plug in", "substitute", "substituting", "sanity check", "estimate", "round", "rounding", "digit"),
        *("arithmetic", "exactly", "precisely", "equals", "add up", "adds up", "decimal", "remainder"),
    ),
    "organization": (
        *("first", "firstly", "second", "secondly", "third", "thirdly", "next", "then", "finally", "lastly"),
        *("step", "steps", "step by step", "step-by-step", "to begin", "to start", "start by", "begin by"),
        *("after that", "afterwards", "in summary", "to summarize", "overall", "in conclusion", "to conclude"),
        *("given", "we are given", "we need to find", "we want to find", "plan", "list", "organize", "outline"),
    ),
}

DEFAULT_LEXICON = Lexicon(MappingProxyType(dict(_DEFAULT)))
"""Five patterns of general reasoning text, in English."""


def read_lexicon(path: Path) -> Lexicon:
    """A lexicon from a YAML or JSON file that maps each pattern's name to a list of words and phrases.

    Raises DataError where the file cannot be read, is neither, or holds anything else.
    """
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"lexicon {error}") from error
    try:
        # JSON is read as such: YAML allows no tab, which much JSON is indented by.
        data = parse_json(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"lexicon {path} is neither YAML nor JSON: {one_line(error)}.") from error
    if not isinstance(data, dict) or not data:
        raise DataError(
            f"lexicon {path} must map pattern names to lists of words, such as 'doubt: [wait, hmm]'."
        )
    return Lexicon(
        MappingProxyType({_name(key, path): _words(key, words, path) for key, words in data.items()})
    )


def _name(key: object, path: Path) -> str:
    if not isinstance(key, str) or not re.fullmatch(r"\w+", key):
        raise DataError(f"lexicon {path}: the pattern name {key!r} must be letters, digits and underscores.")
    if key in RESERVED:
        raise DataError(f"lexicon {path}: the pattern name {key} is taken; give the pattern another.")
    return key


def _words(key: object, words: object, path: Path) -> tuple[str, ...]:
    if not isinstance(words, list) or not words:
        raise DataError(f"lexicon {path}: {key} must be a list of at least one word or phrase.")
    for word in words:
        if not isinstance(word, str) or not re.search(r"\w", word):
            raise DataError(f"lexicon {path}: {word!r} under {key} is not a word or phrase; put it in quotes.")
    return tuple(words)


def label_pivot(before: str, token: str, after: str, lexicon: Lexicon = DEFAULT_LEXICON) -> str:
    """The pattern that a pivot's own words speak for; `number`, `think_tag` or `unlabelled` where none does.

    `before` is the text up to the pivot, `token` the pivot's, `after` what follows. The word that the pivot is
    part of decides where the lexicon knows it; else its sentence and the sentence after it, each word once,
    where one pattern has more words there than any other.
    """
    group = bare_group(token)
    if group is not None:
        return group
    return _leading(pattern_scores(pivot_text(before, token, after), lexicon))


def _leading(scores: Mapping[str, int]) -> str:
    """The name of the highest score; `unlabelled` where none is above 0, or several are highest."""
    best = max(scores.values(), default=0)
    leading = [name for name, score in scores.items() if score == best]
    return leading[0] if best > 0 and len(leading) == 1 else UNLABELLED


def label_sentence(text: str, lexicon: Lexicon = DEFAULT_LEXICON) -> str:
    """The pattern of which a sentence has the most words; else `number`, `think_tag` or `unlabelled`."""
    group = bare_group(text)
    return group if group is not None else _leading(pattern_scores(PivotText("", text, ""), lexicon))


def bare_group(token: str) -> str | None:
    """`number` for a token that is nothing but a number, `think_tag` for one that opens or ends thinking."""
    if _NUMBER.fullmatch(token):
        return NUMBER
    return THINK_TAG if _THINK_TAG.fullmatch(token) else None


def pivot_text(before: str, token: str, after: str) -> PivotText:
    """The word that the pivot is part of, the sentence around it, and the sentence after that."""
    starts = [match.end() for match in _SENTENCE_END.finditer(before)]
    opening = before[starts[-1] :] if starts else before
    rest = token + after
    # A pivot that is itself a full stop ends its sentence; blanks and line ends before its text do not.
    skipped = len(rest) - len(rest.lstrip())
    end = _SENTENCE_END.search(rest, skipped)
    close = end.end() if end else len(rest)
    next_end = _SENTENCE_END.search(rest, close + len(rest[close:]) - len(rest[close:].lstrip()))
    left = "" if token[:1].isspace() else _match(_WORD_LEFT, before)
    right = "" if token[-1:].isspace() else _match(_WORD_RIGHT, after)
    word = left + token + right if re.search(r"\w", token) else token
    return PivotText(
        word.strip(), opening + rest[:close], rest[close : next_end.end() if next_end else len(rest)]
    )


def pattern_scores(text: PivotText, lexicon: Lexicon) -> dict[str, int]:
    """How much a pivot's words speak for each pattern: distinct words of it, the pivot's own counting more."""
    around = f"{text.sentence}\n{text.following}"
    scores = {}
    for name in lexicon.patterns:
        matcher = _matcher(lexicon.patterns[name])
        found = {match.lower() for match in matcher.findall(around)}
        scores[name] = len(found) + (_TOKEN_WEIGHT if matcher.fullmatch(text.word) else 0)
    own = [name for name in scores if _matcher(lexicon.patterns[name]).fullmatch(text.word)]
    return {name: score if not own or name in own else 0 for name, score in scores.items()}


@functools.lru_cache(maxsize=256)
def _matcher(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the words, whole, whatever the case, the blanks inside phrases and the shape of apostrophes."""
    longest_first = sorted(words, key=len, reverse=True)
    phrases = [re.escape(word).replace(r"\ ", r"\s+").replace("'", "['’]") for word in longest_first]
    return re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group() if found else ""
