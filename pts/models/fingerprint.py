"""A digest of a local model that changes with its files and is cheap however large they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

_WHOLE = 64 << 20
"""Files up to this size are read in full; of larger ones, `_SAMPLES` blocks spread over them."""
_BLOCK = 64 << 10
_SAMPLES = 64

_READ = (".json", ".jinja", ".model", ".safetensors", ".gguf", ".py", ".txt")


def fingerprint(path: Path) -> str:
    """Digest of a model file, or of a directory's weights, configuration and tokenizer files (not below it).

    Of a large file its size and evenly spread blocks are read, the first and last among them: training changes
    all of the weights, so a changed model shows, though a change of a few bytes might not.
    """
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix in _READ)
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE:
                digest.update(stream.read())
                continue
            for index in range(_SAMPLES):
                stream.seek((size - _BLOCK) * index // (_SAMPLES - 1))
                digest.update(stream.read(_BLOCK))
    return f"sha256:{digest.hexdigest()[:32]}"
