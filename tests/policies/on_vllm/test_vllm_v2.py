"""vLLM's model runner V2 does what V1 does: tests of V1 again, in a process where Triton interprets kernels."""

import subprocess
import sys
from pathlib import Path

import pytest

from pts.policies.vllm.installed import installed_version

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed_version() is None, reason="vLLM is not installed in this environment"),
]
HERE = Path(__file__).parent
AGAIN = (
    "test_vllm_steering.py",
    "test_vllm_policy.py::test_probabilities_are_those_of_transformers[sampling0]",
    "test_vllm_policy.py::test_greedy_completions_are_those_of_transformers",
)


def test_the_model_runner_v2_does_what_v1_does():
    left_out = f"{HERE / 'test_vllm_steering.py'}::test_avoided_forced_and_several_completions"
    given = ["--deselect", left_out, *(str(HERE / name) for name in AGAIN)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.policies.on_vllm.interpreted", *given],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parents[2],
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "17 passed" in done.stdout
    assert "skipped" not in done.stdout
