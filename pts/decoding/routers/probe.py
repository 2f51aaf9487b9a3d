"""The default router: a probe of the model's own residual stream at the end of the prompt."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pts.decoding.routers.fitted import FittedRouter, Probe
from pts.decoding.routers.protocol import ClassBudgets, Route
from pts.decoding.session import Question, Session
from pts.errors import ConfigError, ModelError
from pts.records import TokenIds


@dataclass(frozen=True, slots=True)
class ProbeRouter:
    """A fitted router at work: the class with the largest success − price × tokens, as predicted.

    The residual stream is recorded in the prefill that the completion starts from, so nothing is read for it
    and `seconds` leave that out. `price` replaces the fitted one, in success per token. A question with
    steering on is routed by the steered probe where there is one. `same_shape` accepts a fine-tune of the
    fitted model.
    """

    fitted: FittedRouter
    price: float | None = None
    same_shape: bool = False
    name: str = "probe"

    def __post_init__(self) -> None:
        if self.price is not None and not 0 <= self.price < float("inf"):
            raise ConfigError(f"the price of a token is {self.price}; it must be at least 0.")

    @property
    def budgets(self) -> ClassBudgets:
        """The classes with the budgets that they were fitted with."""
        return self.fitted.budgets

    def check(self, session: Session) -> None:
        """Raise ModelError where the router was fitted on another model."""
        here, known = session.policy.identity, self.fitted.model
        fits = (here.hidden_size, here.layers) == (known.hidden_size, known.layers)
        same = here.revision == known.revision if known.revision is not None else here.model_id == known.id
        if not fits or not (same or self.same_shape):
            raise ModelError(
                f"the router was fitted on {known.id} (revision {known.revision}, {known.layers} layers of "
                f"{known.hidden_size}), the model is {here.model_id} (revision {here.revision}, {here.layers} "
                f"layers of {here.hidden_size}): use that model, or fit a router by `pts fit-router`."
            )

    def route(
        self, session: Session, questions: Sequence[Question], prompts: Sequence[TokenIds]
    ) -> list[Route]:
        """Each question's class, with every class's predicted success."""
        probes = [self._probe(question.variant) for question in questions]
        layers = sorted({probe.layer for probe in probes})
        states = session.policy.residuals(prompts, layers)
        return [
            self._route(session, probe, state[layers.index(probe.layer)])
            for probe, state in zip(probes, states, strict=True)
        ]

    def _probe(self, variant: int) -> Probe:
        steered = self.fitted.steered
        return steered if variant and steered is not None else self.fitted.unsteered

    def _route(self, session: Session, probe: Probe, state: torch.Tensor) -> Route:
        if not torch.isfinite(state).all():
            raise ModelError(
                f"the residual stream at layer {probe.layer} is not finite at a prompt's end, so nothing can "
                "be routed by it: load the model in another dtype, or choose another router."
            )
        started = time.perf_counter()
        success, tokens = probe.predict(state, session.sampling.budget)
        price = probe.price if self.price is None else self.price
        worth = [gain - price * cost for gain, cost in zip(success, tokens, strict=True)]
        names = [each.name for each in probe.classes]
        best = names[worth.index(max(worth))]
        return Route(best, dict(zip(names, success, strict=True)), time.perf_counter() - started)
