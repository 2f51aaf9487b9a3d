"""A seccomp filter for the calling process: no network, no further processes, no signals to others.

Linux only, x86-64 and 64-bit ARM. The filter is a classic BPF program (seccomp(2), "Filter programs"). It needs
no privilege, cannot be removed, and holds for whatever the process runs afterwards.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Mapping

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_CLONE_THREAD = 0x00010000
_LAST_KNOWN = 462
"""Later system calls did not exist when this list was made: they are reported as missing."""

# Calls that refuse to act outside the process are left alone; these are not. Numbers from the kernel's tables
# (arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h).
_REFUSED_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "process_mrelease": 448,
    "fchmodat2": 452,
}
_REFUSED: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "socket": 41,
        "connect": 42,
        "accept": 43,
        "bind": 49,
        "listen": 50,
        "accept4": 288,
        "fork": 57,
        "vfork": 58,
        "execve": 59,
        "execveat": 322,
        "tkill": 200,
        "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297,
        "ptrace": 101,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "shmget": 29,
        "shmat": 30,
        "semget": 64,
        "msgget": 68,
        "mq_open": 240,
        "truncate": 76,
        "chmod": 90,
        "fchmod": 91,
        "chown": 92,
        "fchown": 93,
        "lchown": 94,
        "fchmodat": 268,
        "fchownat": 260,
        "utime": 132,
        "utimes": 235,
        "futimesat": 261,
        "utimensat": 280,
        "setxattr": 188,
        "lsetxattr": 189,
        "fsetxattr": 190,
        "removexattr": 197,
        "lremovexattr": 198,
        "fremovexattr": 199,
        "mknod": 133,
        "mknodat": 259,
        "mount": 165,
        "umount2": 166,
        "pivot_root": 155,
        "chroot": 161,
        "unshare": 272,
        "setns": 308,
        "setpriority": 141,
        "sched_setscheduler": 144,
        "sched_setattr": 314,
        "reboot": 169,
        "sethostname": 170,
        "setdomainname": 171,
        "swapon": 167,
        "swapoff": 168,
        "settimeofday": 164,
        "clock_settime": 227,
        "adjtimex": 159,
        "clock_adjtime": 305,
        "init_module": 175,
        "finit_module": 313,
        "delete_module": 176,
        "kexec_load": 246,
        "kexec_file_load": 320,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "perf_event_open": 298,
        "bpf": 321,
        "userfaultfd": 323,
        "fanotify_init": 300,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "memfd_create": 319,
        "quotactl": 179,
        "acct": 163,
        "syslog": 103,
    },
    "aarch64": {
        "socket": 198,
        "bind": 200,
        "listen": 201,
        "accept": 202,
        "connect": 203,
        "accept4": 242,
        "execve": 221,
        "execveat": 281,
        "tkill": 130,
        "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240,
        "ptrace": 117,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "shmget": 194,
        "shmat": 196,
        "semget": 190,
        "msgget": 186,
        "mq_open": 180,
        "truncate": 45,
        "fchmod": 52,
        "fchmodat": 53,
        "fchownat": 54,
        "fchown": 55,
        "utimensat": 88,
        "setxattr": 5,
        "lsetxattr": 6,
        "fsetxattr": 7,
        "removexattr": 14,
        "lremovexattr": 15,
        "fremovexattr": 16,
        "mknodat": 33,
        "mount": 40,
        "umount2": 39,
        "pivot_root": 41,
        "chroot": 51,
        "unshare": 97,
        "setns": 268,
        "setpriority": 140,
        "sched_setscheduler": 119,
        "sched_setattr": 274,
        "reboot": 142,
        "sethostname": 161,
        "setdomainname": 162,
        "swapon": 224,
        "swapoff": 225,
        "settimeofday": 170,
        "clock_settime": 112,
        "adjtimex": 171,
        "clock_adjtime": 266,
        "init_module": 105,
        "finit_module": 273,
        "delete_module": 106,
        "kexec_load": 104,
        "kexec_file_load": 294,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "perf_event_open": 241,
        "bpf": 280,
        "userfaultfd": 282,
        "fanotify_init": 262,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "memfd_create": 279,
        "quotactl": 60,
        "acct": 89,
        "syslog": 116,
    },
}
_AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_CALLS = 0x40000000
# clone may make threads; clone3 hides its flags from a filter, and the C library then falls back to clone.
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
# Signals and limits: of this process alone.
_OWN_ONLY: Mapping[str, tuple[int, ...]] = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill, tgkill
_OWN_OR_ZERO = {"x86_64": (302,), "aarch64": (261,)}  # prlimit64

# A pair of datagram sockets sends to any address. A file can be made to signal its owner, any process.
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
_TYPE_BITS, _STREAM = 0xF, 1
_SETS_OWNER: Mapping[str, tuple[tuple[int, tuple[int, ...]], ...]] = {
    "x86_64": ((72, (8, 10, 15)), (16, (0x8901, 0x8902))),  # fcntl F_SETOWN, F_SETSIG, F_SETOWN_EX; ioctl
    "aarch64": ((25, (8, 10, 15)), (29, (0x8901, 0x8902))),  # FIOSETOWN, SIOCSPGRP
}


def install_filter() -> bool:
    """Apply the filter to this process, for good; False where the system cannot.

    Call it from the only thread.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _REFUSED or struct.calcsize("P") != 8:
        return False
    code = b"".join(struct.pack("HBBI", *step) for step in _program(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(code) // 8, ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program), 0, 0) == 0)


Step = tuple[int, int, int, int]
"""One BPF instruction: code, jump if true, jump if false, constant."""


def _program(machine: str, own: int) -> list[Step]:
    """The filter. Every jump is over the next instruction, or to it."""
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _AUDIT_ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32_CALLS),
        (_RETURN, 0, 0, _KILL),
        (_AT_LEAST, 0, 1, _LAST_KNOWN + 1),
        (_RETURN, 0, 0, _MISSING),
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _MISSING),
    ]
    for number in (*_REFUSED[machine].values(), *_REFUSED_EVERYWHERE.values()):
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    steps += [
        (_EQUAL, 0, 5, _CLONE[machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_AND, 0, 0, _CLONE_THREAD),
        (_EQUAL, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    steps += [
        (_EQUAL, 0, 5, _SOCKETPAIR[machine]),
        (_LOAD, 0, 0, _SECOND_ARGUMENT),
        (_AND, 0, 0, _TYPE_BITS),
        (_EQUAL, 0, 1, _STREAM),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for number, commands in _SETS_OWNER[machine]:
        check = [(_LOAD, 0, 0, _SECOND_ARGUMENT)]
        for command in commands:
            check += [(_EQUAL, 0, 1, command), (_RETURN, 0, 0, _REFUSE)]
        check.append((_RETURN, 0, 0, _ALLOW))
        steps += [(_EQUAL, 0, len(check), number), *check]
    allowed: list[tuple[int, tuple[int, ...]]] = [(number, (own,)) for number in _OWN_ONLY[machine]]
    allowed += [(number, (own, 0)) for number in _OWN_OR_ZERO[machine]]
    for number, processes in allowed:
        check = [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
        for process in processes:
            check += [(_EQUAL, 0, 1, process), (_RETURN, 0, 0, _ALLOW)]
        check.append((_RETURN, 0, 0, _REFUSE))
        steps += [(_EQUAL, 0, len(check), number), *check]
    return [*steps, (_RETURN, 0, 0, _ALLOW)]
