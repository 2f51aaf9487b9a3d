"""vLLM's model runner V2 on a CPU: its kernels are run by Triton's interpreter, step by step.

`python -m tests.policies.on_vllm.interpreted ARGUMENTS` runs pytest so, in a process of its own: Triton settles
when it is imported whether it interprets.
"""

import os
import sys
from importlib import import_module
from types import SimpleNamespace

os.environ |= {
    "TRITON_INTERPRET": "1",
    "VLLM_USE_V2_MODEL_RUNNER": "1",
    "VLLM_USE_TRITON": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}

import torch
from triton.backends import Backend, backends
from triton.backends.compiler import GPUTarget
from triton.runtime import driver


class Interpreter:
    """The driver of a device on which nothing is compiled."""

    utils = SimpleNamespace(
        get_device_properties=lambda _: {
            "max_shared_mem": 65536,
            "multiprocessor_count": 2,
            "max_num_regs": 65536,
            "warpSize": 32,
        }
    )

    @staticmethod
    def is_active():
        return True

    def get_current_target(self):
        return GPUTarget("cpu", 0, 1)

    def get_current_device(self):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")

    def get_device_interface(self):
        return torch.cpu

    def get_current_stream(self, *_):
        return 0


# vLLM's build for CPUs uses Triton only where it has a backend for CPUs.
backends["cpu"] = Backend(next(iter(backends.values())).compiler, Interpreter)
driver.set_active(Interpreter())

# The kernel of top-k and top-p is one that the interpreter cannot run; vLLM has the same without Triton.
import_module("vllm.v1.sample.ops.topk_topp_sampler").HAS_TRITON = False

if __name__ == "__main__":
    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
