"""Does steering change the rows that it is meant for, no other, and nothing once it is off?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from pts.models.decoder_layers import decoder_layers
from pts.policies import SteerablePolicy
from pts.policies.vllm import VllmPolicy
from pts.policies.vllm.endpoint import EndpointPolicy
from pts.records import TokenIds
from pts.steering.hooks import Intervention, steer
from pts.steering.vllm_steering import steer_vllm
from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import Subject

NAME = "steering"
_STRENGTH = 2.0
"""Length of the trial vector, in multiples of the residual stream's norm at its layer."""


def check_steering(subject: Subject) -> CheckResult:
    """Steer half the rows of a batch by a random vector: they must move, the others must not.

    Afterwards the completions must be those from before, and the model must have no hook more.
    """
    policy = subject.steerable
    if policy is None or (subject.loaded is None and not isinstance(policy, VllmPolicy | EndpointPolicy)):
        return skipped(NAME, "the engine does not steer")
    layers, hooks = _steered_model(subject)
    layer = layers // 2
    norm = float(policy.residuals(subject.prompts[:1], [layer])[0, 0].norm())
    hooked = hooks()
    before = _greedy(subject, 0)
    with _steered(subject, policy, Intervention(layer, _direction(subject, norm))):
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
    left = hooks() - hooked
    rows = len(subject.prompts)
    figures = (
        f"a random vector at layer {layer} moved {moved} of {rows} rows; {disturbed} of {rows} unsteered rows "
        f"beside them changed; afterwards {changed} changed and {left} hooks are left"
    )
    return judged(NAME, moved > 0 and not (disturbed or changed or left), figures)


def _steered_model(subject: Subject) -> tuple[int, Callable[[], int]]:
    """How many decoder layers the model has that is steered, and what counts the hooks on it."""
    if subject.loaded is not None:
        return len(decoder_layers(subject.loaded.model)), partial(_hooks, subject.loaded.model)
    assert isinstance(subject.steerable, VllmPolicy | EndpointPolicy)
    return subject.steerable.inside.layers, subject.steerable.inside.hooks


@contextmanager
def _steered(subject: Subject, policy: SteerablePolicy, intervention: Intervention) -> Iterator[None]:
    """Have the policy's requests name the intervention as variant 1."""
    variants = [(intervention,)]
    if subject.loaded is None:
        assert isinstance(policy, VllmPolicy | EndpointPolicy)
        with steer_vllm(policy, variants):
            yield
        return
    with (
        steer(subject.loaded.model, variants, engine_driven=True) as steering,
        policy.steered(steering),
    ):
        yield


def _greedy(subject: Subject, variant: int) -> Sequence[TokenIds]:
    return subject.one_each(
        [subject.request(prompt, sampling=subject.greedy, variant=variant) for prompt in subject.prompts]
    )


def _direction(subject: Subject, norm: float) -> torch.Tensor:
    """A random vector of `_STRENGTH` times a norm [hidden]."""
    size = int(subject.policy.identity.hidden_size or 0)
    random = np.random.default_rng(subject.seed).standard_normal(size)
    scaled = random * (_STRENGTH * norm / np.linalg.norm(random))
    return torch.from_numpy(scaled.astype(np.float32))


def _hooks(model: torch.nn.Module) -> int:
    """How many hooks are on the model's modules."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
