"""Does steering change the rows that it is meant for, no other, and nothing once it is off?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pts.models.decoder_layers import decoder_layers
from pts.models.load import LoadedModel
from pts.records import TokenIds
from pts.steering.hooks import Intervention, steer
from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import Subject

NAME = "steering"
_STRENGTH = 2.0
"""Length of the trial vector, in multiples of the residual stream's norm at its layer."""


def check_steering(subject: Subject) -> CheckResult:
    """Steer half the rows of a batch by a random vector: they must move, the others must not.

    Afterwards the completions must be those from before, and the model must have no hook more.
    """
    if subject.loaded is None or subject.steerable is None:
        return skipped(NAME, "the engine does not steer")
    policy, model = subject.steerable, subject.loaded.model
    layer = len(decoder_layers(model)) // 2
    norm = float(policy.residuals(subject.prompts[:1], [layer])[0, 0].norm())
    vector = _direction(subject, norm)
    hooks = _hooks(subject.loaded)
    before = _greedy(subject, 0)
    with (
        steer(model, [(Intervention(layer, vector),)], engine_driven=True) as steering,
        policy.steered(steering),
    ):
        mixed = [
            subject.request(prompt, sampling=subject.greedy, variant=variant)
            for prompt in subject.prompts
            for variant in (0, 1)
        ]
        found = subject.one_each(mixed)
    plain, steered = found[::2], found[1::2]
    after = _greedy(subject, 0)
    moved = sum(one != other for one, other in zip(plain, steered, strict=True))
    disturbed = sum(one != other for one, other in zip(before, plain, strict=True)) if subject.exact else 0
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    left = _hooks(subject.loaded) - hooks
    rows = len(subject.prompts)
    figures = (
        f"a random vector at layer {layer} moved {moved} of {rows} rows; {disturbed} of {rows} unsteered rows "
        f"beside them changed; afterwards {changed} changed and {left} hooks are left"
    )
    return judged(NAME, moved > 0 and not (disturbed or changed or left), figures)


def _greedy(subject: Subject, variant: int) -> Sequence[TokenIds]:
    return subject.one_each(
        [subject.request(prompt, sampling=subject.greedy, variant=variant) for prompt in subject.prompts]
    )


def _direction(subject: Subject, norm: float) -> torch.Tensor:
    """A random vector of `_STRENGTH` times a norm [hidden]."""
    assert subject.loaded is not None
    size = int(subject.loaded.model.config.get_text_config(decoder=True).hidden_size)
    random = np.random.default_rng(subject.seed).standard_normal(size)
    scaled = random * (_STRENGTH * norm / np.linalg.norm(random))
    return torch.from_numpy(scaled.astype(np.float32))


def _hooks(loaded: LoadedModel) -> int:
    """How many hooks are on the model's modules."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules())
