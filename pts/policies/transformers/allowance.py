"""How many rows a batch may have: what was asked for, what memory allows, and what is left after it ran out."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pts.errors import ModelError
from pts.policies.transformers.cache import CacheLayout
from pts.policies.transformers.untruncated import truncates_nothing
from pts.records import Sampling
from pts.setting_names import setting

logger = logging.getLogger(__name__)

SORTED_BYTES = 80
"""Bytes of a token of the vocabulary at most while a row's distribution is truncated without a top-k."""
_STEP_STATES = 4
"""What a recurrent layer makes of a row's state in a step before it is written, in states."""
_FEW = 4
"""Rows that are too few to pass over in silence, where memory allows no more."""


@dataclass(frozen=True, slots=True)
class RowCost:
    """Bytes that a row of a batch takes: for each column of its cache, and whatever its length."""

    per_column: int
    per_row: int

    @classmethod
    def of(cls, model: Any, layout: CacheLayout, eager: bool, samplers: Collection[Sampling] = ()) -> RowCost:
        """The cost of rows of a model: caches, the copy that growing makes, attention's and the logits' memory.

        `eager` is for attention that writes out its scores and repeats keys and values for the heads that share
        them. Where one of `samplers` truncates without a top-k, a row can come to hold the whole vocabulary,
        sorted; where there are several, the logits of each one's rows are copied.
        """
        config = model.config.get_text_config(decoder=True)
        largest = layout.largest_plane
        step = 4  # the mask
        if eager and layout.shapes:
            heads = int(config.num_attention_heads)
            shared = max(1, heads // max(1, min(shape.heads for shape in layout.shapes)))
            step += 2 * largest * shared + heads * (2 * model.dtype.itemsize + 4)
        logits = config.vocab_size * (model.dtype.itemsize + (4 if model.dtype.itemsize < 4 else 0))
        if any(s.temperature > 0 and not s.top_k and not truncates_nothing(s) for s in samplers):
            logits += SORTED_BYTES * config.vocab_size
        if len(samplers) > 1:
            logits += config.vocab_size * model.dtype.itemsize
        # Growing and attending never happen at once.
        states = layout.state_bytes + _STEP_STATES * layout.largest_state
        return cls(layout.bytes_per_token + max(largest, step), states + logits)

    def bytes(self, rows: int, columns: int) -> int:
        """Bytes that so many rows of so many columns take."""
        return rows * (columns * self.per_column + self.per_row)


@dataclass(slots=True)
class RowAllowance:
    """How many rows a policy's batches may have.

    `limit` is the rows asked for, fewer once memory ran out; `granted` the bytes that they may take; `largest`
    the rows that the largest batch so far had. `granted_to_kept` is the bytes besides that states may take
    which are kept for branches that wait.
    """

    limit: int
    granted: int
    largest: int = 0
    granted_to_kept: int = 0
    _told: set[str] = field(default_factory=set)

    def fitting(self, cost: RowCost, columns: int) -> int:
        """Rows of so many columns that a batch may have: one at least."""
        return max(1, min(self.limit, self.granted // cost.bytes(1, columns)))

    def begin(self, cost: RowCost, columns: int) -> None:
        """Say how many rows a batch gets, once."""
        if self._first("rows"):
            logger.info(
                "at most %s in a batch, of up to %s tokens each: %s are granted to them.",
                _rows(self.fitting(cost, columns)),
                f"{columns:,}",
                _size(self.granted),
            )

    def few(self, cost: RowCost, columns: int) -> bool:
        """Whether memory allows so few rows that it is to be said where more are wanted, and was not yet."""
        by_memory = self.granted // cost.bytes(1, columns)
        return by_memory < self.limit and by_memory <= _FEW and "few" not in self._told

    def wanting(self, cost: RowCost, columns: int) -> None:
        """Hear that more rows are wanted than fit: where they are few it is said, once."""
        if self.few(cost, columns) and self._first("few"):
            logger.warning(
                "memory allows only %s in a batch, which is slow: %s are granted, and a row of %s "
                f"tokens takes %s. Free memory, or lower {setting('budget')}.",
                _rows(self.fitting(cost, columns)),
                _size(self.granted),
                f"{columns:,}",
                _size(cost.bytes(1, columns)),
            )

    def ran_out(self, rows: int, device: str, reason: str) -> None:
        """Go on with at most so many rows, after memory ran out; said once."""
        self.limit = max(1, min(self.limit, rows))
        text = (
            "memory ran out on %s: the run goes on with at most %s in a batch, and with the same results (%s)."
        )
        level = logging.WARNING if self._first("ran out") else logging.INFO
        logger.log(level, text, device, _rows(self.limit), reason)

    def too_little(self, columns: int, device: str, reason: str) -> ModelError:
        """The error where not even one row fits."""
        return ModelError(
            f"not enough memory on {device} for a single completion of up to {columns:,} tokens ({reason}): "
            f"lower {setting('budget')}, shorten the prompt, or take a smaller {setting('dtype')} or model."
        )

    def _first(self, what: str) -> bool:
        """Whether this is the first time for something to be said."""
        if what in self._told:
            return False
        self._told.add(what)
        return True


def _rows(count: int) -> str:
    """A number of rows for people."""
    return "1 row" if count == 1 else f"{count} rows"


def _size(count: int) -> str:
    """Bytes for people."""
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 28 else f"{count / (1 << 20):.1f} MiB"


def first_line(error: BaseException) -> str:
    """The beginning of what an error says, for a message of one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    first = lines[0]
    return first if len(first) <= 160 else first[:157] + "..."
