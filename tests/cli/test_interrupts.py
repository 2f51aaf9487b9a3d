"""A signal amid an import waits for its end: raised within a compiled module's it could end the process."""

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_waits_for_the_end_of_an_import(tmp_path, number):
    (tmp_path / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    for _ in range(3):
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == f"stopped by {int(number)} after the import\n"
