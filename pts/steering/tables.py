"""Interventions by variant as tensors, and what one batch's rows take of them.

A table holds one intervention at one layer for each variant. What the rows of a batch take of it is picked once
and kept while the rows stay the same, so that a step costs one addition, and three short products more where a
probe gate decides, however many variants there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from pts.steering.lens import Lens
from pts.steering.tally import Added
from pts.steering.vector_set import Gate, VectorError


@dataclass(frozen=True, slots=True, eq=False)
class Intervention:
    """`vector` [hidden] is added to the output of decoder block `layer` (from 0) wherever `gate` is open."""

    layer: int
    vector: torch.Tensor
    gate: Gate = Gate()  # noqa: RUF009 (frozen)


Variant: TypeAlias = Sequence[Intervention]


Rows: TypeAlias = int | torch.Tensor
"""The variants of a batch's rows: one number where they are all of one, else a tensor [rows]."""


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """What the rows of a batch take of a table: tensors of one variant, or with dimensions [rows, 1] first.

    `vector` [hidden] in the residual stream's dtype, `weight` [hidden] in float32, `threshold` and `entropy`
    [1]. `allowed` has every variant's tokens [variants, vocab], and `rows` the variants to look up in it.
    `filled` says which rows have an intervention here [rows]; the others get zeros.
    """

    rows: Rows
    filled: bool | torch.Tensor
    vector: torch.Tensor
    weight: torch.Tensor | None
    threshold: torch.Tensor
    allowed: torch.Tensor | None
    entropy: torch.Tensor | None

    def added_to(
        self,
        hidden: torch.Tensor,
        tokens: torch.Tensor | None,
        where: torch.Tensor | None,
        lens: Lens | None,
        added: list[Added] | None = None,
    ) -> torch.Tensor:
        """The residual stream [rows, n, hidden] with the vector added where the gates are open.

        `tokens` [rows, n] are the ids read, None where no gate looks at them; `where` [rows, n] the only
        positions that may be steered. Where that was goes to `added`.
        """
        gated = not (self.weight is None and self.allowed is None and self.entropy is None)
        mask = self._mask(hidden, tokens, lens) if gated else None
        if where is not None:
            mask = _both(mask, where.to(hidden.device)[..., None])
        if added is not None:
            added.append((mask, self.filled))
        if mask is None:
            return hidden + self.vector
        # Even a conversion that changes nothing takes time.
        number = mask if mask.dtype == hidden.dtype else mask.to(hidden.dtype)
        return torch.addcmul(hidden, number, self.vector)

    def _mask(
        self, hidden: torch.Tensor, tokens: torch.Tensor | None, lens: Lens | None
    ) -> torch.Tensor | None:
        """Where the gates are open [rows, n, 1]; None for everywhere."""
        mask = None
        if self.weight is not None:
            stream = hidden if hidden.dtype == torch.float32 else hidden.float()
            # In place, the comparison gives numbers and no booleans, which would have to be cast.
            mask = (stream * self.weight).sum(-1, keepdim=True).gt_(self.threshold)
        if self.allowed is not None and tokens is not None:
            mask = _both(mask, self.allowed[self.rows, tokens.to(hidden.device)][..., None])
        if self.entropy is not None and lens is not None:
            mask = _both(mask, lens.entropy(hidden)[..., None] > self.entropy)
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One layer's interventions by variant, `vectors` [variants, hidden]; those not `filled` add nothing.

    An addition is open where weight · h > threshold, and its token is allowed, and the lens is uncertain
    enough; what no variant of the table asks is None, and costs nothing.
    """

    vectors: torch.Tensor
    filled: torch.Tensor
    weights: torch.Tensor | None
    thresholds: torch.Tensor
    allowed: torch.Tensor | None
    entropies: torch.Tensor | None

    def to(self, device: torch.device, dtype: torch.dtype) -> Table:
        """The same on another device, with what is added in the residual stream's dtype."""
        return Table(
            self.vectors.to(device, dtype),
            self.filled,
            _moved(self.weights, device),
            self.thresholds.to(device),
            _moved(self.allowed, device),
            _moved(self.entropies, device),
        )

    def pick(self, rows: Rows) -> Picked:
        """What a batch's rows take."""
        # A row's variant holds for each of its tokens, and one number of it for all of the hidden dimensions.
        at = rows if isinstance(rows, int) else rows.to(self.vectors.device)[:, None]
        return Picked(
            at,
            bool(self.filled[rows]) if isinstance(rows, int) else self.filled[rows.cpu()],
            self.vectors[at],
            None if self.weights is None else self.weights[at],
            self.thresholds[at][..., None],
            self.allowed,
            None if self.entropies is None else self.entropies[at][..., None],
        )


def tables(model: Any, variants: Sequence[Variant], layers: int) -> dict[int, list[Table]]:
    """By layer, one table for every intervention that a variant may have there.

    Raises VectorError for a vector of another width than the residual stream, a layer that is not there, or a
    gate's token that the vocabulary does not have.
    """
    config = model.config.get_text_config(decoder=True)
    hidden, vocab = int(config.hidden_size), int(config.vocab_size)
    for variant in variants:
        for intervention in variant:
            _check(intervention, hidden, layers, vocab)
    used = sorted({intervention.layer for variant in variants for intervention in variant})
    made = {}
    for layer in used:
        here = [[entry for entry in variant if entry.layer == layer] for variant in variants]
        deepest = max(len(entries) for entries in here)
        made[layer] = [
            _table([entries[slot] if slot < len(entries) else None for entries in here], hidden, vocab)
            for slot in range(deepest)
        ]
    return made


def _table(entries: Sequence[Intervention | None], hidden: int, vocab: int) -> Table:
    count = len(entries) + 1
    vectors = torch.zeros(count, hidden)
    filled = torch.tensor([False, *(entry is not None for entry in entries)])
    kinds = {entry.gate.kind for entry in entries if entry is not None}
    weights = torch.zeros(count, hidden) if "probe" in kinds else None
    thresholds = torch.full((count,), -1.0)  # open: 0 > -1
    allowed = torch.ones(count, vocab, dtype=torch.bool) if "tokens" in kinds else None
    entropies = torch.full((count,), -float("inf")) if "entropy" in kinds else None
    for index, entry in enumerate(entries, start=1):
        if entry is None:
            continue
        gate = entry.gate
        vectors[index] = entry.vector.float().cpu()
        if gate.weight is not None and weights is not None:
            weights[index], thresholds[index] = gate.weight.float().cpu(), gate.threshold
        if gate.kind == "entropy" and entropies is not None:
            entropies[index] = gate.threshold
        if gate.kind == "tokens" and allowed is not None:
            allowed[index] = False
            allowed[index, list(gate.token_ids)] = True
    return Table(vectors, filled, weights, thresholds, allowed, entropies)


def _check(intervention: Intervention, hidden: int, layers: int, vocab: int) -> None:
    shapes = [intervention.vector.shape]
    if intervention.gate.weight is not None:
        shapes.append(intervention.gate.weight.shape)
    for shape in shapes:
        if tuple(shape) != (hidden,):
            raise VectorError(
                f"a steering vector has shape {list(shape)}; the model's residual stream is [{hidden}]."
            )
    if not 0 <= intervention.layer < layers:
        raise VectorError(
            f"layer {intervention.layer} is out of range: the model has decoder layers 0 to {layers - 1}."
        )
    foreign = [token for token in intervention.gate.token_ids if not 0 <= token < vocab]
    if foreign:
        raise VectorError(
            f"a gate opens after token id {foreign[0]}, and the model's vocabulary has {vocab}: use the "
            "vectors with the model that they were made for."
        )


def _moved(values: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    return None if values is None else values.to(device)


def _both(mask: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    """Where both masks are 1 or true; None is everywhere."""
    return other if mask is None else mask * other
