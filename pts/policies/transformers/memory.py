"""How much memory there is to spend on caches, and how running out of it is recognised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

_EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory", "DefaultCPUAllocator")
"""What the errors say by which PyTorch reports exhausted memory outside CUDA (CPU: two wordings; Metal)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _EXHAUSTED)


def release_cached(device: torch.device) -> None:
    """Have PyTorch give memory back that it keeps for later: it may be in pieces of the wrong size."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def available_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """Free memory of the device in bytes; for a CPU, the least that the machine and its control groups leave.

    `root` is where the control groups' files are looked for.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return max(0, int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    return max(0, min([int(psutil.virtual_memory().available), *_left_by_groups(root)]))


def _left_by_groups(root: Path) -> Iterator[int]:
    """What each control group leaves that this process is in, its own and all above it, of version 2 and 1.

    The page cache counts as used, but what of it is inactive is given up before anything fails.
    """
    for mount, path, names in _groups(root):
        limit_name, used_name, cached_name = names
        folder = mount / path.strip("/")
        while folder.is_relative_to(mount):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None:
                cached = _numbers(folder / "memory.stat").get(cached_name, 0)
                yield limit - max(0, used - cached)
            folder = folder.parent


def _groups(root: Path) -> Iterator[tuple[Path, str, tuple[str, str, str]]]:
    """The process's memory groups: where they are mounted, the path below, and the names of the files."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mounts = root / "sys/fs/cgroup"
    for line in [*lines, "0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            yield mounts, path, names
            yield mounts / "unified", path, names
        elif "memory" in controllers.split(","):
            yield (
                mounts / "memory",
                path,
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            )


def _number(path: Path) -> int | None:
    """The number that is all a file holds; None where there is no file or no limit ("max")."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _numbers(path: Path) -> dict[str, int]:
    """The first number of each line of a file, by the word before it; empty where there is no file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
