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
ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent.relative_to(ROOT)
AGAIN = (
    "test_vllm_steering.py",
    "test_vllm_policy.py::test_probabilities_are_those_of_transformers[sampling0]",
    "test_vllm_policy.py::test_greedy_completions_are_those_of_transformers",
)
LEFT_OUT = (
    # They test what both runners share, and the interpreter is slow.
    "test_vllm_steering.py::test_avoided_forced_and_several_completions",
    "test_vllm_steering.py::test_what_was_read_steered_is_never_read_unsteered",
    "test_vllm_steering.py::test_steered_completions_go_on_from_a_prefix_as_they_would_have",
    "test_vllm_steering.py::test_steered_and_unsteered_rows_are_those_of_the_own_engine[sampling1]",
)


def test_the_model_runner_v2_does_what_v1_does():
    given = [f"--deselect={HERE / name}" for name in LEFT_OUT] + [str(HERE / name) for name in AGAIN]
    done = subprocess.run(
        [sys.executable, "-m", "tests.policies.on_vllm.interpreted", *given],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "13 passed" in done.stdout
    assert "4 deselected" in done.stdout
