"""The exact sampler: from logits to the truncated next-token distribution, and draws from it.

The truncation is that of transformers' logits warpers, in their order (temperature, top-k, top-p, min-p) and
with their rules at the edges: tokens that tie with the k-th stay, the token that carries the mass over top-p
stays, one token always stays. Only the largest logits leave the device; the rest is float64 on a few columns.
Where nothing truncates a large vocabulary, draws need no sort (`untruncated.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import ModelError
from pts.policies.transformers.draws import Keys, uniforms
from pts.policies.transformers.untruncated import (
    Untruncated,
    draw_untruncated,
    likely_enough,
    truncates_nothing,
    untruncated,
)
from pts.records import Sampling, TokenDistribution
from pts.setting_names import setting

_TIES = 12
"""Columns fetched beyond top-k, so that a tie at the k-th seldom needs a second look."""
_FIRST_WIDTH = 64
"""Columns fetched at first where there is no top-k; eightfold more while top-p or min-p is not yet settled."""
_SORTED = 1024
"""Tokens of a vocabulary that is sorted in any case: so small, the order by probability costs nothing."""
_CHUNK_BYTES = 64 << 20
"""What reading logits may hold at once besides the logits themselves, whatever the rows of the batch."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Truncated:
    """Next-token distributions of a batch: `ids` and `probs` [rows, width], most likely first.

    Each row of `probs` sums to 1; where a row has fewer tokens than the widest one, the rest is 0. Of equal
    probabilities the lower id comes first; which of them top-p cuts is left open by the warper's unstable sort.
    """

    ids: Ints
    probs: Floats

    def row(self, index: int) -> TokenDistribution:
        """One row as a TokenDistribution, without the columns of probability 0."""
        kept = self.probs[index] > 0
        return TokenDistribution(self.ids[index][kept], self.probs[index][kept])


Distribution: TypeAlias = Truncated | Untruncated
"""The next-token distributions of a batch, in the form that suits the sampler."""


def next_tokens(logits: torch.Tensor, sampling: Sampling, avoid: Ints) -> Distribution:
    """The distributions for `logits` [rows, vocabulary], in row r without token `avoid[r]` (−1: with all).

    What is avoided may be taken out of `logits` in place. Raises ModelError where they are not finite.
    """
    if truncates_nothing(sampling) and logits.shape[-1] > _SORTED:
        return untruncated(logits, sampling, avoid)
    distributions = truncate(logits, sampling)
    return without(distributions, avoid, logits) if (avoid >= 0).any() else distributions


@torch.inference_mode()
def truncate(logits: torch.Tensor, sampling: Sampling) -> Truncated:
    """The policy's distributions for `logits` [rows, vocabulary], computed in float64 from float32 logits.

    Raises ModelError where the logits of a row are not finite (a sign of a dtype that overflows).
    """
    rows, vocab = logits.shape
    # Top-k fetches few columns; without it a row can come to hold the whole vocabulary in float64, sorted.
    size = max(1, _CHUNK_BYTES // (vocab * (8 if sampling.top_k else 40)))
    parts = [_truncate(logits[start : start + size], sampling) for start in range(0, rows, size)]
    if len(parts) == 1:
        return parts[0]
    width = max(part.ids.shape[1] for part in parts)
    ids, probs = np.zeros((rows, width), dtype=np.int64), np.zeros((rows, width))
    for start, part in zip(range(0, rows, size), parts, strict=True):
        place = np.s_[start : start + len(part.ids), : part.ids.shape[1]]
        ids[place], probs[place] = part.ids, part.probs
    return Truncated(ids, probs)


def _truncate(logits: torch.Tensor, sampling: Sampling) -> Truncated:
    """`truncate` for a few rows."""
    logits = logits.float()
    vocab = logits.shape[-1]
    if sampling.temperature == 0:
        top, ids = _largest(logits, min(2, vocab))
        return Truncated(_first_id(logits, top, ids), np.ones((len(ids), 1)))
    totals = None
    if not sampling.top_k:
        totals = torch.logsumexp(logits / sampling.temperature, dim=-1).cpu().numpy().astype(np.float64)
    width = min(vocab, sampling.top_k + _TIES if sampling.top_k else _FIRST_WIDTH)
    if truncates_nothing(sampling):
        width = vocab
    while True:
        scores, ids = _scores(logits, width, sampling.temperature)
        probs = _truncated_probs(scores, totals, sampling)
        if width == vocab or _settled(scores, probs, sampling):
            used = int(np.flatnonzero((probs > 0).any(axis=0))[-1]) + 1
            return Truncated(ids[:, :used], probs[:, :used])
        width = min(vocab, 8 * width)


@torch.inference_mode()
def without(distributions: Truncated, avoid: Ints, logits: torch.Tensor) -> Truncated:
    """The distributions with token `avoid[r]` removed from row r and the rest renormalised; −1 removes nothing.

    Where truncation left nothing else, the likeliest other token by `logits` [rows, vocabulary] has it all: at
    the edge of the truncation, a step may round away the one other token that the trace's own pass kept.
    """
    probs = np.where(distributions.ids == avoid[:, None], 0.0, distributions.probs)
    totals = probs.sum(axis=1, keepdims=True)
    alone = np.flatnonzero(totals[:, 0] == 0)
    if not alone.size:
        return Truncated(distributions.ids, probs / totals)
    avoided = torch.from_numpy(avoid[alone, None]).to(logits.device)
    others = logits[alone].float().scatter(1, avoided, -torch.inf)
    ids = distributions.ids.copy()
    ids[alone, 0] = others.argmax(dim=-1).cpu().numpy()
    probs[alone, 0] = totals[alone, 0] = 1.0
    return Truncated(ids, probs / totals)


@dataclass(frozen=True, slots=True)
class Draws:
    """What a batch drew: for each distinct token of each row its row, id, probability and count (all [n]).

    Sorted by row; `first` [n] marks the first of each row.
    """

    rows: Ints
    tokens: Ints
    probs: Floats
    counts: Ints
    first: npt.NDArray[np.bool_]


def draw(distributions: Distribution, keys: Keys, counts: Ints) -> Draws:
    """`counts[r]` independent draws from row r by the stream of `keys[r]`, equal ones counted together.

    Inverse of the cumulative distribution, in the order of falling probability, or of the ids where nothing
    truncates a large vocabulary.
    """
    if isinstance(distributions, Untruncated):
        owners, tokens, drawn, times = draw_untruncated(distributions, keys, counts)
        return Draws(owners, tokens, drawn, times, _first_of_each(owners))
    width = distributions.probs.shape[1]
    rows, u = uniforms(keys, counts)
    cumulative = np.cumsum(distributions.probs, axis=1)
    # Row r's cumulative values are shifted by r, so that one sorted search serves all rows. Rounding can push a
    # draw past its row's last token, never onto a token of probability 0: those add no width.
    last = width - 1 - np.argmax(distributions.probs[:, ::-1] > 0, axis=1)
    shifted = (cumulative + np.arange(len(keys))[:, None]).ravel()
    columns = np.searchsorted(shifted, u + rows, side="right") - rows * width
    codes, found = np.unique(rows * width + np.clip(columns, 0, last[rows]), return_counts=True)
    owners = codes // width
    flat_ids, flat_probs = distributions.ids.ravel(), distributions.probs.ravel()
    return Draws(owners, flat_ids[codes], flat_probs[codes], found.astype(np.int64), _first_of_each(owners))


def joined(parts: Sequence[Draws]) -> Draws:
    """Draws of different rows as those of one batch."""
    rows, tokens, probs, counts, first = (
        np.concatenate(columns)
        for columns in zip(*((d.rows, d.tokens, d.probs, d.counts, d.first) for d in parts), strict=True)
    )
    order = np.argsort(rows, kind="stable")
    return Draws(rows[order], tokens[order], probs[order], counts[order], first[order])


def log_totals(logits: torch.Tensor) -> torch.Tensor:
    """The logsumexp of each row's logits [rows], in float32."""
    size = max(1, _CHUNK_BYTES // (8 * logits.shape[-1]))
    parts = [torch.logsumexp(part.float(), dim=-1) for part in torch.split(logits, size)]
    return torch.cat(parts)


def with_own_probs(draws: Draws, logits: torch.Tensor, log_totals: torch.Tensor) -> Draws:
    """The draws with each token's probability under the model itself: temperature 1, nothing truncated.

    logits: [rows, vocabulary], log_totals: [rows], their logsumexp.
    """
    rows = torch.from_numpy(draws.rows).to(logits.device)
    tokens = torch.from_numpy(draws.tokens).to(logits.device)
    logs = logits[rows, tokens].float() - log_totals[rows]
    return replace(draws, probs=logs.exp().clamp(max=1.0).cpu().numpy().astype(np.float64))


def apportion(distributions: Distribution, counts: Ints, least: int) -> Draws:
    """Each row's count split in proportion to its probabilities, rounded down; shares below `least` go."""
    if isinstance(distributions, Untruncated):
        owners, tokens, likely, enough = likely_enough(distributions, counts, least)
        return Draws(owners, tokens, likely, enough, _first_of_each(owners))
    shares = np.floor(distributions.probs * counts[:, None]).astype(np.int64)
    owners, columns = np.nonzero(shares >= least)
    ids, probs = distributions.ids[owners, columns], distributions.probs[owners, columns]
    return Draws(owners, ids, probs, shares[owners, columns], _first_of_each(owners))


def _first_of_each(owners: Ints) -> npt.NDArray[np.bool_]:
    """Where in sorted rows [n] a new one begins."""
    first = np.ones(len(owners), dtype=np.bool_)
    first[1:] = owners[1:] != owners[:-1]
    return first


def _largest(logits: torch.Tensor, width: int) -> tuple[Floats, Ints]:
    """The `width` largest logits of each row with their ids, falling; ties in an order that is not defined."""
    top, ids = torch.topk(logits, width, dim=-1)
    values = top.cpu().numpy().astype(np.float64)
    if not np.isfinite(values[:, 0]).all():
        raise ModelError(f"the model's logits are not finite: try {setting('dtype', 'float32')} (or bfloat16).")
    return values, ids.cpu().numpy()


def _first_id(logits: torch.Tensor, top: Floats, ids: Ints) -> Ints:
    """The most likely id of each row [rows, 1]; the lowest of those that tie, as torch.argmax gives it."""
    if top.shape[1] < 2 or not (top[:, 0] == top[:, 1]).any():
        return ids[:, :1]
    is_top = logits == logits.amax(dim=-1, keepdim=True)
    return is_top.int().argmax(dim=-1, keepdim=True).cpu().numpy()


def _scores(logits: torch.Tensor, width: int, temperature: float) -> tuple[Floats, Ints]:
    """The largest scores (logits over temperature, in float32 as the warper does) and ids, ties settled."""
    top, ids = _largest(logits, width)
    scores = (top.astype(np.float32) / np.float32(temperature)).astype(np.float64)
    tied = np.flatnonzero((scores[:, 1:] == scores[:, :-1]).any(axis=1))
    if tied.size:
        order = np.lexsort((ids[tied], -scores[tied]), axis=-1)
        scores[tied] = np.take_along_axis(scores[tied], order, axis=1)
        ids[tied] = np.take_along_axis(ids[tied], order, axis=1)
    return scores, ids


def _truncated_probs(scores: Floats, log_totals: Floats | None, sampling: Sampling) -> Floats:
    """Probabilities [rows, width] of sorted scores after truncation.

    `log_totals` [rows] normalises over the whole vocabulary; None where top-k leaves only these columns.
    """
    weights = np.exp(scores - scores[:, :1])
    if sampling.top_k and sampling.top_k < scores.shape[1]:
        weights[scores < scores[:, sampling.top_k - 1, None]] = 0.0
    if log_totals is None:
        totals = weights.sum(axis=1, keepdims=True)
    else:
        totals = np.exp(log_totals[:, None] - scores[:, :1])
    if sampling.top_p < 1:
        probs = weights / totals
        before = np.cumsum(probs, axis=1) - probs
        before[:, 0] = 0.0
        weights[before >= sampling.top_p] = 0.0
    weights[weights < sampling.min_p] = 0.0
    normalised: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def _settled(scores: Floats, probs: Floats, sampling: Sampling) -> bool:
    """Whether no token beyond the columns fetched could have been kept, or counted by top-k."""
    if sampling.top_k:
        bounds = scores[:, sampling.top_k - 1]
    else:
        last = probs.shape[1] - 1 - np.argmax(probs[:, ::-1] > 0, axis=1)
        bounds = scores[np.arange(len(scores)), last]
    return bool((scores[:, -1] < bounds).all())
