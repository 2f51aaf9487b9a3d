"""Landlock rules for the calling process: it reads a few folders and writes in one.

Linux only, kernel 5.13 or newer. Needs no privilege and cannot be undone (landlock(7)).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH, _PR_SET_NO_NEW_PRIVS = 1, 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""File rights that each version of the interface knows; a right that is not handled is not restricted."""
_NETWORK_FROM, _ALL_TCP = 4, 0b11
_SCOPES_FROM, _ALL_SCOPES = 6, 0b11


def restrict_files(readable: Sequence[str], writable: str) -> bool:
    """Let this process read below `readable` and make files in `writable`, no folders; False where it cannot.

    Paths that do not exist are left out. /dev/null may be written to as well.
    """
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    handled = _HANDLED[max(known for known in _HANDLED if known <= version)]
    attributes = (ctypes.c_uint64 * 3)(
        handled, _ALL_TCP if version >= _NETWORK_FROM else 0, _ALL_SCOPES if version >= _SCOPES_FROM else 0
    )
    size = 24 if version >= _SCOPES_FROM else 16 if version >= _NETWORK_FROM else 8
    ruleset = call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    read = _EXECUTE | _READ_FILE | _READ_DIR
    write = read | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
    try:
        rules = [*((path, read) for path in readable), (writable, write), (os.devnull, read | _WRITE_FILE)]
        for path, rights in rules:
            if not _add_rule(call, ruleset, path, rights & handled):
                return False
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _add_rule(call: ctypes._NamedFuncPointer, ruleset: int, path: str, rights: int) -> bool:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        if not os.path.isdir(path):
            rights &= _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
        rule = _PathBeneath(rights, parent)
        return bool(
            call(
                _ADD_RULE,
                ctypes.c_int(ruleset),
                ctypes.c_int(_RULE_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint32(0),
            )
            == 0
        )
    finally:
        os.close(parent)
