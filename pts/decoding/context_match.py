"""Steering where the text is what it was before a pivot: AutoThink's idea, done on token ids.

optillm's AutoThink compares re-encoded text, in part and fuzzily, with the contexts of stored pivots; here the
last tokens written either are those before a pivot or they are not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pts.errors import ConfigError
from pts.records import TokenIds
from pts.steering.records import VectorRecord

CONTEXT_TOKENS = 6
"""How many tokens before a pivot must be the same."""


class Contexts:
    """Token sequences after which steering is on: `variants` says by which variant, 0 for the request's own.

    The longest sequence that the tokens so far end with counts, the prompt's included. With `lasting` the first
    match holds for the rest of the completion. Raises ConfigError where there is no sequence, an empty one, or
    one with a variant of its own that does not last.
    """

    def __init__(self, variants: Mapping[TokenIds, int], *, lasting: bool = False) -> None:
        if not variants or () in variants:
            raise ConfigError("matching contexts needs at least one, each of at least one token.")
        if any(variants.values()) and not lasting:
            raise ConfigError("contexts with a variant each must last: a completion has one variant at most.")
        self.lasting = lasting
        self.longest = max(map(len, variants))
        self.variants = dict(variants)
        self._sizes = sorted({len(context) for context in variants}, reverse=True)
        self._last = frozenset(context[-1] for context in variants)

    def find(self, ids: Sequence[int]) -> int | None:
        """What is on after `ids`; None where they end with no context."""
        if not ids or ids[-1] not in self._last:
            return None
        ends = (tuple(ids[-size:]) for size in self._sizes if size <= len(ids))
        return next((self.variants[end] for end in ends if end in self.variants), None)


class Trail:
    """Follows one completion and says where a context was matched.

    `skipped` are the positions in the completion, from 0, of the tokens after which steering was off.
    """

    def __init__(self, contexts: Contexts, prompt: TokenIds) -> None:
        self.contexts = contexts
        self._ids = list(prompt[-contexts.longest :])
        self._heard = 0
        self._skipped: list[int] = []
        self._matched = contexts.find(self._ids)

    @property
    def skipped(self) -> TokenIds:
        """Positions of tokens whose pass was not steered."""
        return tuple(self._skipped)

    def hear(self, token: int) -> None:
        """Go on by a token."""
        self._ids = [*self._ids[-self.contexts.longest + 1 :], token]
        if self._matched is None or not self.contexts.lasting:
            self._matched = self.contexts.find(self._ids)
        if self._matched is None:
            self._skipped.append(self._heard)
        self._heard += 1

    def steered(self, variant: int) -> int:
        """The variant that is on now for a request of `variant`, or 0."""
        return 0 if self._matched is None else self._matched or variant

    def fork(self) -> Trail:
        """A copy that goes its own way."""
        other = copy.copy(self)
        other._skipped = list(self._skipped)
        return other

    def described(self) -> dict[str, Any]:
        """Where it is, as JSON values; its contexts not among them."""
        return {
            "ids": list(self._ids),
            "heard": self._heard,
            "skipped": list(self._skipped),
            "matched": self._matched,
        }

    @classmethod
    def restored(cls, contexts: Contexts, state: Mapping[str, Any]) -> Trail:
        """One with these contexts that is where another one was."""
        trail = cls(contexts, ())
        trail._ids, trail._heard = list(state["ids"]), int(state["heard"])
        trail._skipped, trail._matched = list(state["skipped"]), state["matched"]
        return trail


def pivot_contexts(
    records: Iterable[VectorRecord],
    tokenizer: Any,
    patterns: Iterable[str] | None = None,
    length: int = CONTEXT_TOKENS,
) -> Contexts:
    """The last `length` tokens before each pivot of a set's records, of some patterns or of all.

    The records hold text, which is encoded again: where that gives other ids than the model wrote, a context
    is never met. Raises ConfigError for patterns of which there are no records.
    """
    wanted = None if patterns is None else set(patterns)
    texts = [record.pivot_context for record in records if wanted is None or record.reasoning_pattern in wanted]
    if not texts:
        named = "" if wanted is None else f" of {', '.join(sorted(wanted))}"
        raise ConfigError(f"there are no records{named}: steering at their contexts would never be on.")
    encoded = (tuple(tokenizer.encode(text, add_special_tokens=False)) for text in dict.fromkeys(texts))
    return Contexts({ids[-length:]: 0 for ids in encoded if ids})
