"""The Ray cluster that a stage uses: joined, or started on this machine, and what it has room for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pts.errors import ConfigError, one_line
from pts.setting_names import setting

logger = logging.getLogger(__name__)

LOCAL = "local"
"""The address that stands for this machine: a Ray of the stage's own, which ends with it."""
_CONNECT_SECONDS = 5.0
_STORE_BYTES = 256 << 20
"""Memory for objects in transit, of a Ray of the stage's own: rollouts are small."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How many workers there are, and the GPUs (or the share of one) and cores that each has."""

    workers: int
    gpus: float
    cores: int = 1


def require_ray() -> None:
    """Raise ConfigError where Ray is not installed."""
    if find_spec("ray") is None:
        raise ConfigError(
            f"{setting('ray')} needs Ray, which is not installed here: pip install 'pivotal-tokens[ray]', on "
            "every machine of the cluster."
        )


def require_reachable(address: str) -> None:
    """Raise ConfigError where Ray is not installed, or nothing listens at the address."""
    require_ray()
    if address != LOCAL:
        _require_listening(address)


@contextmanager
def joined(address: str, cores: int | None) -> Iterator[Any]:
    """The module ray, connected to the cluster at `address`, or to one here with at least so many cores.

    Raises ConfigError where there is no cluster.
    """
    require_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    in_main = threading.current_thread() is threading.main_thread()
    own: dict[str, Any] = {}
    if address == LOCAL:
        # So that as many workers as were requested can begin.
        own = {"num_cpus": max(cores or 1, os.cpu_count() or 1), "object_store_memory": _STORE_BYTES}
        own["include_dashboard"] = False
    try:
        with interruptible():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray raises Exception itself where a machine is too busy for it to begin.
        if address == LOCAL:
            raise ConfigError(
                f"Ray did not start on this machine ({one_line(error)}): where the machine is busy, give the "
                "same command again; else see Ray's logs, in /tmp/ray where you have not set another folder."
            ) from error
        raise ConfigError(
            f"Ray at {address} cannot be used ({one_line(error)}): check {setting('ray')}, that the "
            f"cluster has this Ray ({ray.__version__}) and this Python, and RAY_AUTH_MODE=token here where it "
            "has a token."
        ) from error
    finally:
        # Ray sets its own, in the main thread.
        for number, handler in handlers.items():
            if in_main:
                signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let an interrupt through that comes while Ray waits: Ray makes a SystemError of it."""
    try:
        yield
    except SystemError as error:
        cause = error.__cause__
        if cause is not None and not isinstance(cause, Exception):
            raise cause from None
        raise


def place(
    nodes: Sequence[Mapping[str, float]],
    workers: int | None,
    gpus: float | None,
    device: str,
    most: int,
    whole: int = 1,
) -> Placement:
    """The workers that a stage has on the cluster, at most `most`; None is as many as there is room for.

    `nodes` are the machines' resources, `CPU` and `GPU`. `gpus` is the share of a GPU of each worker, None for
    `whole` ones where there are any and `device` is not a CPU; there is a core for each of the `whole`. Raises
    ConfigError where there is no room.
    """
    if gpus is None:
        gpus = float(whole) if device != "cpu" and any(node.get("GPU", 0) for node in nodes) else 0.0
    if not gpus and device.startswith("cuda"):
        raise ConfigError(
            f"a worker without a GPU cannot use {setting('device', device)}: the cluster has none, or "
            f"{setting('gpus_per_worker')} is 0."
        )
    room = sum(_room(node, gpus, whole) for node in nodes)
    wanted = max(1, min(room, most)) if workers is None else workers
    if wanted > room:
        other = "gpus_per_worker" if whole == 1 else "tensor_parallel"
        raise ConfigError(
            f"the cluster has room for {room} workers with {needs_of(gpus, whole)} each, and {wanted} are "
            f"wanted: give fewer {setting('workers')}, or another {setting(other)}."
        )
    return Placement(min(wanted, most), gpus, whole)


def needs_of(gpus: float, cores: int = 1) -> str:
    """What a worker with these GPUs and cores needs, in words."""
    core = "a core" if cores == 1 else f"{cores} cores"
    if not gpus:
        return core
    return f"{gpus:g} GPUs of one machine and {core}" if gpus > 1 else f"{gpus:g} of a GPU and {core}"


def _room(node: Mapping[str, float], gpus: float, cores: int) -> int:
    """Workers that a node has room for, whatever runs there now. A share of a GPU is of one of them."""
    by_cores = int(node.get("CPU", 0) // cores)
    if not gpus:
        return by_cores
    there = int(node.get("GPU", 0))
    return min(by_cores, int(there // gpus) if gpus > 1 else there * int(1 / gpus + 1e-9))


def _require_listening(address: str) -> None:
    """Raise ConfigError at once where nothing listens: Ray itself would try for two minutes, and then exit."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise ConfigError(f"{setting('ray')} is {address!r}; write it as HOST:PORT; such as 10.0.0.1:6379.")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"there is no Ray at {address} ({one_line(error)}): start one with `ray start`, or leave the "
            f"address of {setting('ray')} out to use this machine alone."
        ) from error
