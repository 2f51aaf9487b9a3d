"""What calibration chooses between: a method, a layer, a strength with its sign, and a gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from pts.seeds import derive_seed
from pts.steering.directions import METHODS, Method
from pts.steering.fitting_data import FittingData
from pts.steering.gates import GATES
from pts.steering.hooks import Intervention
from pts.steering.vector_set import Gate, GateKind, SteeringVector

LayersMethod: TypeAlias = Callable[[FittingData], Mapping[int, torch.Tensor]]
"""A method that makes vectors of several layers at once, by layer [hidden]."""

RANDOM = "random"
"""The method of the controls: a direction drawn at random, `random-0` and so on."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A candidate. `strength` is in multiples of the layer's mean residual norm; negative steers back."""

    pattern: str
    method: str
    layer: int
    strength: float
    gate: GateKind

    @property
    def key(self) -> str:
        """A name for people and files, the same for equal settings."""
        return f"{self.pattern}/{self.method}/layer {self.layer}/{self.strength:+g}/{self.gate}"

    @property
    def is_control(self) -> bool:
        """Whether the direction is a random one."""
        return self.method.startswith(RANDOM)


@dataclass(slots=True)
class Directions:
    """Directions and gates by pattern, method and layer, made when first asked for.

    Gates are fitted to all pairs, whatever the pattern: they say where a choice is made, not which. Of the
    methods `together` each makes vectors of several layers, which are added together. Their setting's strength
    is the norm of the largest, in multiples of its layer's mean norm; the others keep their proportion to it.
    """

    by_pattern: Mapping[str, FittingData]
    whole: FittingData
    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    together: Mapping[str, LayersMethod] = field(default_factory=dict)
    _vectors: dict[tuple[str, str], Mapping[int, torch.Tensor]] = field(default_factory=dict)
    _directions: dict[tuple[str, str, int], torch.Tensor] = field(default_factory=dict)
    _gates: dict[tuple[GateKind, int], Gate] = field(default_factory=dict)

    def direction(self, pattern: str, method: str, layer: int) -> torch.Tensor:
        """A unit vector [hidden]."""
        key = (pattern, method, layer)
        if key not in self._directions:
            if method.startswith(RANDOM):
                self._directions[key] = self._random(method, layer)
            else:
                self._directions[key] = self.methods[method](self.by_pattern[pattern], layer)
        return self._directions[key]

    def gate(self, kind: GateKind, layer: int) -> Gate:
        """A gate fitted at a layer."""
        if (kind, layer) not in self._gates:
            self._gates[kind, layer] = GATES[kind](self.whole, layer)
        return self._gates[kind, layer]

    def interventions(self, setting: Setting) -> tuple[Intervention, ...]:
        """The setting as what hooks add, at one layer or at several."""
        if setting.method not in self.together:
            return (self.intervention(setting),)
        key = (setting.pattern, setting.method)
        if key not in self._vectors:
            self._vectors[key] = self.together[setting.method](self.by_pattern[setting.pattern])
        vectors = self._vectors[key]
        largest = max(float(vector.norm()) / self.whole.norm(layer) for layer, vector in vectors.items())
        return tuple(
            Intervention(layer, vector * (setting.strength / largest), self.gate(setting.gate, layer))
            for layer, vector in sorted(vectors.items())
        )

    def intervention(self, setting: Setting) -> Intervention:
        """The setting as what a hook adds at its layer."""
        direction = self.direction(setting.pattern, setting.method, setting.layer)
        added = direction * (setting.strength * self.whole.norm(setting.layer))
        return Intervention(setting.layer, added, self.gate(setting.gate, setting.layer))

    def control(self, setting: Setting) -> SteeringVector:
        """A random direction's setting as a set stores it: its sign is the direction's."""
        sign = 1.0 if setting.strength > 0 else -1.0
        direction = sign * self.direction(setting.pattern, setting.method, setting.layer)
        gate = self.gate(setting.gate, setting.layer)
        return SteeringVector(
            setting.method, RANDOM, {setting.layer: direction}, setting.layer, abs(setting.strength), gate
        )

    def _random(self, method: str, layer: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.whole.seed, method, layer))
        width = int(self.whole.model.config.get_text_config(decoder=True).hidden_size)
        return torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)


def grid(
    patterns: Sequence[str],
    methods: Sequence[str],
    layers: Sequence[int],
    strengths: Sequence[float],
    gates: Sequence[GateKind],
) -> Iterator[Setting]:
    """Every combination, each strength with both signs."""
    for pattern in patterns:
        for method in methods:
            for layer in layers:
                for strength in strengths:
                    for gate in gates:
                        yield Setting(pattern, method, layer, strength, gate)
                        yield Setting(pattern, method, layer, -strength, gate)
