"""How much memory there is to spend on caches."""

from __future__ import annotations

from pathlib import Path

import torch

_UNKNOWN = 4 << 30
"""Assumed where the machine does not say: 4 GiB."""


def available_bytes(device: torch.device) -> int:
    """Free memory of the device in bytes; for a CPU, what the machine and its control group leave."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    limits = [limit for limit in (_host_available(), _cgroup_available()) if limit is not None]
    return min(limits, default=_UNKNOWN)


def _host_available() -> int | None:
    """MemAvailable of Linux; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return found[0] << 10 if found else None


def _cgroup_available() -> int | None:
    """What the control group (version 2) of a container leaves; None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdigit() else None
