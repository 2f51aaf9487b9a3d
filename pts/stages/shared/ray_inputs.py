"""The settings of Ray that stages share: which cluster, and how many engines of which size."""

from __future__ import annotations

from dataclasses import dataclass

from pts.errors import ConfigError
from pts.models.held import GIVEN
from pts.setting_names import setting
from pts.stages.shared.inputs import require_positive


@dataclass(frozen=True, kw_only=True)
class RayInputs:
    """Where the engines of a stage are.

    `ray` is the address of a Ray cluster ("local": this machine; None: this process alone), with `workers`
    engines (None: as many as it has room for) that have `gpus_per_worker` each (None: one where there are any).
    """

    ray: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None

    @property
    def gpus_of_engine(self) -> int:
        """GPUs that one engine has, where there are any."""
        return 1

    def check_ray(self, device: str, model: str | None) -> None:
        """Raise ConfigError for settings of Ray that contradict each other, or the device and model named."""
        require_positive("workers", self.workers)
        if self.ray is None:
            given = [name for name in ("workers", "gpus_per_worker") if getattr(self, name) is not None]
            if given:
                raise ConfigError(
                    f"{setting(given[0])} has no effect without {setting('ray')}: give that, too."
                )
            return
        if self.gpus_per_worker is not None and not 0 <= self.gpus_per_worker <= 1:
            raise ConfigError(
                f"gpus-per-worker is {self.gpus_per_worker:g}; it must be from 0 to 1: an engine uses one "
                f"GPU, but for a search with vLLM and {setting('tensor_parallel')}."
            )
        if device.startswith("cuda:"):
            raise ConfigError(f"Ray gives each worker its GPU: give {setting('device', 'cuda')}.")
        if model is not None and model.startswith(GIVEN):
            raise ConfigError(
                f"the model {model.removeprefix(GIVEN)} is in this program's memory alone, and Ray's workers "
                f"load theirs by name: save it and give its directory, or leave {setting('ray')} out."
            )
