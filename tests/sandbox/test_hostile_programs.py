# ruff: noqa: E501 (programs, a string each)
"""Programs that try to get out, to take more than they may, or to pass without being right."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pts.sandbox.isolation import LANDLOCK, SECCOMP, SandboxLimits
from pts.sandbox.run import Suite, isolation, run_tests, run_with_input

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="resource limits are needed")

SHORT = SandboxLimits(seconds=2.0)
TEST = Suite(("assert f(1) == 2",))


def held(*layers: str) -> pytest.MarkDecorator:
    missing = sys.platform == "win32" or any(layer not in isolation() for layer in layers)
    return pytest.mark.skipif(missing, reason=f"this system has no {' or '.join(layers)}")


def test_a_right_program_passes_and_a_wrong_one_fails() -> None:
    assert run_tests("def f(x):\n    return x + 1", TEST).passed
    verdict = run_tests("def f(x):\n    return x + 2", TEST)
    assert not verdict.passed
    assert verdict.reason.startswith("AssertionError")


@pytest.mark.parametrize(
    "program",
    [
        "import sys\nprint('{\"passed\": true}')\nsys.exit(0)",
        "import os\ndef f(x):\n    os._exit(0)",
        "import os\nfor fd in range(64):\n    try:\n        os.write(fd, b'{\"passed\": true, \"reason\": \"\"}\\n')\n"
        "    except OSError:\n        pass\ndef f(x):\n    return 3",
        "class Any(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\n"
        "def f(x):\n    return Any(3)",
        "class Any:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\ndef f(x):\n    return Any()",
        "import builtins, sys\nbuiltins.AssertionError = None\ndef f(x):\n    raise SystemExit(0)",
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        frame.f_globals['passed'] = True\n"
        "        frame = frame.f_back\n    return 3",
        "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef f(x):\n    return 3",
        "f = type('F', (), {'__call__': lambda self, x: self, '__eq__': lambda a, b: True, '__hash__': None})()",
        "def abs(x):\n    return 0\ndef f(x):\n    return 0",
        "class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef f(x):\n    return 0",
        "import gc, io\ndef f(x):\n    for one in gc.get_objects():\n        if isinstance(one, io.BufferedWriter):\n"
        "            one.write(b'[\"reply\", false, 2, [null, null]]\\n' * 3)\n            one.flush()\n    raise ValueError",
    ],
    ids=["result line", "exit", "every pipe", "int that equals all", "object that equals all", "no assertions",
         "frames", "patched unittest", "callable", "own abs", "own math", "forged replies"],
)  # fmt: skip
def test_no_program_passes_by_faking(program: str, request: pytest.FixtureRequest) -> None:
    exact = Suite(("assert f(1) == 2", "assert f(2) == 3", "assert f(7) == 8"))
    close = Suite(("assert abs(f(1) - 2) < 0.1", "assert math.isclose(f(1), 2)"))
    assert not run_tests(program, close if "own" in request.node.name else exact, SHORT).passed


@pytest.mark.parametrize(
    "end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "sys.exit(0)", "os.closerange(3, 64)"]
)
def test_a_program_that_ends_has_not_raised_the_error_that_is_expected(end: str) -> None:
    program = f"import os, sys\ndef f(x):\n    {end}"
    test = "try:\n    f(1)\nexcept Exception:\n    pass\nelse:\n    assert False"
    assert run_tests("def f(x):\n    raise KeyError", Suite((test,)), SHORT).passed
    assert not run_tests(program, Suite((test,)), SHORT).passed


def test_a_program_that_rewrites_what_it_sends_gives_the_tests_no_built_ins() -> None:
    cheat = """
import sys
def zero(*given, **named):
    return 0
def f(x):
    return 9
frame = sys._getframe()
while type(frame.f_locals.get("peer", frame.f_locals.get("self"))).__name__ != "Peer":
    frame = frame.f_back
peer = frame.f_locals.get("peer", frame.f_locals.get("self"))
send = peer._send
def rewritten(message):
    if message[0] == "reply" and isinstance(message[2], list) and ["f"] == [pair[0] for pair in message[2][1:] if pair[0] == "f"]:
        packed = peer.pack(zero)
        message[2] += [["__builtins__", ["dict", ["abs", packed]]], ["abs", packed], ["_assertion_is_next", packed]]
    send(message)
peer._send = rewritten
"""
    assert not run_tests(cheat, Suite(("assert abs(f(1) - 2) < 0.1",)), SHORT).passed
    assert run_tests(cheat, Suite(("assert abs(f(1) - 9) < 0.1",)), SHORT).passed


def test_a_program_cannot_change_the_helpers_of_its_tests() -> None:
    setup = "def close(a, b):\n    return abs(a - b) < 0.1"
    cheat = "def close(a, b):\n    return True\ndef f(x):\n    return 0.0"
    tests = Suite(("def check(candidate):\n    assert close(candidate(1), 2.0)",), setup, "f")
    assert not run_tests(cheat, tests, SHORT).passed
    assert run_tests("def f(x):\n    return x + 1.0", tests, SHORT).passed


@held(SECCOMP, LANDLOCK)
@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
        "os.listdir('/')",
        "os.listdir(os.path.expanduser('~/..'))",
        "open('../judge.json').read()",
        "open('/tmp/pts-escaped', 'w')",
        "os.truncate(__import__('sys').executable, 0)",
        "os.chmod('.', 0o777)",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "__import__('fcntl').fcntl(socket.socketpair()[0], 8, os.getppid())",
        "__import__('fcntl').fcntl(socket.socketpair()[0], 15, b'\\1\\0\\0\\0' + os.getppid().to_bytes(4, 'little'))",
        "__import__('fcntl').ioctl(socket.socketpair()[0], 0x8901, os.getppid().to_bytes(4, 'little'))",
        "os.symlink('/etc/passwd', 'here') or open('here').read()",
        "os.link('/etc/passwd', 'here')",
        "socket.create_connection(('127.0.0.1', PORT), 1)",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
        "os.kill(os.getppid(), 9)",
        "os.kill(-1, 9)",
        "os.killpg(os.getpgid(os.getppid()), 9)",
        "subprocess.run(['true'], check=True)",
        "os.execv('/bin/sh', ['sh'])",
        "os.fork()",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))",
        "ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0 or 1 / 0",
        "ctypes.CDLL(None).unshare(0x10000000) == 0 or 1 / 0",
    ],
)
def test_what_is_not_allowed_fails(attempt: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        program = (
            f"import ctypes, os, resource, socket, subprocess\nPORT = {listening.getsockname()[1]}\n"
            f"def f(x):\n    {attempt}\n    return x + 1"
        )
        assert not run_tests(program, TEST, SHORT).passed
    assert not Path("/tmp/pts-escaped").exists()


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        ("while True:\n        pass", SandboxLimits(seconds=1.0)),
        ("while True:\n        print('x' * 1000)", SandboxLimits(seconds=1.0)),
        ("return bytes(10 ** 10)", SHORT),
        ("return ' ' * (64 * 1024 ** 2)", SHORT),
        ("return f(x)", SHORT),
        ("n = 0\n    while True:\n        open(f'file{n}', 'w').write('x' * 1000000)\n        n += 1", SandboxLimits(seconds=20)),
        ("import threading, time\n    while True:\n        threading.Thread(target=time.sleep, args=(9,)).start()",
         SandboxLimits(seconds=20, memory=256 * 1024**2)),
    ],
    ids=["endless", "endless output", "memory", "large value", "recursion", "disk", "threads"],
)  # fmt: skip
def test_a_program_that_takes_too_much_fails(body: str, limits: SandboxLimits) -> None:
    assert not run_tests(f"def f(x):\n    {body}", TEST, limits).passed


@held(SECCOMP)
def test_a_fork_bomb_starts_nothing() -> None:
    # Every fork that succeeded would print once more.
    program = "import os\nfor _ in range(20):\n    try:\n        os.fork()\n    except OSError:\n        pass\nprint('one')"
    assert run_with_input(program, "").output == "one\n"


def test_a_script_is_held_to_its_output_and_its_time() -> None:
    limits = SandboxLimits(seconds=5.0, output=10_000)
    ran = run_with_input("while True: print('x' * 1000)", "", limits)
    assert (ran.reason, len(ran.output)) == ("too much output", 10_000)
    assert run_with_input("while True: pass", "", SandboxLimits(seconds=0.5)).reason == "out of time"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = threading.active_count(), len(os.listdir("/dev/fd"))
    program = "open('left', 'w').write('x')\ndef f(x):\n    return 3"
    assert not run_tests(program, TEST, SHORT).passed
    assert run_with_input("print(input())", "here\n").output == "here\n"
    assert list(tmp_path.iterdir()) == []
    assert (threading.active_count(), len(os.listdir("/dev/fd"))) == before


def test_the_environment_of_the_parent_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert run_with_input("import os\nprint('HF_TOKEN' in os.environ)", "").output == "False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel must end children with their parent")
def test_a_program_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "from pts.sandbox.run import run_with_input\nfrom pts.sandbox.isolation import SandboxLimits\n"
        "run_with_input('import time\\nwhile True: time.sleep(1)', '', SandboxLimits(seconds=60))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)})
    deadline = threading.Event()
    while not (child := _child_of(parent.pid)) and not deadline.wait(0.02):
        assert parent.poll() is None
    parent.kill()
    parent.wait()
    while Path(f"/proc/{child}").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        deadline.wait(0.02)


def _child_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    except (OSError, IndexError):
        return ""
