"""The process that runs a program: started by `pts.sandbox.run`, never imported by it."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

from pts.sandbox.isolation import SandboxLimits, hold_in
from pts.sandbox.wire import Peer

MODULE = "program"
"""The name that a program under test is run as: what it guards with `__main__` does not run."""


def main() -> None:
    """Read the settings file named on the command line, give up all rights, then run what it holds."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="ascii"))
    sys.path.pop(0)  # the folder that pts was imported from
    sys.argv = [MODULE]
    os.chdir(settings["folder"])
    held = hold_in(
        SandboxLimits(**settings["limits"]), settings["folder"], settings["readable"], settings["parent"]
    )
    if settings["task"] == "probe":
        print(json.dumps(held))
    elif settings["task"] == "run":
        namespace = _module("__main__").__dict__
        exec(compile(settings["program"], "<program>", "exec"), namespace)
    else:
        _serve(settings["program"], settings["reading"], settings["writing"])


def _serve(program: str, reading: int, writing: int) -> None:
    """Load the program when the judge asks, then answer its calls."""
    peer = Peer(os.fdopen(reading, "rb"), os.fdopen(writing, "wb"), trusted=True)
    loaded: dict[str, Any] = {}

    def load() -> dict[str, Any]:
        loaded.update(_module(MODULE).__dict__)
        exec(compile(program, "<program>", "exec"), loaded)
        return {
            name: value
            for name, value in loaded.items()
            if not name.startswith("__") and not isinstance(value, types.ModuleType)
        }

    def modules() -> dict[str, str]:
        found = {name: value for name, value in loaded.items() if isinstance(value, types.ModuleType)}
        return {name: module.__name__ for name, module in found.items()}

    peer.operations |= {"load": load, "modules": modules}
    peer.serve()


def _module(name: str) -> types.ModuleType:
    """A new module of that name, where classes of the program find themselves."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


if __name__ == "__main__":
    main()
