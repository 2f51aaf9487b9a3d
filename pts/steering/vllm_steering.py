"""Steering inside vLLM: variants, tables and gates as in `pts.steering.hooks`, on a flat batch of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import ConfigError, ModelError
from pts.policies.vllm import VllmPolicy
from pts.policies.vllm.endpoint import EndpointPolicy
from pts.policies.vllm.passes import Passes, parts
from pts.records import RolloutRequest, Sampling
from pts.steering.lens import entropy_of, norm_beside
from pts.steering.tables import Intervention, Table, Variant, tables
from pts.steering.wire import described_variants

_TRIAL_STRENGTH = 8.0
"""Length of the vector that proves steering, in multiples of the residual stream's norm at its layer."""
_TRIAL_PROMPT, _TRIAL_ROWS = 12, 4
_MOVED = {"float32": 1e-3}
"""By how much a token's probability changes at least that moved, by dtype; in 16 bits passes differ by more."""
_MOVED_16_BITS = 0.1


Hook: TypeAlias = Callable[[Any, Any, Any], Any]
"""A forward hook: of a module, its arguments and its output."""


@dataclass(frozen=True, slots=True)
class _Steered:
    """The tokens of a pass that are steered: their places [n], variants [n] and ids [n]."""

    places: torch.Tensor
    variants: torch.Tensor
    tokens: torch.Tensor


class VllmSteering:
    """Adds variants' vectors at vLLM's decoder blocks, to those tokens of a pass that it is told of.

    Variant 0 is the model as it is; those given count from 1, up to `count`. `positions_steered` counts the
    tokens of the passes in which every steered layer took part. Raises VectorError for a vector or a layer that
    does not fit.
    """

    def __init__(self, passes: Passes, config: Any, variants: Sequence[Variant]) -> None:
        self.positions_steered = 0
        self.count = len(variants)
        self._model, self._blocks = passes.model, passes.blocks
        self._tables = tables(SimpleNamespace(config=config), variants, len(self._blocks))
        self._placed: dict[tuple[int, torch.device, torch.dtype], list[Table]] = {}
        kinds = {entry.gate.kind for variant in variants for entry in variant}
        self._lens = _VllmLens(self._model, self._blocks) if "entropy" in kinds else None
        self._on: _Steered | None = None
        self._ran: set[int] = set()

    def begin_step(self, variants: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> None:
        """The next pass reads these tokens [n], steered by these variants [n] (0: not at all).

        Raises ConfigError for a variant that there is not, ModelError where the pass before was never ended.
        """
        if self._on is not None:
            raise ModelError("a steered pass of vLLM was never seen to end: nothing of it can be trusted.")
        places = np.flatnonzero(variants)
        if not places.size:
            return
        named = variants[places]
        if named.min() < 0 or named.max() > self.count:
            raise ConfigError(f"a row names variant {named.max()}; there are 0 to {self.count}.")
        self._ran = set()
        self._on = _Steered(*(torch.from_numpy(values) for values in (places, named, tokens[places])))

    def drop_step(self) -> None:
        """Forget the pass that was begun."""
        self._on = None

    @contextmanager
    def installed(self, guard: Callable[[Hook], Hook] = lambda hook: hook) -> Iterator[None]:
        """Hooks on the model while the context lasts; `guard` makes of each the one that is put there."""
        handles = [
            self._blocks[layer].register_forward_hook(guard(self._hook(layer)), prepend=True)
            for layer in self._tables
        ]
        handles.append(self._model.register_forward_hook(guard(self._end_pass)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._on = None

    def _end_pass(self, *_: Any) -> None:
        """Count a pass. Raises ModelError where a steered layer had no part in it."""
        on, self._on = self._on, None
        if on is None:
            return
        if self._ran != set(self._tables):
            raise ModelError(
                f"{len(self._ran)} of {len(self._tables)} steered layers ran in a pass of vLLM: a compiled "
                "model, or one that leaves layers out, cannot be steered."
            )
        self.positions_steered += len(on.places)

    def _hook(self, layer: int) -> Hook:
        def add(_block: Any, _args: Any, output: Any) -> Any:
            on = self._on
            if on is None:
                return None
            self._ran.add(layer)
            hidden, residual = parts(output)
            places = on.places.to(hidden.device)
            stream = hidden[places] if residual is None else hidden[places] + residual[places]
            steered = stream[:, None]
            for table in self._at(layer, hidden):
                picked = table.pick(on.variants)
                steered = picked.added_to(steered, on.tokens[:, None], None, self._lens)
            # Only the rows of steered tokens are written, so that all others stay as they are to the last bit.
            hidden = hidden.index_copy(0, places, steered[:, 0])
            if residual is None:
                return hidden if isinstance(output, torch.Tensor) else type(output)((hidden,))
            return type(output)((hidden, residual.index_fill(0, places, 0.0)))

        return add

    def _at(self, layer: int, hidden: torch.Tensor) -> list[Table]:
        """A layer's tables on the device of its output, in its dtype."""
        key = (layer, hidden.device, hidden.dtype)
        if key not in self._placed:
            self._placed[key] = [table.to(hidden.device, hidden.dtype) for table in self._tables[layer]]
        return self._placed[key]


class _VllmLens:
    """The logit lens by vLLM's own final norm and unembedding. Raises ModelError where there is none."""

    def __init__(self, model: Any, blocks: Any) -> None:
        self._model, self._norm = model, norm_beside(model, blocks)

    def entropy(self, hidden: torch.Tensor) -> torch.Tensor:
        """Entropy in nats at a residual stream [..., hidden] → [...]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        return entropy_of(self._model.compute_logits(self._norm(flat))).reshape(hidden.shape[:-1])


OnVllm: TypeAlias = VllmPolicy | EndpointPolicy
"""A policy over vLLM, in this process or as a server, that was opened as steerable."""
P = TypeVar("P", bound=OnVllm)


@contextmanager
def steer_vllm(policy: P, variants: Sequence[Variant]) -> Iterator[P]:
    """The policy, whose requests may name `variants`, from 1, while the context lasts; no hook stays behind.

    Once an engine it is shown first that a steered row moves and that an unsteered one beside it does not.
    Raises VectorError for a vector that does not fit, ModelError where the engine does not steer.
    """
    if not policy.inside.proved:
        _prove(policy)
        policy.inside.proved = True
    with _steering(policy, variants):
        yield policy


@contextmanager
def _steering(policy: OnVllm, variants: Sequence[Variant]) -> Iterator[Callable[[], int]]:
    """Steer by variants while the context lasts; what counts the steered steps since it began."""
    if isinstance(policy, EndpointPolicy):
        inside = policy.inside
        # What does not fit is told here, before anything is sent.
        tables(policy, variants, inside.layers)
        before = inside.steps
        with inside.steered(described_variants(variants)):
            yield lambda: inside.steps - before
        return
    steering = VllmSteering(policy.inside.passes, policy.config, variants)
    with steering.installed(), policy.steered(steering):
        yield lambda: steering.positions_steered


def _prove(policy: OnVllm) -> None:
    """Steer half the rows of a small batch by a random vector. Raises ModelError where that does not show."""
    size, vocabulary = int(policy.identity.hidden_size or 0), policy.vocabulary_size
    prompt = tuple((7 * place + 3) % vocabulary for place in range(_TRIAL_PROMPT))
    layer = policy.inside.layers // 2
    norm = float(policy.residuals([prompt], [layer])[0, 0].norm())
    random = np.random.default_rng(0).standard_normal(size)
    vector = torch.from_numpy((random * (_TRIAL_STRENGTH * norm / np.linalg.norm(random))).astype(np.float32))
    before = _second_tokens(policy, prompt, (0,))
    with _steering(policy, [(Intervention(layer, vector),)]) as steps:
        found = _second_tokens(policy, prompt, (0, 1))
        steered = steps()
    least = _MOVED.get(policy.identity.dtype or "", _MOVED_16_BITS)
    moved = sum(not _same(found[row, 0], found[row, 1], least) for row in range(_TRIAL_ROWS))
    disturbed = sum(not _same(before[row, 0], found[row, 0], least) for row in range(_TRIAL_ROWS))
    if not moved or disturbed or steered < _TRIAL_ROWS:
        raise ModelError(
            f"a trial vector moved {moved} of {_TRIAL_ROWS} rows that it was added to and {disturbed} of "
            f"{_TRIAL_ROWS} beside them, in {steered} steered steps: this vLLM cannot be "
            "steered (use the engine transformers)."
        )


def _second_tokens(
    policy: OnVllm, prompt: tuple[int, ...], variants: Sequence[int]
) -> dict[tuple[int, int], tuple[int, float]]:
    """By forced first token and variant: the likeliest token after it, and its probability."""
    greedy = Sampling(temperature=0.0, budget=2)
    ordinary = (token for token in range(policy.vocabulary_size) if token not in policy.end_token_ids)
    firsts = [next(ordinary) for _ in range(_TRIAL_ROWS)]
    asked = [
        RolloutRequest(prompt, force=first, variant=variant, key=f"{row} {variant}", sampling=greedy)
        for row, first in enumerate(firsts)
        for variant in variants
    ]
    found = {}
    for finished in policy.finished(asked, own_probs=True):
        row, variant = map(int, finished.rollout.request.key.split())
        found[row, variant] = finished.rollout.completion[-1], finished.new_probs[-1]
    return found


def _same(one: tuple[int, float], other: tuple[int, float], least: float) -> bool:
    """Whether two tokens with their probabilities are the same, up to rounding."""
    return one[0] == other[0] and abs(one[1] - other[1]) < least
