"""What a user can say about which model to load and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.errors import ConfigError

DtypeName: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, and how to load it.

    `spec` is a hub id, a local directory, the path of a .gguf file, or "demo". `device` is "auto", "cpu",
    "cuda", "cuda:1" or "mps". `adapter` is the path or hub id of a PEFT adapter. `auto_dtype` is what the dtype
    "auto" means for weights that are not quantised ("auto": what suits the device). Raises ConfigError for an
    unknown dtype.
    """

    spec: str = "demo"
    revision: str | None = None
    device: str = "auto"
    dtype: DtypeName = "auto"
    adapter: str | None = None
    trust_remote_code: bool = False
    auto_dtype: DtypeName = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype is {self.dtype!r}; it must be one of {', '.join(_DTYPES)}.")
