"""Seeds derived from names, so that every draw has a stream of its own whatever the order of work."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: int | str) -> int:
    """A 63-bit seed for the stream that `names` point to under `seed`."""
    text = "\x1f".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
