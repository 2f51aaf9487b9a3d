"""A vector set: per pattern and layer a direction, with how it is to be added and what that was seen to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from pts.errors import ConfigError, ModelError
from pts.ranks import SIGNIFICANCE, controls_needed, rank_among, rank_p_value
from pts.steering.pattern_source import PatternSource
from pts.steering.set_html import Strip, effects_svg
from pts.steering.set_measurement import SetMeasurement

if TYPE_CHECKING:
    import pandas as pd

GateKind: TypeAlias = Literal["always", "probe", "entropy", "tokens"]
LAYERS_GATES: tuple[GateKind, ...] = ("tokens", "always")
"""The gates that a vector of several layers may have: those that are fitted to no layer."""

SCHEMA_VERSION = 4
"""Version 2 added the controls, version 3 vectors of several layers, version 4 later measurements."""


class VectorError(ModelError):
    """A vector set that is cut short, disagrees with itself, or belongs to another model."""


@dataclass(frozen=True, slots=True)
class SteeredModel:
    """The model that a set was made on and fits: id, revision, width of the residual stream, decoder layers.

    `layers_path` is the module with the decoder blocks where it had to be named; None where it is found.
    """

    id: str
    revision: str | None
    hidden_size: int
    layers: int
    layers_path: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Where a vector is added: a rule on each decode position's own residual stream, before the addition.

    `always` adds everywhere; `probe` where weight · h > `threshold`; `entropy` where the entropy
    of the layer's logit lens exceeds `threshold` nats; `tokens` after the tokens `token_ids`. `weight` is
    [hidden].
    """

    kind: GateKind = "always"
    threshold: float = 0.0
    token_ids: tuple[int, ...] = ()
    weight: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SteeringVector:
    """One pattern's directions and how to add them.

    `directions` maps layers (outputs of decoder blocks, from 0) to float32 unit vectors [hidden]; adding one
    raises success. `strength` is the norm to add at `layer`, in multiples of the residual stream's mean norm
    there: a user's 1.0. A vector of several layers adds all of its `directions` at once: `shares` are their
    parts of the strength, by layer, which sum to 1; `layer` is then the middle one. `evidence` holds numbers:
    pairs, problems, held-out shift in nats, AUC, cosine of halves.
    """

    pattern: str
    method: str
    directions: Mapping[int, torch.Tensor]
    layer: int
    strength: float
    gate: Gate
    evidence: Mapping[str, int | float | None] = field(default_factory=dict)
    shares: Mapping[int, float] = field(default_factory=dict)

    @property
    def places(self) -> Mapping[int, float]:
        """The layers at which it is added, each with its share of the strength."""
        return self.shares or {self.layer: 1.0}

    @property
    def where(self) -> str:
        """The layers at which it is added, for people: 11, or 0 to 4, or 3, 7 and others by name."""
        layers = sorted(self.places)
        if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
            return f"{layers[0]} to {layers[-1]}"
        return ", ".join(map(str, layers))

    @property
    def layers_named(self) -> str:
        """`where` with the word in front of it: layer 11, or layers 0 to 4."""
        return f"layer{'s' if len(self.places) > 1 else ''} {self.where}"

    @property
    def direction(self) -> torch.Tensor:
        """The unit vector of the calibrated layer [hidden]."""
        return self.directions[self.layer]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a pattern did on the test split, measured once: success rates, their paired difference, its
    interval.

    `low` and `high` bound the difference at `level` (paired bootstrap over problems); `random` are the
    differences of random directions that went through the same calibration; `methods` is how many methods the
    vector is the best of, by success on the calibration problems. Tokens are generated tokens of a completion,
    in the mean. `kl_per_token` is None where it was left out, and `kl_left_out` then says why. `cut_unsteered`
    and `cut_steered` are the shares of completions that the budget cut, None in a set that does not say.
    """

    pattern: str
    problems: int
    samples: int
    unsteered: float
    steered: float
    difference: float
    low: float
    high: float
    level: float
    random: tuple[float, ...]
    tokens_unsteered: float
    tokens_steered: float
    kl_per_token: float | None
    methods: int = 1
    kl_left_out: str | None = None
    cut_unsteered: float | None = None
    cut_steered: float | None = None

    @property
    def rank(self) -> int:
        """Its place among the random directions by difference, from 1; ties count against it."""
        return rank_among(self.difference, self.random)

    @property
    def p_value(self) -> float:
        """Of "no better than a random direction, calibrated alike": methods × rank / (controls + 1)."""
        return rank_p_value(self.difference, self.random, self.methods)

    @property
    def found(self) -> bool:
        """Whether this effect could be claimed if it were the only one: see `claims` for those of a set.

        The interval is clear of zero and the rank among at least 19 controls (for each method) reaches 5%.
        """
        enough = len(self.random) >= controls_needed(self.methods)
        return enough and self.low > 0 and self.p_value <= SIGNIFICANCE + 1e-9


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class VectorSet:
    """The steering vectors of one model, by pattern.

    `vectors` maps each pattern to its vector, with the layer, strength and gate at which it is added.
    `effects` are measured on problems on which nothing was chosen. `residual_norms` are the mean norms of the
    residual stream at decode positions, by layer. `controls` are random directions that went through the same
    calibration (none in sets before version 2). `measurements` were made later, on other problems. `patterns`
    says what divides the pairs into patterns, `provenance` where the set comes from, and `directory` where it
    was loaded from (None if it was made here).

        vectors = pts.load_vectors("demo")
        print(vectors)
        vectors.to_pandas()
    """

    model: SteeredModel
    residual_norms: tuple[float, ...]
    vectors: Mapping[str, SteeringVector]
    effects: Mapping[str, Effect] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    directory: Path | None = None
    controls: tuple[SteeringVector, ...] = ()
    patterns: PatternSource | None = None
    measurements: tuple[SetMeasurement, ...] = ()

    def vector(self, pattern: str) -> SteeringVector:
        """The vector of a pattern. Raises ConfigError, naming those there are."""
        if pattern not in self.vectors:
            raise ConfigError(f"the set has no pattern {pattern}; it has {', '.join(self.vectors)}.")
        return self.vectors[pattern]

    def added(self, pattern: str, layer: int | None = None) -> torch.Tensor:
        """What is added to the residual stream at a layer (by default the calibrated one): float32 [hidden].

        Of a vector of several layers it is that layer's part. Raises ConfigError for a pattern or layer that
        the set does not have.
        """
        vector = self.vector(pattern)
        at = vector.layer if layer is None else layer
        if at not in vector.directions:
            known = ", ".join(map(str, sorted(vector.directions)))
            raise ConfigError(f"pattern {pattern} has no direction at layer {at}; it has them at {known}.")
        share = vector.shares.get(at, 1.0)
        return vector.directions[at] * (vector.strength * share * self.residual_norms[at])

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row a pattern: how it is added, its evidence, and its effect where measured."""
        import pandas as pd

        return pd.DataFrame([self._row(vector) for vector in self.vectors.values()])

    def _row(self, vector: SteeringVector) -> dict[str, object]:
        effect = self.effects.get(vector.pattern)
        measured = {} if effect is None else {**asdict(effect), "rank": effect.rank, "p_value": effect.p_value}
        return {
            "pattern": vector.pattern,
            "method": vector.method,
            "layer": vector.where if vector.shares else vector.layer,
            "strength": vector.strength,
            "gate": vector.gate.kind,
            **vector.evidence,
            **measured,
        }

    def __repr__(self) -> str:
        """The model, and a line for each pattern: how it is added and what it was seen to do."""
        model = self.model
        head = f"Steering vectors of {model.id} ({model.layers} layers of width {model.hidden_size})"
        return "\n".join([head, *(f"  {self._line(vector)}" for vector in self.vectors.values())])

    def _line(self, vector: SteeringVector) -> str:
        effect = self.effects.get(vector.pattern)
        seen = "effect not measured"
        if effect is not None:
            rank = f", rank {effect.rank} of {len(effect.random) + 1} with random directions"
            seen = (
                f"success {effect.unsteered:.3f} → {effect.steered:.3f} ({effect.low:+.3f} to "
                f"{effect.high:+.3f}{rank if effect.random else ''})"
            )
        return (
            f"{vector.pattern}: {vector.method}, {vector.layers_named}, strength {vector.strength:g}, gate "
            f"{vector.gate.kind}; {seen}"
        )

    def _repr_html_(self) -> str:
        strips = [
            Strip(each.pattern, each.difference, each.low, each.high, each.random)
            for each in self.effects.values()
        ]
        return f"<pre style='overflow-x:auto'>{escape(repr(self))}</pre>{effects_svg(strips)}"

    def scaled(self, factor: float) -> VectorSet:
        """The set with every strength multiplied; a negative factor steers the other way.

        No effect is kept, no control and no later measurement: none of them is of these strengths.
        """
        vectors = {name: replace(v, strength=v.strength * factor) for name, v in self.vectors.items()}
        return replace(self, vectors=vectors, effects={}, controls=(), measurements=())
