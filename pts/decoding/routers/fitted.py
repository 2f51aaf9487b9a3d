"""A router that was fitted to a model: what each budget would bring and cost, read off the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pts.decoding.limits import ThinkingBudget
from pts.decoding.routers.protocol import ClassBudgets
from pts.errors import ConfigError
from pts.steering.vector_set import SteeredModel

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ClassQuality:
    """How a class did on the problems of the fit, and how well it is predicted on those held out.

    `success` and `tokens` are means; `brier`, `log_loss` (nats) and `auc` are of held-out predictions of single
    completions, `base_log_loss` is that of the each's mean success. `auc` is None where all went one way.
    """

    success: float
    tokens: float
    brier: float
    log_loss: float
    base_log_loss: float
    auc: float | None


@dataclass(frozen=True, slots=True, eq=False)
class RouterClass:
    """A class with its budget, and two affine functions of the residual stream h at a prompt's end.

    P(success) = sigmoid(success · h + success_bias); expected tokens = tokens · h + tokens_bias. Both weights
    are float32 [hidden].
    """

    name: str
    budget: ThinkingBudget
    success: torch.Tensor
    success_bias: float
    tokens: torch.Tensor
    tokens_bias: float
    quality: ClassQuality


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """The classes of one steering, read at the output of decoder block `layer` (from 0).

    The class with the largest P(success) − `price` × expected tokens is chosen. `routed` is what that gave on
    held-out problems: success, tokens, and each class's share. `patterns` are those that steered while the
    classes were measured; empty for the unsteered model.
    """

    layer: int
    classes: tuple[RouterClass, ...]
    price: float
    routed: Mapping[str, float]
    patterns: Mapping[str, float] = field(default_factory=dict)

    def predict(self, state: torch.Tensor, total: int) -> tuple[list[float], list[float]]:
        """Each class's success and tokens (from 1 to `total`), from the residual stream [hidden]."""
        h = state.double()
        success = [torch.sigmoid(h @ each.success.double() + each.success_bias).item() for each in self.classes]
        tokens = [(h @ each.tokens.double() + each.tokens_bias).item() for each in self.classes]
        return success, [min(max(1.0, value), float(total)) for value in tokens]


@dataclass(frozen=True, slots=True, eq=False)
class FittedRouter:
    """The probes of one model: as it is, and steered where they were fitted for that too.

    `total` is the total budget of the completions that the classes were measured with.
    """

    model: SteeredModel
    total: int
    unsteered: Probe
    steered: Probe | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def probes(self) -> Mapping[str, Probe]:
        """The probes by name."""
        steered = {} if self.steered is None else {"steered": self.steered}
        return {"unsteered": self.unsteered, **steered}

    @property
    def budgets(self) -> ClassBudgets:
        """The classes with their budgets."""
        return {each.name: each.budget for each in self.unsteered.classes}


def check_router(router: FittedRouter, where: str) -> None:
    """Raise ConfigError for a router that would fail at work: wrong shapes, values that are not finite."""
    hidden, layers = router.model.hidden_size, router.model.layers
    for name, probe in router.probes.items():
        if not 0 <= probe.layer < layers:
            raise ConfigError(
                f"{where}: the {name} router reads layer {probe.layer} of a model with {layers} layers; fit it "
                "again."
            )
        if {each.name: each.budget for each in probe.classes} != dict(router.budgets) or not probe.classes:
            raise ConfigError(f"{where}: the {name} router has other classes or budgets; fit it again.")
        for each in probe.classes:
            for weight in (each.success, each.tokens):
                if tuple(weight.shape) != (hidden,):
                    raise ConfigError(
                        f"{where}: the {name} router's class {each.name} has shape {list(weight.shape)}, not "
                        f"[{hidden}]; fit it again."
                    )
            numbers = torch.tensor([each.success_bias, each.tokens_bias, probe.price])
            if not all(torch.isfinite(values).all() for values in (each.success, each.tokens, numbers)):
                raise ConfigError(
                    f"{where}: the {name} router's class {each.name} holds values that are not finite; fit it "
                    "again."
                )
