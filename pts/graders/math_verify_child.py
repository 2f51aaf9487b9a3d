"""The process that runs Math-Verify: one JSON request a line in, one JSON reply a line out.

Run as a script, by `math_verify_process`, and never imported: sympy may compute for ever inside one C call,
which no signal handler or thread of the same process can end. A watchdog that does not need the interpreter
ends this process instead, also when whoever asked is gone.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
from functools import lru_cache
from typing import Any

MEMORY_LIMIT = 2 * 1024**3
"""Bytes of address space: an expression like 10^10^10 must fail here, not take the machine's memory."""


def limit_memory() -> bool:
    """Holds this process to MEMORY_LIMIT; False where the system cannot (macOS, Windows)."""
    try:
        import resource
    except ImportError:  # not on Windows
        return False
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > MEMORY_LIMIT:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, hard))
        except (ValueError, OSError):
            return False
    return sys.platform != "darwin"  # where the limit is taken, and not kept


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Any, ...]:
    """What Math-Verify reads in `text`: an expression, and its text; () for nothing."""
    from math_verify import parse

    return tuple(parse(text, parsing_timeout=None))


def has_expression(read_values: tuple[Any, ...]) -> bool:
    """Whether more than bare text was read."""
    return any(not isinstance(value, str) for value in read_values)


def agrees(gold: str, targets: list[str]) -> bool:
    """Whether the first of `targets` that reads as an expression equals `gold`."""
    from math_verify import verify

    reference = list(read(gold))
    for target in targets:
        found = read(target)
        if found and verify(reference, list(found), timeout_seconds=None):
            return True
        if has_expression(found):
            return False
    return False


DECIMALS, SIGNIFICANT = 5e-7, 5e-6
"""Absolute and relative difference within which two decimals are the same."""


def compare_tiny_values() -> None:
    """Has Math-Verify tell small numbers apart: its own comparison rounds to six decimals, which makes them 0.

    Raises AttributeError where this Math-Verify has no such comparison.
    """
    from math_verify import grader
    from sympy import Basic

    rounded = grader.sympy_numeric_eq

    def equal(first: Any, second: Any, *settings: Any) -> bool:
        if not rounded(first, second, *settings):
            return False
        if not isinstance(first, Basic) or not isinstance(second, Basic):
            return True
        first, second = first.doit(), second.doit()
        if first == second or not getattr(first, "is_number", False) or not getattr(second, "is_number", False):
            return True
        larger = max(abs(first.evalf(30)), abs(second.evalf(30)))
        difference = abs((first - second).evalf(30))
        return bool(difference <= SIGNIFICANT * larger) if larger < LARGEST_TINY else True

    grader.sympy_numeric_eq = equal


LARGEST_TINY = 0.1
"""Below it six decimals are fewer than six significant digits."""


def main() -> None:
    """Answers requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    os.dup2(nowhere.fileno(), 1)  # nothing that sympy prints may pass for a reply
    logging.disable(logging.CRITICAL)
    read("1")
    compare_tiny_values()
    limited = limit_memory()
    os.dup2(nowhere.fileno(), 2)  # nobody reads it from here on: a full pipe would block
    print(json.dumps({"limited": limited}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        faulthandler.dump_traceback_later(request["seconds"], exit=True, file=nowhere)
        targets = request["targets"]
        gold = request["gold"]
        reply = has_expression(read(gold)) if targets is None else agrees(gold, targets)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
