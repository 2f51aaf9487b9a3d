"""Random draws that depend on a request and a path of tokens alone, never on what shares the batch.

Every node of a request's tree of completions has a 64-bit key, hashed from the request and the tokens drawn so
far; the draws made there are a counter-based stream of that key. So the result of a request is the same for any
batch size, order of requests, or moment at which a row gets its turn.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pts.records import RolloutRequest

Keys = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def root_key(request: RolloutRequest) -> int:
    """The key of a request's first draw: a hash of its seed, ids, forced and avoided token (not of `n`).

    Of one that was resumed it is that of the path from its prompt along its prefix.
    """
    if request.resumed:
        key = np.array([root_key(replace(request, prefix=(), resumed=False))], dtype=np.uint64)
        for token in np.asarray(request.prefix, dtype=np.int64)[:, None]:
            key = child_keys(key, token)
        return int(key[0])
    digest = hashlib.blake2b(digest_size=8)
    head = (request.seed, len(request.prompt), len(request.prefix), request.force, request.avoid)
    digest.update(repr(head).encode())
    digest.update(np.asarray(request.prompt + request.prefix, dtype=np.int64).tobytes())
    return int.from_bytes(digest.digest(), "little")


def child_keys(keys: Keys, tokens: npt.NDArray[np.int64]) -> Keys:
    """Keys [n] of the nodes reached from the nodes `keys` [n] by `tokens` [n]."""
    return _mix(keys ^ _mix(tokens.astype(np.uint64) + _GOLDEN))


def uniforms(
    keys: Keys, counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """`counts[r]` uniform draws in [0, 1) for each key: the row of each draw [sum of counts], and its value.

    SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), used as a
    counter-based generator: the j-th draw is the finalizer of key + j times the golden gamma.
    """
    rows = np.repeat(np.arange(len(keys)), counts)
    starts = np.cumsum(counts) - counts
    counters = (np.arange(len(rows)) - starts[rows] + 1).astype(np.uint64)
    bits = _mix(keys[rows] + counters * _GOLDEN)
    return rows, (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: Keys) -> Keys:
    """SplitMix64's finalizer, a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
