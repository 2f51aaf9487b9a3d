"""Draws from the whole vocabulary, where the sampler truncates nothing: by inverse CDF, in two levels.

The vocabulary is cut into blocks of ids. The device sums each block's weights, exp(score − largest score), in
float64; a draw chooses a block by those sums, and a token within it by the weights of that block alone, which
are all that leave the device. So no vocabulary is sorted, and each token's probability is right to the rounding
of float64: a sum in float32 over a vocabulary of 151,936 would be off by more than the rare tokens' own share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import ModelError
from pts.policies.transformers.draws import Keys, uniforms
from pts.records import Sampling
from pts.setting_names import setting

BLOCK = 512
"""Ids of a block: about the root of a large vocabulary, so that both levels are short."""
CHUNK_BYTES = 16 << 20
"""Bytes of weights held at once, whatever the rows of the batch."""
SEARCHED_AT_ONCE = 1 << 21
"""Comparisons made in one sweep; beyond, each row's draws are searched for by halves."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def truncates_nothing(sampling: Sampling) -> bool:
    """Whether the sampler leaves every token its share."""
    whole = sampling.top_k == 0 and sampling.top_p >= 1 and sampling.min_p == 0
    return whole and sampling.temperature > 0


@dataclass(frozen=True, slots=True)
class Untruncated:
    """Next-token distributions of a batch over the whole vocabulary.

    `logits` [rows, vocabulary] stay on their device; `top` [rows] is each row's largest score (logit over
    temperature), `sums` [rows, blocks] the sums of exp(score − top) over each block of ids.
    """

    logits: torch.Tensor
    temperature: float
    top: Floats
    sums: Floats


@torch.inference_mode()
def untruncated(logits: torch.Tensor, sampling: Sampling, avoid: Ints) -> Untruncated:
    """The distributions for `logits` [rows, vocabulary] without token `avoid[r]` of row r (−1: with all).

    What is avoided is taken out of `logits` in place. Raises ModelError where a row's logits are not finite.
    """
    (avoiding,) = np.nonzero(avoid >= 0)
    if avoiding.size:
        places = torch.from_numpy(avoiding).to(logits.device)
        logits[places, torch.from_numpy(avoid[avoiding]).to(logits.device)] = -torch.inf
    rows, vocab = logits.shape
    blocks = -(-vocab // BLOCK)
    # Metal computes in no float64: there the blocks' sums are float32's, and only what follows is exact.
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    size = max(1, CHUNK_BYTES // (blocks * BLOCK * dtype.itemsize))
    tops, sums = [], []
    weights = torch.empty((min(size, rows), blocks * BLOCK), dtype=dtype, device=logits.device)
    for start in range(0, rows, size):
        scores = _scores(logits[start : start + size], sampling.temperature)
        top = scores.amax(dim=-1)
        part = weights[: len(scores)]
        part[:, :vocab] = scores
        part[:, vocab:] = -torch.inf
        part.sub_(top.to(dtype)[:, None]).exp_()
        tops.append(top.cpu().numpy().astype(np.float64))
        sums.append(part.view(-1, blocks, BLOCK).sum(-1).cpu().numpy().astype(np.float64))
    largest = np.concatenate(tops)
    if not np.isfinite(largest).all():
        raise ModelError(f"the model's logits are not finite: try {setting('dtype', 'float32')} (or bfloat16).")
    return Untruncated(logits, sampling.temperature, largest, np.concatenate(sums))


def draw_untruncated(distributions: Untruncated, keys: Keys, counts: Ints) -> tuple[Ints, Ints, Floats, Ints]:
    """`counts[r]` independent draws from row r by the stream of `keys[r]`, equal ones counted together.

    Row, token, probability and count of each distinct token, sorted by row, then id ([n] each).
    """
    rows, u = uniforms(keys, counts)
    cumulative = np.cumsum(distributions.sums, axis=1)
    totals = cumulative[:, -1]
    wanted = u * totals[rows]
    blocks = _first_beyond(cumulative, rows, wanted)
    before = np.where(blocks > 0, cumulative[rows, np.maximum(blocks - 1, 0)], 0.0)
    width = cumulative.shape[1]
    pairs, places = np.unique(rows * width + blocks, return_inverse=True)
    order = np.argsort(places, kind="stable")
    found: list[tuple[Ints, Floats, Ints]] = []
    size = max(1, CHUNK_BYTES // (8 * BLOCK))
    ends = np.searchsorted(places[order], np.arange(0, len(pairs) + size, size))
    for part, start in enumerate(range(0, len(pairs), size)):
        chunk = pairs[start : start + size]
        drawn = order[ends[part] : ends[part + 1]]
        owners, columns = chunk // width, chunk % width
        weights = _block_weights(distributions, owners, columns)
        inner = np.cumsum(weights, axis=1)
        at = places[drawn] - start
        # The block's share of its row, spread over the block's own weights.
        share = (wanted[drawn] - before[drawn]) / distributions.sums[owners[at], columns[at]]
        tokens = _first_beyond(inner, at, share * inner[at, -1])
        codes, times = np.unique(at * BLOCK + tokens, return_counts=True)
        pair, token = codes // BLOCK, codes % BLOCK
        probs = weights[pair, token] / totals[owners[pair]]
        # A code of the whole batch, so that rows and ids come back from it in order.
        found.append((chunk[pair] * BLOCK + token, probs, times.astype(np.int64)))
    codes, probs, times = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return codes // (width * BLOCK), codes % (width * BLOCK), probs, times


@torch.inference_mode()
def likely_enough(distributions: Untruncated, counts: Ints, least: int) -> tuple[Ints, Ints, Floats, Ints]:
    """Row, token, probability and share of each token whose share of its row's count is at least `least`."""
    found: list[tuple[Ints, Ints, Floats, Ints]] = []
    totals = distributions.sums.sum(axis=1)
    for row, count in enumerate(counts.tolist()):
        scores = _scores(distributions.logits[row], distributions.temperature).cpu().numpy().astype(np.float64)
        probs = np.exp(scores - distributions.top[row]) / totals[row]
        shares = np.floor(probs * count).astype(np.int64)
        (tokens,) = np.nonzero(shares >= least)
        found.append((np.full(len(tokens), row), tokens, probs[tokens], shares[tokens]))
    rows, ids, kept, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, ids, kept, shares


def _scores(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits over the temperature, in float32 as transformers' warper has them."""
    scores = logits.float()
    return scores if temperature == 1 else scores / temperature


def _block_weights(distributions: Untruncated, rows: Ints, blocks: Ints) -> Floats:
    """The weights of blocks of ids, each of a row: [n, BLOCK], 0 beyond the vocabulary."""
    logits = distributions.logits
    ids = blocks[:, None] * BLOCK + np.arange(BLOCK)
    beyond = ids >= logits.shape[-1]
    places = torch.from_numpy(np.where(beyond, 0, ids)).to(logits.device)
    with torch.inference_mode():
        owners = torch.from_numpy(rows).to(logits.device)[:, None]
        scores = _scores(logits[owners, places], distributions.temperature)
    weights = np.exp(scores.cpu().numpy().astype(np.float64) - distributions.top[rows, None])
    weights[beyond] = 0.0
    return weights


def _first_beyond(cumulative: Floats, groups: Ints, wanted: Floats) -> Ints:
    """For each draw [n] the first column of its group's cumulative weights [groups, width] above what it wants.

    That column adds weight of its own: where rounding leaves none above, it is the last that does.
    """
    width = cumulative.shape[1]
    columns = np.empty(len(wanted), dtype=np.int64)
    if len(wanted) * width <= SEARCHED_AT_ONCE:
        np.sum(cumulative[groups] <= wanted[:, None], axis=1, out=columns)
    else:
        order = np.argsort(groups, kind="stable")
        ends = np.searchsorted(groups[order], np.arange(len(cumulative) + 1))
        for group, row in enumerate(cumulative):
            drawn = order[ends[group] : ends[group + 1]]
            columns[drawn] = np.searchsorted(row, wanted[drawn], side="right")
    over = columns == width
    if over.any():
        # The first column that reaches the total is the last with weight.
        columns[over] = (cumulative[groups[over]] < cumulative[groups[over], -1:]).sum(axis=1)
    return columns
