"""What holds a child process in: system-call filter, file rules, and limits. Each is tried and named."""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass

from pts.sandbox.landlock import restrict_files
from pts.sandbox.seccomp import install_filter

SECCOMP = "seccomp"
LANDLOCK = "Landlock"
MEMORY = "memory limit"
PROCESSES = "process limit"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What a program may take: seconds, bytes of memory, bytes of a file, bytes of output."""

    seconds: float = 10.0
    memory: int = 1024**3
    file: int = 4 * 1024**2
    output: int = 1024**2


def hold_in(limits: SandboxLimits, folder: str, readable: Sequence[str], parent: int) -> tuple[str, ...]:
    """Restrict this process for good, to files below `folder`, and reading of `readable`.

    Returns the names of what took hold; limits on time, file sizes and open files always do where there is a
    module `resource`. Call it from the only thread.
    """
    _die_with(parent)
    held = ["resource limits"]
    if _limit_resources(limits):
        held.append(MEMORY)
    _drop_capabilities()
    if restrict_files(readable, folder):
        held.append(LANDLOCK)
    if install_filter():
        held.append(SECCOMP)
    elif _forbid_processes():
        held.append(PROCESSES)
    return tuple(held)


def readable_paths() -> tuple[str, ...]:
    """What an interpreter must read to import modules: its own libraries, installed packages, the loader's."""
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    # The standard library of the interpreter that a virtual environment was made from, and its shared library.
    libraries |= {os.path.join(sys.base_prefix, "lib"), os.path.dirname(os.__file__)}
    system = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo")
    files = ("/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")
    return tuple(sorted({os.path.realpath(path) for path in (*libraries, *system, *files)}))


def _limit_resources(limits: SandboxLimits) -> bool:
    """Set the limits; whether that on memory took hold (macOS accepts none)."""
    import resource

    seconds = max(1, round(limits.seconds))
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (ceiling, ceiling))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    except (ValueError, OSError):
        return False
    return sys.platform == "linux"


def _forbid_processes() -> bool:
    """Let this process start no other; the system does not hold root to that."""
    import resource

    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return os.getuid() != 0


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the one that started it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _drop_capabilities() -> None:
    """Give up what makes root more than a user: files of others, higher limits (Linux)."""
    if sys.platform != "linux":
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())
