"""The process that runs a data set's tests on a program in another process: started by `pts.sandbox.run`.

The verdict is written here, where none of the program's code ever runs, on a pipe that the program does not
have.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import types
import unittest
from pathlib import Path
from typing import Any

from pts.sandbox.assertions import Assertions, program_names
from pts.sandbox.isolation import SandboxLimits, hold_in
from pts.sandbox.wire import TESTS, Peer, Remote, WireError


def main() -> None:
    """Read the settings file named on the command line, give up all rights, run the tests, report."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="ascii"))
    sys.path.pop(0)  # the folder that pts was imported from
    os.chdir(settings["folder"])
    hold_in(SandboxLimits(**settings["limits"]), settings["folder"], settings["readable"], settings["parent"])
    peer = Peer(os.fdopen(settings["reading"], "rb"), os.fdopen(settings["writing"], "wb"), trusted=False)
    try:
        run_tests(peer, settings["setup"], settings["tests"], settings["entry_point"])
        if peer.broken:  # a test may have taken that for the error that it expects
            raise WireError("the program ended before its tests")
        reason = ""
    except BaseException as error:  # whatever a test raises, SystemExit too, is a failed test
        reason = f"{type(error).__name__}: {error}"[:300]
    with os.fdopen(settings["verdict"], "w", encoding="ascii") as verdict:
        verdict.write(json.dumps({"passed": not reason, "reason": reason}) + "\n")


def run_tests(peer: Peer, setup: str, tests: list[str], entry_point: str | None) -> None:
    """Load the program and run the tests on it. Returns where all passed; raises what a test raises.

    `setup` runs here, over the program's own names: helpers that the data set gives are the tests', not the
    program's. Of the tests, a function `check` is called with the entry point, functions `test…` are called,
    also in classes `Test…`, and unittest's cases are run; what stands outside functions runs as it is. Tests
    that came to no assertion have not passed.
    """
    module = types.ModuleType(TESTS)
    sys.modules[TESTS] = module
    namespace = module.__dict__
    namespace.update(program_names(peer.ask("load") | _modules(peer), (setup, *tests), entry_point))
    if entry_point is not None:
        candidate = namespace.get(entry_point)
        if candidate is None:
            raise NameError(f"the program defines no {entry_point}")
        namespace["candidate"] = candidate
    assertions = Assertions()
    namespace.update(assertions.names)
    exec(assertions.compiled(setup, "<setup>"), namespace)
    if entry_point is not None:
        namespace[entry_point] = candidate
    before = dict(namespace)
    for number, test in enumerate(tests):
        exec(assertions.compiled(test, f"<test {number}>"), namespace)
    defined = {name: one for name, one in namespace.items() if before.get(name) is not one}
    _call_tests(defined, namespace, entry_point)
    assertions.require()


def _modules(peer: Peer) -> dict[str, Any]:
    """The modules of the standard library that the program imported, by its names for them."""
    return {
        name: importlib.import_module(str(imported))
        for name, imported in peer.ask("modules").items()
        if str(imported).partition(".")[0] in sys.stdlib_module_names
    }


def _call_tests(defined: dict[str, Any], namespace: dict[str, Any], entry_point: str | None) -> None:
    """Run what the tests define and do not call themselves."""
    check = defined.get("check")
    if check is not None and not isinstance(check, Remote) and entry_point is not None:
        check(namespace[entry_point])
    _call_functions(defined)
    for name, value in defined.items():
        if not isinstance(value, type):
            continue
        if issubclass(value, unittest.TestCase):
            _run_case(value)
        elif name.startswith("Test"):
            for test in [one for one in dir(value) if one.startswith("test")]:
                one = value()
                getattr(one, "setup_method", lambda: None)()
                _call_functions({test: getattr(one, test)})


def _call_functions(named: dict[str, Any]) -> None:
    """Call the functions and methods named `test…` that need no arguments."""
    for name, value in named.items():
        if not name.startswith("test") or not isinstance(value, types.FunctionType | types.MethodType):
            continue
        if all(one.default is not one.empty for one in inspect.signature(value).parameters.values()):
            result = value()
            if inspect.iscoroutine(result):
                import asyncio

                asyncio.run(result)


def _run_case(case: type[unittest.TestCase]) -> None:
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        result = unittest.TextTestRunner(stream=nowhere).run(suite)
    if not result.wasSuccessful():
        raise AssertionError(f"{len(result.failures) + len(result.errors)} unit tests failed")


if __name__ == "__main__":
    main()
