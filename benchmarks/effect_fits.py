"""What `real_effect.py` fits: each method, the same on shuffled labels, and `online`. Directions are kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pts.calibration.online import OnlineFit, train_online
from pts.evaluation.decoder import Decoder
from pts.records import Problem
from pts.runs.files import replace_text
from pts.runs.search_run import SearchResults
from pts.steering.directions import Method, preference_direction, preference_vectors, screened_beside
from pts.steering.fitting_data import FittingData
from pts.steering.gates import token_gate
from pts.steering.outcome import OutcomeFit, outcome_vectors
from pts.steering.pairs import Pair
from pts.steering.tensor_files import write_tensors
from pts.steering.vector_algebra import unit_direction

METHODS = ("preference", "screened", "outcome", "preference-layers")
LAYERS = "-layers"
"""The end of the name of a method whose vectors are of every layer, trained together."""
ONLINE, SHUFFLED = "online", "shuffled"


@dataclass(frozen=True, slots=True)
class Kept:
    """A method whose direction is kept in a file, so that a stopped run does not fit it again."""

    name: str
    fit: Method
    folder: Path

    def __call__(self, data: FittingData, layer: int) -> torch.Tensor:
        path = self.folder / f"{self.name}-layer-{layer}.safetensors"
        if not path.exists():
            say(f"fitting {self.name} at layer {layer}")
            write_tensors(path, {"direction": self.fit(data, layer).contiguous()})
        return load_file(str(path))["direction"]


@dataclass(frozen=True, slots=True)
class KeptLayers:
    """The same for a method of every layer."""

    name: str
    fit: Callable[[FittingData], Mapping[int, torch.Tensor]]
    folder: Path

    def __call__(self, data: FittingData) -> dict[int, torch.Tensor]:
        path = self.folder / f"{self.name}.safetensors"
        if not path.exists():
            say(f"fitting {self.name}")
            write_tensors(path, {str(layer): vector.contiguous() for layer, vector in self.fit(data).items()})
        return {int(layer): vector for layer, vector in load_file(str(path)).items()}


def outcome(data: FittingData, layer: int, seed: int | None = None, *, fit: OutcomeFit) -> torch.Tensor:
    """The method `outcome`; with a seed, on permuted grades."""
    if seed is not None:
        data = replace(data, rollouts=replace(data.rollouts, shuffle=seed, _read=[]))
    return unit_direction(outcome_vectors(data, (layer,), fit)[layer], "outcome", layer)


def preference(
    data: FittingData, layer: int, seed: int | None = None, *, screened: bool = False
) -> torch.Tensor:
    """The method `preference`, or `screened`; with a seed, a coin says which side of a pair is the better."""
    pairs = [*data.pairs, *(screened_beside(data) if screened else ())]
    return preference_direction(data.of(shuffled(pairs, seed)), layer)


def preference_of_layers(
    data: FittingData, seed: int | None = None, *, layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """The method `preference` at several layers together; with a seed, a coin swaps the sides of pairs."""
    return preference_vectors(data.of(shuffled(data.pairs, seed)), layers)


def shuffled(pairs: list[Pair], seed: int | None) -> list[Pair]:
    """The pairs; with a seed, each with its sides swapped where a coin says so."""
    if seed is None:
        return pairs
    coins = np.random.default_rng(seed).random(len(pairs)) < 0.5
    return [swap(pair) if coin else pair for pair, coin in zip(pairs, coins, strict=True)]


def swap(pair: Pair) -> Pair:
    """The pair with its two tokens in each other's place; the values stay, and with them its weight."""
    better, worse = (
        replace(kept, token_id=other.token_id, token=other.token)
        for kept, other in ((pair.better, pair.worse), (pair.worse, pair.better))
    )
    return replace(pair, better=better, worse=worse)


def online_direction(
    data: FittingData, layer: int, decoder: Decoder, problems: Sequence[Problem], fit: OnlineFit, folder: Path
) -> torch.Tensor:
    """The direction of on-policy training; its tokens and each round's success go to a file beside it."""
    norms, gate = {layer: data.norm(layer)}, token_gate(data, layer)
    found = train_online(decoder, problems, norms, gate, data.seed, fit)
    described = {"layer": layer, "tokens": found.tokens, "success": found.success}
    replace_text(folder / f"online-layer-{layer}.json", json.dumps(described) + "\n")
    return torch.nn.functional.normalize(found.vectors[layer], dim=0)


def methods_of(
    options: argparse.Namespace, decoder: Decoder, searched: SearchResults, layers: Sequence[int]
) -> tuple[dict[str, Kept], dict[str, KeptLayers]]:
    """The methods, their label-shuffled fits and `online`, each direction kept; and those of every layer."""
    fit = OutcomeFit(steps=options.steps)
    fits: dict[str, Callable[..., torch.Tensor]] = {
        "preference": preference,
        "screened": partial(preference, screened=True),
        "outcome": partial(outcome, fit=fit),
    }
    of_layers = {"preference-layers": partial(preference_of_layers, layers=layers)}
    seeds: list[tuple[str, int | None]] = [(name, None) for name in options.methods]
    seeds += [(name, number) for name in options.methods for number in range(options.shuffled)]
    folder = options.output / "directions"
    folder.mkdir(exist_ok=True)
    found: dict[str, Kept] = {}
    together: dict[str, KeptLayers] = {}
    for name, seed in seeds:
        called = name if seed is None else f"{SHUFFLED}-{name}-{seed}"
        if name.endswith(LAYERS):
            together[called] = KeptLayers(called, partial(of_layers[name], seed=seed), folder)
        else:
            found[called] = Kept(called, partial(fits[name], seed=seed), folder)
    own = [
        Problem(result.problem_id, result.query, result.answer)
        for result in searched.results
        if result.status == "searched"
    ]
    if options.rounds:
        train = partial(online_direction, decoder=decoder, problems=own, fit=online_fit(options), folder=folder)
        found[ONLINE] = Kept(ONLINE, train, folder)
    return found, together


def online_fit(options: argparse.Namespace) -> OnlineFit:
    standard = OnlineFit()
    steps = min(standard.fit.steps, options.steps)
    return replace(
        standard, rounds=options.rounds, problems=options.round_problems, fit=replace(standard.fit, steps=steps)
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
