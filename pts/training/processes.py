"""The processes of a launcher: which one this is, how many there are, and what happens where one is lost.

A launcher (`torchrun`, `accelerate launch`) starts the same command several times. The first process writes and
reports; the others only train.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pts.errors import ConfigError, RunError

_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_LOST = ("closed by peer", "reset by peer", "broken pipe", "gloo/transport", "timed out waiting")
"""What the errors of gloo say where another process has ended."""


class LostProcess(RunError):
    """Another process of the launcher has ended."""


def rank() -> int:
    """This process's number among those of a launcher."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """The number of processes of a launcher; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_known_launcher(environment: Mapping[str, str] | None = None) -> None:
    """Raise ConfigError where a launcher was asked for several processes and they cannot know of each other.

    On a CPU `accelerate launch --num_processes 2` starts one process, or several by MPI.
    """
    found = os.environ if environment is None else environment
    if "WORLD_SIZE" in found:
        return
    by_mpi = any(int(found.get(name, "1")) > 1 for name in _MPI_SIZES)
    if by_mpi or ("ACCELERATE_USE_CPU" in found and "MASTER_ADDR" in found):
        raise ConfigError(
            "accelerate starts several processes on a CPU only by MPI, which pts train does not know: launch "
            "with torchrun --nproc-per-node 2 -m pts train ..., or with --num_processes 1."
        )


def wait_for_the_first() -> None:
    """Let the processes of a launcher wait until the first one has done what they all read."""
    from accelerate import PartialState

    if process_count() > 1:
        PartialState().wait_for_everyone()


def end_together() -> None:
    """Let the processes of a launcher wait until the last one is done, and close what connects them.

    A process that ends with the connection open may abort: threads of the backend are then still running. The
    launcher takes that for a failure, and ends the first process while it writes.
    """
    import torch

    if process_count() > 1 and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@contextmanager
def told_of_lost_ones() -> Iterator[None]:
    """Raise LostProcess, in place of what the backend raises, where another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if process_count() > 1 and _is_lost(error):
            raise LostProcess(
                "another process of the launcher ended, so this one cannot go on. What was saved before is "
                "kept: give the same command again to continue."
            ) from error
        raise


def _is_lost(error: RuntimeError) -> bool:
    import torch

    known = getattr(torch.distributed, "DistError", ())
    return isinstance(error, known) or any(word in str(error).lower() for word in _LOST)
