"""Completions whose tokens `pts` draws in a server's worker: begun, drawn token by token, handed over.

A server answers others, too. So whatever goes wrong with a completion ends that one and is told to its client;
nothing is raised into vLLM's steps, where it would end the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pts.decoding.budget import BudgetGuide
from pts.errors import ModelError, one_line
from pts.policies.guide import Guide
from pts.policies.transformers.complete import CompletionEnds
from pts.policies.vllm.drawing import Drawer, Drawing
from pts.policies.vllm.passes import Followed
from pts.policies.vllm.wire import DrawSpec
from pts.records import RolloutRequest
from pts.serving.kept import LEASE, Kept

GONE = (
    "the server no longer has what this client gave it: it was restarted, or nothing was heard of the client "
    f"for {LEASE / 60:g} minutes; give the same command again."
)


@dataclass(slots=True, eq=False)
class Completion:
    """One completion: `output` is vLLM's own list of its new tokens, `drawn` what was drawn for each of them.

    With `over` it has ended, whatever vLLM thinks; `failed` says what went wrong. `heard` counts the tokens of
    `output` that were taken, `at` is when it was last heard of.
    """

    spec: DrawSpec
    drawing: Drawing | None
    output: list[int]
    at: float
    drawn: list[tuple[int, float, bool]] = field(default_factory=list)
    heard: int = 0
    over: bool = False
    failed: str | None = None

    @property
    def followed(self) -> Followed | None:
        """How it is steered; None where it is not."""
        return None if self.drawing is None else self.drawing.followed

    def fail(self, why: str) -> None:
        """End it with a reason; the first one counts."""
        self.failed, self.over = self.failed or why, True

    def result(self) -> dict[str, Any]:
        """What its client is told."""
        read = 0 if self.followed is None else self.followed.read
        return {"drawn": self.drawn, "read": read, "failed": self.failed}


class Completions:
    """The completions under way by label; guides and steering variants are those that `kept` holds.

    `tokenizer` finds stop texts; it is set before the first completion.
    """

    def __init__(self, kept: Kept, clock: Callable[[], float] = time.monotonic) -> None:
        self.tokenizer: Any = None
        self._kept, self._clock = kept, clock
        self._found: dict[str, Completion] = {}
        self._drawer = Drawer()
        self._ends: dict[tuple[int, ...], CompletionEnds] = {}

    def __len__(self) -> int:
        return len(self._found)

    def get(self, label: str | None) -> Completion | None:
        """The completion of that label; None where there is none."""
        return None if label is None else self._found.get(label)

    def labels(self) -> list[str]:
        """The labels under way."""
        return list(self._found)

    def begin(self, label: str, text: str, prompt: Sequence[int], output: list[int]) -> None:
        """Follow a request that comes into the batch, for the first time or again."""
        known = self._found.get(label)
        if known is not None and output:
            known.output = output
            return
        spec = DrawSpec.read(text)
        completion = Completion(spec, None, output, self._clock())
        self._found[label] = completion
        try:
            completion.drawing = self._drawing(spec, tuple(prompt))
            completion.drawing.label = label
            self._drawer.under_way[label] = completion.drawing
        except Exception as error:  # the server goes on; the client is told
            completion.fail(one_line(error))

    def hear(self, labels: Iterable[str]) -> None:
        """Take the tokens that vLLM has written since the last step."""
        for label in labels:
            completion = self._found.get(label)
            if completion is None or completion.over or completion.drawing is None:
                continue
            completion.at = self._clock()
            try:
                new = list(completion.output)
                end = completion.drawing.hear(new, completion.heard)
                completion.heard, completion.over = len(new), end is not None
            except Exception as error:  # as above
                completion.fail(one_line(error))

    def draw(self, logits: torch.Tensor, rows: Sequence[tuple[int, str]]) -> None:
        """Leave one token in each row [batch, vocabulary] of a completion: the one drawn, or an end token."""
        known = [(row, label, self._found[label]) for row, label in rows if label in self._found]
        going = [(row, label) for row, label, completion in known if not completion.over]
        try:
            if going:
                self._drawer.draw(logits, going)
        except Exception as error:  # as above
            for _, label in going:
                self._found[label].fail(one_line(error))
        for row, _, completion in known:
            drawing = completion.drawing
            if completion.over or drawing is None or drawing.drawn is None:
                logits[row] = -torch.inf
                logits[row, completion.spec.ends[0]] = 0.0
                continue
            del completion.drawn[len(completion.output) :]
            one = drawing.drawn
            completion.drawn.append((one.token, one.prob, one.moved))

    def fail(self, labels: Iterable[str], why: str) -> None:
        """End completions with a reason."""
        for label in labels:
            completion = self._found.get(label)
            if completion is not None:
                completion.fail(why)

    def take(self, label: str) -> dict[str, Any]:
        """What a completion came to; it is known no more."""
        completion = self._found.get(label)
        self.forget([label])
        return {"drawn": [], "read": 0, "failed": GONE} if completion is None else completion.result()

    def forget(self, labels: Iterable[str]) -> None:
        """Know completions no more."""
        for label in labels:
            self._found.pop(label, None)
            self._drawer.under_way.pop(label, None)

    def expire(self) -> set[str]:
        """Forget what was not heard of within the lease; the names of the steering variants still in use."""
        old = [label for label, one in self._found.items() if self._clock() - one.at > LEASE]
        self.forget(old)
        return {one.spec.variants for one in self._found.values() if one.spec.variants is not None}

    def _drawing(self, spec: DrawSpec, ids: tuple[int, ...]) -> Drawing:
        """The completion's draws. Raises ModelError where what they need is not kept."""
        prompt, given = ids[: spec.prompt], ids[spec.prompt :]
        forced = given[spec.prefix] if len(given) > spec.prefix else None
        guide = None if spec.guide is None else self._guide(spec.guide)
        followed = None
        if spec.variant:
            steering = self._kept.get(spec.variants)
            if steering is None or spec.variant > steering.count:
                raise ModelError(GONE)
            followed = Followed(spec.prompt, spec.variant, guide)
        request = RolloutRequest(
            prompt, given[: spec.prefix], force=forced, avoid=spec.avoid, sampling=spec.sampler()
        )
        ends = self._ends.setdefault(spec.ends, CompletionEnds(frozenset(spec.ends), self.tokenizer))
        return Drawing(request, ends, spec.key, guide, spec.own_probs, list(given), followed)

    def _guide(self, state: Any) -> Guide:
        parts = []
        for part in ("think", "contexts"):
            found = self._kept.get(state[part])
            if found is None and state[part] is not None:
                raise ModelError(GONE)
            parts.append(found)
        return BudgetGuide.restored(state, parts[0], parts[1])
