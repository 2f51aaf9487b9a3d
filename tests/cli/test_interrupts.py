"""A signal that cannot stop the work yet is asked again: amid an import, or where a finaliser swallows it."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import time
from pts.cli.interrupts import Stopped, stop_on_signals
stop_on_signals()
try:
    import slow
    time.sleep(60)
except Stopped as stopped:
    print("stopped by", stopped.signal_number, "after", slow.END)
"""
SLOW = """
import time
print("importing", flush=True)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    time.sleep(0.01)
END = "the import"
"""


FINALISER = """
import time
from pts.cli.interrupts import Stopped, stop_on_signals
stop_on_signals()
class Slow:
    def __del__(self):
        print("finalising", flush=True)
        time.sleep(60)
try:
    Slow()
    time.sleep(60)
except Stopped as stopped:
    print("stopped by", stopped.signal_number)
"""


def stop(program: str, ready: str, number: int, folder) -> tuple[int, str, str]:
    """Status, output and errors of `program`, sent `number` three times once it said `ready`."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == f"{ready}\n"
    for _ in range(3):
        process.send_signal(number)
    out, err = process.communicate(timeout=50)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_waits_for_the_end_of_an_import(tmp_path, number):
    (tmp_path / "slow.py").write_text(SLOW)
    ended = stop(PROGRAM, "importing", number, tmp_path)
    assert ended == (0, f"stopped by {int(number)} after the import\n", "")


def test_it_is_asked_again_where_a_finaliser_swallows_it(tmp_path):
    assert stop(FINALISER, "finalising", signal.SIGINT, tmp_path) == (0, "stopped by 2\n", "")
