"""Over how many GPUs one engine divides its model."""

from __future__ import annotations

from dataclasses import dataclass

from pts.errors import ConfigError
from pts.policies.open import VLLM
from pts.setting_names import setting
from pts.stages.shared.inputs import require_positive


@dataclass(frozen=True, kw_only=True)
class ParallelInputs:
    """`tensor_parallel` is the number of GPUs that hold one model together, in vLLM; None for one."""

    tensor_parallel: int | None = None

    def check_parallel(self, engine: str, endpoint: str | None) -> None:
        """Raise ConfigError where the number is none, or another engine generates."""
        if self.tensor_parallel is None:
            return
        require_positive("tensor-parallel", self.tensor_parallel)
        name = setting("tensor_parallel")
        if engine != VLLM:
            raise ConfigError(f"{name} divides a model of vLLM: give {setting('engine', VLLM)}, too.")
        if endpoint is not None:
            raise ConfigError(f"a server has divided its model when it started: leave {name} out.")

    def parallel_options(self) -> dict[str, object]:
        """The number as an option of the policy; empty where none is given."""
        return {} if self.tensor_parallel is None else {"tensor_parallel": self.tensor_parallel}
