"""The device and dtype that suit the machine."""

from __future__ import annotations

import torch

from pts.errors import ModelError
from pts.models.options import DtypeName
from pts.setting_names import setting

_SMALL = 10_000_000
"""Parameters up to which a CPU computes in float32 (bfloat16 saves nothing there) and in one thread."""


def choose_device(name: str) -> torch.device:
    """The device asked for, or the best there is for "auto". Raises ModelError where it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} is unknown: use auto, cpu, cuda, cuda:1 or mps.") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ModelError(
            f"device {name} was requested, but PyTorch sees {count} CUDA devices: use "
            f"{setting('device', 'auto')}."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(
            f"device mps was requested, but it is not available here: use {setting('device', 'auto')}."
        )
    return device


def settle_threads(device: torch.device, parameters: int) -> None:
    """One thread for a small model on a CPU, for the whole process.

    Its steps are too short to share: what a second thread saves is lost in waiting for it, many times over
    where the machine has other work (`benchmarks/rollout_speed.py --threads`).
    """
    if device.type == "cpu" and parameters <= _SMALL:
        torch.set_num_threads(1)


def choose_dtype(name: DtypeName, device: torch.device, parameters: int) -> torch.dtype:
    """The dtype asked for; for "auto" bfloat16 where the device computes in it and the model is not tiny."""
    if name != "auto":
        named: torch.dtype = getattr(torch, name)
        return named
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.bfloat16
    return torch.bfloat16 if parameters > _SMALL and cpu_computes_bfloat16() else torch.float32


def cpu_computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (AMX or AVX512-BF16); elsewhere it is slow."""
    # PyTorch offers no public way to ask; without these names, bfloat16 is not assumed.
    asked = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(bool(supported()) for supported in asked if supported is not None)
