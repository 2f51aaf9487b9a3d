"""Which of the positions that a forward pass reads belong to a completion: followed from the first pass on.

`generate` says itself what its prompt was, in every decoding mode; passes that a caller makes by hand are
followed by their cache, or by the prompt that they read again. Where neither tells, the caller must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch

from pts.errors import ConfigError
from pts.steering.tally import Tally

PromptTokens = int | Sequence[int] | None
"""Tokens of the prompt, padding included, of every row or of each; None where the passes tell."""

_TELL = "set steering.prompt_tokens to the number of tokens that the prompt has"


_KEPT = 32
"""Texts whose positions are kept one by one; of older ones that are over the numbers are."""


@dataclass(slots=True, eq=False)
class Text:
    """A batch of texts that passes read on: how many columns are prompt, and what is counted of the others.

    `counted` is False for drafts, which write nothing themselves; `cache` is the last one that was filled.
    """

    rows: int
    prompt: int
    counted: bool = True
    end: int = 0
    reached: bool = False
    tally: Tally = field(init=False)
    cache: ref[Any] | None = None
    _before: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.tally = Tally(self.rows)

    def fit(self, rows: int) -> None:
        """Go on with another number of rows: beams and several sequences of a prompt are rows of their own."""
        if rows != self.rows:
            self._before = self.counts()
            self.rows, self.tally = rows, Tally(rows)

    def counts(self) -> tuple[int, int]:
        """Positions of completions seen, and positions steered."""
        seen, steered = self.tally.counts()
        return self._before[0] + seen, self._before[1] + steered


class Span(NamedTuple):
    """What one pass reads: `size` columns of a text, the first being `first` after the prompt's end.

    A negative `first` is in the prompt. `where` [rows or 1, size] are the columns of the completion, None where
    all are; `any` says whether there is one.
    """

    text: Text
    first: int
    size: int
    where: torch.Tensor | None
    any: bool


@dataclass(slots=True)
class _Counts:
    """What is counted of texts that are over."""

    seen: int = 0
    steered: int = 0
    texts: int = 0
    unsteered: int = 0

    def add(self, text: Text) -> None:
        seen, steered = text.counts()
        self.seen += seen
        self.steered += steered
        self.texts += 1
        self.unsteered += not text.reached


class Passes:
    """Follows the texts that a model reads. `prompt_tokens` is what the caller says of the prompts."""

    def __init__(self) -> None:
        self.prompt_tokens: PromptTokens = None
        self._texts: list[Text] = []
        self._over = _Counts()
        self._calls: list[tuple[Text, int]] = []
        self._inner: list[Text] = []
        self._next: int | None = None
        self._cached: WeakKeyDictionary[Any, Text] = WeakKeyDictionary()
        self._uncached: tuple[torch.Tensor, Text] | None = None

    @property
    def depth(self) -> int:
        """How many calls of `generate` are under way, one inside another."""
        return len(self._calls)

    def counts(self) -> tuple[int, int]:
        """Positions of completions seen so far, and positions steered."""
        counts = [text.counts() for text in [*self._texts, *(text for text, _ in self._calls[:1])]]
        seen, steered = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        return self._over.seen + seen, self._over.steered + steered

    def steered_last(self) -> torch.Tensor:
        """Where a vector was added in the batch of texts that was begun last [rows, positions]."""
        return self._texts[-1].tally.steered() if self._texts else torch.zeros(0, 0, dtype=torch.bool)

    def unsteered(self) -> tuple[int, int]:
        """Of the batches of texts read so far, how many had no position to steer; and how many there were."""
        here = sum(not text.reached for text in self._texts)
        return self._over.unsteered + here, self._over.texts + len(self._texts)

    def begin_call(self, rows: int, width: int) -> Text:
        """`generate` was called with ids [rows, width]; a call within another drafts for that one's texts."""
        if self._calls:
            width = self._calls[0][1]
        text = Text(rows, width, counted=not self._calls)
        self._calls.append((text, width))
        return text

    def end_call(self) -> None:
        """The innermost `generate` is over.

        Where it made no passes of its own, what it was told to do instead made them: those count in its place.
        """
        text, _ = self._calls.pop()
        self._next = None
        if not text.counted:
            return
        instead = [inner for inner in self._inner if inner.reached]
        self._inner = []
        if instead and not text.reached:
            text.reached = True
            for inner in instead:
                self._fold(inner)
        else:
            self._texts.append(text)
            self._tidy()

    def holds(self, cache: Any) -> bool:
        """Whether a cache holds tokens already."""
        return cache is not None and _length(cache, self._cached.get(cache)) > 0

    def go_on(self, cache: Any) -> None:
        """`generate` goes on from a cache: what was read into it was no text of its own."""
        known = None if cache is None else self._cached.get(cache)
        if known is not None:
            known.reached = True

    def expect(self, columns: int) -> None:
        """The next pass is one of `generate`, over the last of so many columns of ids."""
        if self._calls:
            self._next = columns

    def span(self, inputs: Mapping[str, Any]) -> Span:
        """What a pass with these arguments reads. Raises ConfigError where it is unclear what is prompt."""
        ids, embeds = inputs.get("input_ids"), inputs.get("inputs_embeds")
        read = embeds if ids is None else ids
        if read is None:
            raise ConfigError("a pass without input_ids or inputs_embeds cannot be steered: pass one of them.")
        rows, size = read.shape[:2]
        columns, self._next = self._next, None
        if columns is not None:
            return self._of_call(columns, rows, size, embedded=ids is None, device=read.device)
        return self._by_hand(inputs, read)

    def register(self, cache: Any, text: Text) -> None:
        """A pass over a text has filled this cache."""
        if text.cache is None or text.cache() is not cache:
            self._cached.setdefault(cache, text)
            text.cache = ref(cache)

    def _of_call(self, columns: int, rows: int, size: int, *, embedded: bool, device: Any) -> Span:
        text, width = self._calls[-1]
        if rows != text.rows:
            text.fit(rows)
        start = columns - size
        if start >= width and self.prompt_tokens is None and not embedded:
            # An ordinary step, which must cost next to nothing.
            return Span(text, start - width, size, None, True)
        if embedded:
            if self.prompt_tokens is not None:
                raise ConfigError("steering.prompt_tokens counts ids: leave it None with inputs_embeds.")
            return self._made(text, -size, size, device)
        if self.prompt_tokens is None:
            return self._made(text, start - width, size, device)
        return self._given(text, start, size, device)

    def _by_hand(self, inputs: Mapping[str, Any], read: torch.Tensor) -> Span:
        """A pass that the caller made."""
        rows, size = read.shape[:2]
        cache = inputs.get("past_key_values")
        if cache is None:
            cache = inputs.get("cache_params")
        known = None if cache is None else self._cached.get(cache)
        start = 0 if cache is None else _length(cache, known)
        if self.prompt_tokens is None and inputs.get("labels") is not None:
            raise ConfigError(f"a pass with labels reads prompt and completion at once: {_TELL}.")
        if start == 0 or (known is None and self.prompt_tokens is not None):
            known = self._reread(read) if cache is None else None
            if known is None:
                known = self._new(rows, start + size)
                if cache is None:
                    self._uncached = read.detach().clone(), known
                else:
                    self._cached[cache] = known
        elif known is None:
            raise ConfigError(
                f"a pass goes on from {start} cached tokens that were read before steering began, so what is "
                f"prompt is unclear: {_TELL}."
            )
        elif self.prompt_tokens is None and size > 1 and start >= known.prompt:
            raise ConfigError(
                f"a pass reads {size} tokens after {start} cached ones, which may be prompt or completion: "
                f"{_TELL}."
            )
        known.fit(rows)
        known.end = start + size
        if not self._calls and not any(text is known for text in self._texts):
            self._texts.append(known)
            self._tidy()
        if self.prompt_tokens is not None:
            return self._given(known, start, size, read.device)
        return self._made(known, start - known.prompt, size, read.device)

    def _new(self, rows: int, prompt: int) -> Text:
        text = Text(rows, prompt, counted=len(self._calls) < 2)
        if len(self._calls) == 1:
            self._inner.append(text)
        return text

    def _tidy(self) -> None:
        """Keep but the numbers of texts that nothing can go on with."""
        if len(self._texts) <= _KEPT:
            return
        going_on = {id(text) for text in self._cached.values()}
        if self._uncached is not None:
            going_on.add(id(self._uncached[1]))
        # The last one is on.
        for text in self._texts[:-1]:
            if id(text) not in going_on:
                self._fold(text)

    def _fold(self, text: Text) -> None:
        self._over.add(text)
        self._texts = [other for other in self._texts if other is not text]

    def _reread(self, read: torch.Tensor) -> Text | None:
        """The text whose prompt a pass without a cache reads again, with more behind it."""
        if self._uncached is None:
            return None
        before, text = self._uncached
        size = before.shape[1]
        same = before.shape == read[:, :size].shape and before.dtype == read.dtype
        return text if same and torch.equal(before, read[:, :size]) else None

    def _given(self, text: Text, start: int, size: int, device: Any) -> Span:
        """A span by the number of prompt tokens that the caller gave."""
        given = self.prompt_tokens
        assert given is not None
        if isinstance(given, int):
            return self._made(text, start - given, size, device)
        if len(given) != text.rows:
            raise ConfigError(
                f"steering.prompt_tokens has {len(given)} numbers; the batch has {text.rows} rows: "
                "give one a row."
            )
        least = min(given)
        if start >= max(given):
            return Span(text, start - least, size, None, any=True)
        columns = torch.arange(start, start + size, device=device)
        where = columns >= torch.tensor(list(given), device=device)[:, None]
        return Span(text, start - least, size, where, any=start + size > least)

    def _made(self, text: Text, first: int, size: int, device: Any) -> Span:
        if first >= 0:
            return Span(text, first, size, None, any=True)
        if first + size <= 0:
            return Span(text, first, size, None, any=False)
        return Span(text, first, size, torch.arange(size, device=device)[None] >= -first, any=True)


def _length(cache: Any, known: Text | None) -> int:
    """Tokens that a cache holds. Raises ConfigError for one that does not say."""
    try:
        return int(cache.get_seq_length())
    except (AttributeError, ValueError) as error:
        # A recurrent state has no length, and cannot be taken back either.
        if known is not None:
            return known.end
        layers = getattr(cache, "layers", None)
        if layers is not None and not any(getattr(layer, "is_initialized", True) for layer in layers):
            return 0
        raise ConfigError(
            f"a {type(cache).__name__} does not say how many tokens it holds: begin with an empty one."
        ) from error
