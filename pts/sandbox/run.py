"""Runs a program that a model wrote on tests, or on an input, and says what came of it."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from pts.errors import GraderError
from pts.sandbox.isolation import SandboxLimits, readable_paths

_ROOT = str(Path(__file__).resolve().parents[2])
# -I drops PYTHONPATH, so the child is told where pts is.
_START = "import sys; sys.path.insert(0, {root!r}); from pts.sandbox.{role} import main; main()"
_TICK = 0.05
_MOST_FILES = 200
_MOST_BYTES = 64 * 1024**2
"""What a program may leave in its folder at any time."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Python tests of a program: `setup` runs before them, `entry_point` names the function that they test."""

    tests: tuple[str, ...]
    setup: str = ""
    entry_point: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether every test passed; `reason` says in a few words why not."""

    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program printed, and why it did not end well ("" where it did)."""

    output: str
    reason: str = ""


def run_tests(program: str, tests: Suite, limits: SandboxLimits = SandboxLimits()) -> Verdict:  # noqa: B008 (frozen)
    """Run the tests on a program. The program and its tests are separate processes.

    A program that does not end, or that takes more than the limits, fails. Raises GraderError where no sandbox
    can be started here.
    """
    deadline = time.monotonic() + limits.seconds
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch())
        to_judge, from_program = _pipe(stack)
        to_program, from_judge = _pipe(stack)
        verdict, to_us = _pipe(stack)
        judge = _settings(scratch, "judge", limits) | {
            "setup": tests.setup,
            "tests": list(tests.tests),
            "entry_point": tests.entry_point,
            "reading": to_judge,
            "writing": from_judge,
            "verdict": to_us,
        }
        served = _settings(scratch, "program", limits) | {
            "task": "serve",
            "program": program,
            "reading": to_program,
            "writing": from_program,
        }
        stack.enter_context(_child(scratch, "judge", judge, (to_judge, from_judge, to_us)))
        stack.enter_context(_child(scratch, "program", served, (to_program, from_program)))
        for passed_on in (to_judge, from_judge, to_us, to_program, from_program):
            os.close(passed_on)
        text, reason = _read(verdict, limits.output, deadline, scratch / "program")
    if reason:
        return Verdict(False, reason)
    try:
        found = json.loads(text)
        return Verdict(found["passed"] is True, str(found["reason"]))
    except (ValueError, KeyError, TypeError):
        return Verdict(False, "the tests ended without a verdict")


def run_with_input(program: str, given: str, limits: SandboxLimits = SandboxLimits()) -> Ran:  # noqa: B008 (frozen)
    """Run a program as a script with `given` on its standard input. Raises GraderError as `run_tests` does."""
    settings: dict[str, object] = {"task": "run", "program": program}
    return _run_script(settings, given, limits)


@lru_cache(maxsize=1)
def isolation() -> tuple[str, ...]:
    """What holds programs in on this machine, found out by a trial.

    Raises GraderError where not even resource limits are there (Windows), or the trial fails.
    """
    try:
        import resource  # noqa: F401
    except ImportError as error:
        raise GraderError(
            "The grader code runs programs under resource limits, which this system does not have; use Linux, "
            "macOS, or Linux under Windows (WSL)."
        ) from error
    ran = _run_script({"task": "probe"}, "", SandboxLimits())
    try:
        return tuple(json.loads(ran.output))
    except ValueError as error:
        raise GraderError(
            f"The sandbox for programs cannot be started here ({ran.reason or 'no answer'}); use another "
            "grader."
        ) from error


def _run_script(settings: Mapping[str, object], given: str, limits: SandboxLimits) -> Ran:
    deadline = time.monotonic() + limits.seconds
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch())
        source = scratch / "input"
        source.write_bytes(given.encode("utf-8", "surrogateescape"))
        stdin = stack.enter_context(source.open("rb"))
        output, to_us = _pipe(stack)
        whole = _settings(scratch, "program", limits) | dict(settings)
        process = stack.enter_context(_child(scratch, "program", whole, (), stdin.fileno(), to_us))
        os.close(to_us)
        text, reason = _read(output, limits.output, deadline, scratch / "program")
        if not reason:
            reason = _ended(process, deadline)
    return Ran(text, reason)


def _ended(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Why a process whose output has ended did not end well itself."""
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "out of time"
    return "" if code == 0 else f"exit code {code}"


def _settings(scratch: Path, role: str, limits: SandboxLimits) -> dict[str, object]:
    folder = scratch / role
    folder.mkdir()
    return {
        "folder": str(folder),
        "limits": asdict(limits),
        "readable": readable_paths(),
        "parent": os.getpid(),
    }


@contextmanager
def _scratch() -> Iterator[Path]:
    """A fresh folder, deleted afterwards whatever stands in it."""
    folder = Path(tempfile.mkdtemp(prefix="pts-code-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed at the latest with the stack."""
    ends = os.pipe()
    for end in ends:
        stack.callback(_close, end)
    return ends


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def _child(
    scratch: Path,
    role: str,
    settings: Mapping[str, object],
    passed_on: Sequence[int],
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own session that is killed with the block."""
    path = scratch / f"{role}.json"
    path.write_text(json.dumps(settings), encoding="ascii")
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", "-X", "utf8", "-c", _START.format(root=_ROOT, role=role), str(path)],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        pass_fds=passed_on,
        cwd=scratch,
        env={"HOME": str(scratch / role), "TMPDIR": str(scratch / role), "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, 9)
        process.kill()
        process.wait()


def _read(source: int, most: int, deadline: float, watched: Path) -> tuple[str, str]:
    """What comes from a pipe until it closes, and what is wrong: too much of it, too late, too many files."""
    data = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return _text(data), "out of time"
            if selector.select(min(left, _TICK)):
                more = os.read(source, 65_536)
                if not more:
                    return _text(data), ""
                data += more
                if len(data) > most:
                    return _text(data[:most]), "too much output"
            if _too_full(watched):
                return _text(data), "too many or too large files"


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "replace")


def _too_full(folder: Path) -> bool:
    size = 0
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            with suppress(OSError):
                size += entry.stat(follow_symlinks=False).st_size
            if count >= _MOST_FILES or size > _MOST_BYTES:
                return True
    return False
