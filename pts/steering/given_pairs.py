"""Pairs that a user gives: a context, and a better and a worse way to go on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from pts.errors import DataError
from pts.models.prompt import PromptFormat, encode_messages
from pts.records import TokenIds
from pts.steering.pairs import Choice, Pair

Text: TypeAlias = "str | Sequence[int] | Sequence[Mapping[str, str]]"
"""Text, token ids, or (for a context) the messages of a conversation."""
GivenPair: TypeAlias = "Pair | Mapping[str, Text] | tuple[Text, Text, Text]"
"""(context, better, worse), the same under the names prompt, chosen and rejected, or a measured pair."""
_KEYS = ("prompt", "chosen", "rejected")


def given_pairs(tokenizer: Any, pairs: Sequence[GivenPair]) -> list[Pair]:
    """The pairs as token ids, each with one choice: the first token at which better and worse differ.

    A context is text as it stands, token ids, or messages, which go through the chat template. What better and
    worse share is part of the context. Measured pairs are taken as they are. Raises DataError, naming the pair,
    where better and worse do not differ, where one is a beginning of the other, or where a pair is none.
    """
    if not pairs:
        raise DataError("there are no pairs: give at least one (context, better, worse).")
    made = [_pair(tokenizer, number, pair) for number, pair in enumerate(pairs)]
    first: dict[TokenIds, int] = {}
    for pair in made:
        first.setdefault(pair.ids, pair.index)
    return [
        pair if isinstance(given, Pair) else _of_context(pair, first[pair.ids])
        for pair, given in zip(made, pairs, strict=True)
    ]


def _of_context(pair: Pair, first: int) -> Pair:
    """The pair as one of its context: pairs of one context are fitted on, or judge, together."""
    return replace(pair, problem_id=f"context {first}")


def _pair(tokenizer: Any, number: int, given: GivenPair) -> Pair:
    if isinstance(given, Pair):
        return replace(given, index=number)
    context, better, worse = _parts(number, given)
    ids, chosen, rejected = _context(tokenizer, context), _ids(tokenizer, better), _ids(tokenizer, worse)
    shared = next(
        (at for at, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None
    )
    if shared is None:
        raise DataError(
            f"pair {number}: better and worse do not differ at any token, or one begins the other; "
            "give two ways to go on that differ at some token."
        )
    whole = ids + chosen[:shared]
    if not whole:
        raise DataError(f"pair {number} has an empty context; give the text before the choice.")
    return Pair(
        index=number,
        problem_id=f"pair {number}",
        prompt=whole[:1],
        prefix=whole[1:],
        better=_choice(tokenizer, chosen[shared], 1.0),
        worse=_choice(tokenizer, rejected[shared], 0.0),
        taken_better=True,
        value_before=0.5,
        delta=0.5,
        before=tokenizer.decode(list(whole), clean_up_tokenization_spaces=False),
        after=tokenizer.decode(list(chosen[shared + 1 :]), clean_up_tokenization_spaces=False),
    )


def _parts(number: int, given: Any) -> tuple[Text, Text, Text]:
    """Context, better and worse. Raises DataError for what is no pair."""
    if isinstance(given, Mapping):
        missing = [key for key in _KEYS if key not in given]
        if missing:
            raise DataError(f"pair {number} has no {missing[0]}; its keys must be {', '.join(_KEYS)}.")
        return given["prompt"], given["chosen"], given["rejected"]
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 3:
        context, better, worse = given
        return context, better, worse
    raise DataError(
        f"pair {number} is {type(given).__name__}; give (context, better, worse), or a dictionary with "
        f"{', '.join(_KEYS)}."
    )


def _context(tokenizer: Any, context: Text) -> TokenIds:
    if isinstance(context, str):
        begins = getattr(tokenizer, "bos_token", None)
        special = not (begins and context.startswith(begins))
        return tuple(tokenizer.encode(context, add_special_tokens=special))
    entries = list(context)
    if entries and isinstance(entries[0], Mapping):
        return encode_messages(tokenizer, entries, PromptFormat())  # type: ignore[arg-type]
    return _ids(tokenizer, context)


def _ids(tokenizer: Any, text: Text) -> TokenIds:
    if isinstance(text, str):
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    return tuple(int(token) for token in text)  # type: ignore[arg-type]


def _choice(tokenizer: Any, token: int, value: float) -> Choice:
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return Choice(token, text, float("nan"), value, 1)
