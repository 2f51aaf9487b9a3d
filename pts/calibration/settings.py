"""What calibration chooses between: a method, a layer, a strength with its sign, and a gate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import normalize

from pts.errors import DataError
from pts.seeds import derive_seed
from pts.steering.directions import METHODS, LayersMethod, Method
from pts.steering.fitting_data import FittingData
from pts.steering.gates import GATES
from pts.steering.hooks import Intervention
from pts.steering.vector_set import Gate, GateKind, SteeringVector

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
    is the sum of their norms, each in multiples of its layer's mean norm; their proportions stay. With
    `random_layers` a random direction is one at each of these, with equal parts of the strength.
    """

    by_pattern: Mapping[str, FittingData]
    whole: FittingData
    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    together: Mapping[str, LayersMethod] = field(default_factory=dict)
    random_layers: tuple[int, ...] = ()
    _parts: dict[tuple[str, str], Mapping[int, torch.Tensor]] = field(default_factory=dict)
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

    def is_together(self, method: str) -> bool:
        """Whether a method's vectors are of several layers."""
        return method in self.together or (method.startswith(RANDOM) and bool(self.random_layers))

    def parts(self, pattern: str, method: str) -> Mapping[int, torch.Tensor]:
        """What a method `together` adds at strength 1, by layer [hidden], in multiples of the mean norms.

        The norms of the parts sum to 1. Raises DataError where all are zero, or one is not finite.
        """
        key = (pattern, method)
        if key not in self._parts:
            if method in self.together:
                vectors = dict(sorted(self.together[method](self.by_pattern[pattern]).items()))
                found = {layer: vector / self.whole.norm(layer) for layer, vector in vectors.items()}
            else:
                found = {layer: self._random(method, layer) for layer in self.random_layers}
            total = sum(float(part.norm()) for part in found.values())
            if not 0 < total < math.inf:
                raise DataError(f"the vectors of {method} are zero or not finite: they need more pairs.")
            self._parts[key] = {layer: part / total for layer, part in found.items()}
        return self._parts[key]

    def interventions(self, setting: Setting) -> tuple[Intervention, ...]:
        """The setting as what hooks add, at one layer or at several."""
        if not self.is_together(setting.method):
            return (self.intervention(setting),)
        return tuple(
            Intervention(
                layer, part * (setting.strength * self.whole.norm(layer)), self.gate(setting.gate, layer)
            )
            for layer, part in self.parts(setting.pattern, setting.method).items()
        )

    def intervention(self, setting: Setting) -> Intervention:
        """The setting as what a hook adds at its layer."""
        direction = self.direction(setting.pattern, setting.method, setting.layer)
        added = direction * (setting.strength * self.whole.norm(setting.layer))
        return Intervention(setting.layer, added, self.gate(setting.gate, setting.layer))

    def placed(
        self, setting: Setting, layers: Sequence[int]
    ) -> tuple[dict[int, torch.Tensor], dict[int, float]]:
        """The setting's unit vectors [hidden] by layer, of its sign, and their shares of its strength.

        Of a setting of one layer: the vectors of all `layers` that were tried, and no shares.
        """
        sign = 1.0 if setting.strength > 0 else -1.0
        if not self.is_together(setting.method):
            return {
                layer: sign * self.direction(setting.pattern, setting.method, layer) for layer in layers
            }, {}
        parts = self.parts(setting.pattern, setting.method)
        shares = {layer: float(part.norm()) for layer, part in parts.items() if float(part.norm()) > 0}
        return {layer: sign * normalize(parts[layer], dim=0) for layer in shares}, shares

    def control(self, setting: Setting) -> SteeringVector:
        """A random direction's setting as a set stores it: its sign is the direction's."""
        directions, shares = self.placed(setting, (setting.layer,))
        gate = self.gate(setting.gate, setting.layer)
        return SteeringVector(
            setting.method, RANDOM, directions, setting.layer, abs(setting.strength), gate, shares=shares
        )

    def _random(self, method: str, layer: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.whole.seed, method, layer))
        width = int(self.whole.model.config.get_text_config(decoder=True).hidden_size)
        return normalize(torch.randn(width, generator=generator), dim=0)


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
