"""The bundled demo model: a toy arithmetic language on a real transformer."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def demo_model_dir() -> Path:
    """The directory of the bundled weights, tokenizer and model card, as transformers loads it."""
    return Path(str(files(__name__) / "weights"))
