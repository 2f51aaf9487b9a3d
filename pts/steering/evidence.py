"""What held-out pairs say of a direction and of a gate: the numbers that travel with a vector."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from pts.steering.directions import PAIR_METHODS, preference_shift, screened_beside
from pts.steering.fitting_data import FittingData
from pts.steering.lens import LogitLens
from pts.steering.pairs import split_problems
from pts.steering.vector_set import Gate


def direction_evidence(
    fitted: FittingData,
    held_out: FittingData,
    method: str,
    layer: int,
    added: Mapping[int, torch.Tensor],
) -> Mapping[str, int | float | None]:
    """Numbers of what is `added` by layer [hidden], fitted on one part of the pairs, judged on the other.

    `shift` is the mean change in log p(better) − log p(worse) that adding it before the choice causes, in
    nats, and `shift_positive` the share of pairs where it is above 0; `auc` that of the projection at `layer`,
    better tokens' activations against worse ones'; `halves_cosine` the cosine of the directions fitted on two
    halves of the problems (None for a method that cannot be fitted on a half, or that takes rollouts, and for
    several layers). `screened_pairs`, of the method `screened` alone, is the number of pairs that it was fitted
    to besides `pairs`.
    """
    shifts = preference_shift(held_out, added)
    here, direction = held_out.activations(layer), normalize(added[layer], dim=0)
    return {
        "pairs": len(fitted.pairs),
        **({"screened_pairs": len(screened_beside(fitted))} if method == "screened" else {}),
        "problems": len({pair.problem_id for pair in fitted.pairs}),
        "held_out_pairs": len(held_out.pairs),
        "shift": float(shifts.mean()),
        "shift_positive": float((shifts > 0).float().mean()),
        "auc": _auc(here.better @ direction, here.worse @ direction),
        "halves_cosine": _halves_cosine(fitted, method, layer) if len(added) == 1 else None,
    }


def gate_evidence(held_out: FittingData, gate: Gate, layer: int) -> Mapping[str, int | float | None]:
    """How well a probe tells held-out decision positions from ordinary ones.

    `gate_auc` is against all ordinary positions, `gate_auc_uncertain` against those whose lens is more
    uncertain than the median pivot's. Nothing for a gate without a probe.
    """
    if gate.weight is None:
        return {}
    here = held_out.activations(layer)
    lens = LogitLens(held_out.model, held_out.layers_path)
    place = {"device": held_out.model.device, "dtype": held_out.model.dtype}
    pivots, others = lens.entropy(here.before.to(**place)), lens.entropy(here.ordinary.to(**place))
    uncertain = (others >= pivots.median()).cpu()
    scores, ordinary = here.before @ gate.weight, here.ordinary @ gate.weight
    return {
        "gate_auc": _auc(scores, ordinary),
        "gate_auc_uncertain": _auc(scores, ordinary[uncertain]),
        "gate_open_at_pivots": float((scores > gate.threshold).float().mean()),
        "gate_open_elsewhere": float((ordinary > gate.threshold).float().mean()),
    }


def _halves_cosine(fitted: FittingData, method: str, layer: int) -> float | None:
    if method not in PAIR_METHODS:
        return None
    halves = split_problems(fitted.pairs, 0.5, fitted.seed)
    if not all(halves) or any(len({pair.taken_better for pair in half}) < 2 for half in halves):
        return None
    first, second = (PAIR_METHODS[method](fitted.of(half), layer) for half in halves)
    return float(first @ second)


def _auc(positive: torch.Tensor, negative: torch.Tensor) -> float | None:
    """Chance that a positive scores above a negative, ties half; None where either is missing."""
    from sklearn.metrics import roc_auc_score

    if not len(positive) or not len(negative):
        return None
    labels: npt.NDArray[np.int64] = np.repeat([1, 0], [len(positive), len(negative)])
    return float(roc_auc_score(labels, torch.cat([positive, negative]).numpy()))
