"""Gates: where a vector is added. Each fits a rule to pivots' decision positions against ordinary ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch

from pts.steering.fitting_data import FittingData
from pts.steering.lens import LogitLens
from pts.steering.vector_set import Gate, GateKind

KEPT_PIVOTS = 0.8
"""Share of the pivots' decision positions that the entropy and the token gate keep open."""
LEAST_ENRICHED = 2.0
"""How much more often a token must stand before a pivot than elsewhere to be in the token set."""

Fit: TypeAlias = Callable[[FittingData, int], Gate]


def always_gate(_material: FittingData, _layer: int) -> Gate:
    """Open at every decode position."""
    return Gate()


def probe_gate(data: FittingData, layer: int) -> Gate:
    """A logistic probe of the residual stream that tells decision positions of pivots from ordinary ones.

    Fitted with both classes weighted alike; open where it finds a pivot likelier than not.
    """
    from sklearn.linear_model import LogisticRegression

    here, norm = data.activations(layer), data.norm(layer)
    features = torch.cat([here.before, here.ordinary]).numpy() / norm
    labels = np.repeat([1, 0], [len(here.before), len(here.ordinary)])
    probe = LogisticRegression(C=1.0, max_iter=2000, class_weight="balanced").fit(features, labels)
    weight = torch.from_numpy(probe.coef_[0]).float() / norm
    return Gate("probe", threshold=-float(probe.intercept_[0]), weight=weight)


def entropy_gate(data: FittingData, layer: int) -> Gate:
    """Open where the layer's logit lens has at least the entropy that most pivots' decision positions have."""
    lens = LogitLens(data.model, data.layers_path)
    entropies = lens.entropy(_as_model(data, data.activations(layer).before))
    return Gate("entropy", threshold=float(torch.quantile(entropies.float().cpu(), 1 - KEPT_PIVOTS)))


def token_gate(data: FittingData, layer: int) -> Gate:
    """Open after a fixed set of tokens: those that stand before pivots far more often than elsewhere.

    The most enriched first, until `KEPT_PIVOTS` of the pivots are covered.
    """
    here = data.activations(layer)
    before, elsewhere = Counter(here.before_token.tolist()), Counter(here.ordinary_token.tolist())
    total, others = len(here.before_token), max(1, len(here.ordinary_token))
    rates = {
        token: (count / total) / ((elsewhere[token] + 1) / (others + 1)) for token, count in before.items()
    }
    chosen: list[int] = []
    for token in sorted(rates, key=lambda token: -rates[token]):
        covered = sum(before[other] for other in chosen)
        if rates[token] < LEAST_ENRICHED or covered >= KEPT_PIVOTS * total:
            break
        chosen.append(token)
    return Gate("tokens", token_ids=tuple(sorted(chosen)))


GATES: Mapping[GateKind, Fit] = {
    "probe": probe_gate,
    "entropy": entropy_gate,
    "tokens": token_gate,
    "always": always_gate,
}


def _as_model(data: FittingData, hidden: torch.Tensor) -> torch.Tensor:
    return hidden.to(data.model.device, data.model.dtype)
