"""A vector set from pairs alone, without a search: fitted, not calibrated and not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pts.errors import ConfigError, DataError
from pts.models.decoder_layers import decoder_layers
from pts.models.load import LoadedModel
from pts.steering.directions import PAIR_METHODS
from pts.steering.evidence import direction_evidence
from pts.steering.fitting_data import FittingData
from pts.steering.gates import GATES
from pts.steering.harvest import harvest
from pts.steering.pair_records import ALL
from pts.steering.pairs import Pair, split_problems
from pts.steering.vector_set import GateKind, SteeredModel, SteeringVector, VectorSet
from pts.version import __version__

HELD_OUT = 0.25
"""Share of the contexts whose pairs judge the vector and fit none."""
JUDGED_FROM = 8
"""Contexts from which on some are held out."""


def fit_pairs(
    loaded: LoadedModel,
    pairs: Sequence[Pair],
    *,
    method: str = "preference",
    layer: int | None = None,
    strength: float = 0.2,
    gate: GateKind = "always",
    name: str = ALL,
    seed: int = 0,
    layers_path: str | None = None,
) -> VectorSet:
    """A set of one vector, fitted to pairs at one layer (by default the middle one).

    `strength` is the norm to add, in multiples of the residual stream's mean norm at that layer. With eight
    contexts or more a quarter of them judges the vector and fits none: its evidence says what the vector does
    to log p(better) − log p(worse) there. What it does to success is not measured. Raises ConfigError for a
    setting out of range and DataError for pairs that the method or the gate cannot be fitted to.
    """
    blocks = len(decoder_layers(loaded.model, layers_path))
    at = round((blocks - 1) / 2) if layer is None else layer
    _check(method, at, blocks, strength, gate)
    if not any(pair.prefix for pair in pairs):
        raise DataError("every context is a single token: give the text that stands before the choice.")
    with TemporaryDirectory(prefix="pts-") as folder:
        harvested = harvest(loaded.model, pairs, Path(folder), seed=seed, layers_path=layers_path)
        fitted, judged = _split(pairs, seed)
        data = FittingData(loaded.model, fitted, harvested, seed, layers_path)
        direction = PAIR_METHODS[method](data, at)
        evidence: Mapping[str, int | float | None] = {"pairs": len(fitted)}
        if judged:
            added = {at: direction * (strength * data.norm(at))}
            evidence = direction_evidence(data, data.of(judged), method, at, added)
        opened = GATES[gate](data, at)
        norms = tuple(harvested.residual_norms[place] for place in range(blocks))
    config = loaded.model.config.get_text_config(decoder=True)
    return VectorSet(
        SteeredModel(loaded.model_id, loaded.revision, int(config.hidden_size), blocks, layers_path),
        norms,
        {name: SteeringVector(name, method, {at: direction}, at, strength, opened, evidence)},
        provenance={"fitted_to": "given pairs", "pairs": len(pairs), "seed": seed, "pts": __version__},
    )


def _check(method: str, layer: int, blocks: int, strength: float, gate: str) -> None:
    if method not in PAIR_METHODS:
        raise ConfigError(f"method is {method!r}; choose from {', '.join(PAIR_METHODS)}.")
    if gate not in GATES:
        raise ConfigError(f"gate is {gate!r}; choose from {', '.join(GATES)}.")
    if not 0 <= layer < blocks:
        raise ConfigError(f"layer {layer} is out of range: the model has decoder layers 0 to {blocks - 1}.")
    if not 0 < strength < float("inf"):
        raise ConfigError(f"strength is {strength}; it must be above 0.")


def _split(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs to fit on, and pairs to judge by: none where there are few contexts."""
    if len({pair.problem_id for pair in pairs}) < JUDGED_FROM:
        return list(pairs), []
    return split_problems(pairs, HELD_OUT, seed)
