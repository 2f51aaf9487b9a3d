"""A policy over a transformers model: prefills once, keeps one large ragged batch full."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch

from pts.errors import ConfigError
from pts.models.decoder_layers import decoder_layers
from pts.models.load import LoadedModel
from pts.models.prompt import PromptFormat, encode_messages, encode_prompt
from pts.policies.guide import PassSteering
from pts.policies.protocol import Finished, PolicyIdentity, Prompt
from pts.policies.source import RolloutRequests, RolloutSource, as_source
from pts.policies.stop_texts import before_stop
from pts.policies.transformers.allowance import RowAllowance
from pts.policies.transformers.along import DistributionsAlong, whole_vocabulary
from pts.policies.transformers.check import RaggedCheck
from pts.policies.transformers.complete import CompletionEnds
from pts.policies.transformers.distribution import apportion, draw, truncate
from pts.policies.transformers.engine import Engine, Split, StepWork
from pts.policies.transformers.lengths import length_limit
from pts.policies.transformers.masks import attention_plan
from pts.policies.transformers.memory import available_bytes
from pts.policies.transformers.model_cache import keeps_states
from pts.policies.transformers.prefill import PrefixStore
from pts.policies.transformers.untruncated import truncates_nothing
from pts.records import Problem, Rollout, RolloutRequest, Sampling, TokenDistribution, TokenIds, Trace
from pts.setting_names import setting

_ROWS = {"cpu": 256, "mps": 256, "cuda": 1024}
"""Rows of a batch at most, by device: beyond, a step takes longer without giving more tokens a second."""
_FREE_SHARE = 0.625
"""What part of the memory free at the start a policy takes where it is not told how much."""
_ROWS_SHARE = 0.8
"""What part of a policy's memory the rows' caches may take; the prefilled sequences have the rest."""
_KEPT_SHARE = 0.25
"""What part of the rows' memory the states may take that are kept for branches, where a model keeps states."""
_LOGITS_BYTES = 64 << 20
"""Float32 logits of a pass at most, where a whole trace is read; less where less is granted."""
_RESIDUALS_BYTES = 64 << 20
"""Bytes of prompts' residual streams that are kept, so that a prompt asked again is not read again."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a policy has done so far.

    `tokens_delivered` counts generated tokens of the rollouts yielded (count times new tokens, forced ones left
    out); `rows_forwarded` the rows, each one token, that the model read for them in `forward_passes` passes;
    `tokens_prefilled` the tokens it read besides. `seconds` is time spent inside the policy.
    `largest_batch` is the rows that the largest batch had, `row_limit` those that one may have: fewer once
    memory ran out.
    """

    tokens_delivered: int
    rows_forwarded: int
    forward_passes: int
    tokens_prefilled: int
    seconds: float
    largest_batch: int = 0
    row_limit: int = 0


class TransformersPolicy:
    """A loaded model with its prompt format (see pts.policies.protocol.Policy).

    `batch_rows` bounds the rows of a batch; by default the device's bound, or fewer where memory is short.
    `memory_bytes` is what caches and prefilled sequences may take together; by default a share of what is free.
    Where memory runs out all the same, a batch goes on with half its rows.
    `layers_path` names the decoder blocks where they cannot be found.
    Raises ModelError where the model's cache is not keys and values that rows can share.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
        *,
        batch_rows: int | None = None,
        memory_bytes: int | None = None,
        layers_path: str | None = None,
    ) -> None:
        if batch_rows is not None and batch_rows < 1:
            raise ConfigError(f"batch-rows is {batch_rows}; it must be at least 1.")
        if memory_bytes is not None and memory_bytes < 1:
            raise ConfigError(f"the memory of a policy is {memory_bytes} bytes; it must be at least 1.")
        self.loaded = loaded
        self.prompt_format = prompt_format
        self._ends = CompletionEnds(loaded.end_token_ids, loaded.tokenizer)
        self._steering: PassSteering | None = None
        self._layers_path = layers_path
        self._blocks: Sequence[torch.nn.Module] | None = None
        self._residuals: OrderedDict[tuple[TokenIds, tuple[int, ...]], torch.Tensor] = OrderedDict()
        self._plan = attention_plan(loaded.model)
        granted = memory_bytes or int(_FREE_SHARE * available_bytes(loaded.device))
        for_rows = int(_ROWS_SHARE * granted)
        kept = int(_KEPT_SHARE * for_rows) if keeps_states(loaded.model) else 0
        rows = batch_rows or _ROWS.get(loaded.device.type, 256)
        self._allowance = RowAllowance(rows, for_rows - kept, granted_to_kept=kept)
        logits_bytes = max(1 << 20, min(_LOGITS_BYTES, granted // 16))
        self._prefixes = PrefixStore(loaded.model, granted - for_rows, logits_bytes=logits_bytes)
        self._length_limit = length_limit(loaded.model.config.get_text_config(decoder=True))
        self._check = RaggedCheck(loaded.model, self._plan, self._prefixes)
        self._check.at_start()
        self._steps = StepWork()
        self._tokens_delivered = 0
        self._seconds = 0.0

    @property
    def identity(self) -> PolicyIdentity:
        """The loaded model, and what it computes with."""
        loaded, config = self.loaded, self.loaded.model.config.get_text_config(decoder=True)
        attention = getattr(loaded.model.config, "_attn_implementation", None)
        return PolicyIdentity(
            model_id=loaded.model_id,
            revision=loaded.revision,
            dtype=str(loaded.dtype).removeprefix("torch."),
            device=str(loaded.device),
            attention=attention if isinstance(attention, str) else None,
            layers=int(config.num_hidden_layers),
            hidden_size=int(config.hidden_size),
        )

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a completion, the tokenizer's own first; the one that did belongs to it."""
        own = getattr(self.loaded.tokenizer, "eos_token_id", None)
        return tuple(sorted(self.loaded.end_token_ids, key=lambda token: (token != own, token)))

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the model has embeddings of."""
        return int(self.loaded.model.get_input_embeddings().num_embeddings)

    @property
    def unknown_token_id(self) -> int | None:
        """The tokenizer's token for what it cannot write."""
        token: int | None = self.loaded.tokenizer.unk_token_id
        return token

    @property
    def work(self) -> Work:
        """What the policy has done so far."""
        return Work(
            self._tokens_delivered,
            self._steps.rows_forwarded,
            self._steps.forward_passes,
            self._prefixes.tokens_forwarded,
            self._seconds,
            self._allowance.largest,
            self._allowance.limit,
        )

    def encode(self, problem: Problem) -> TokenIds:
        """The prompt for a problem in the policy's format. Raises ModelError where the format does not fit."""
        return self.encode_prompt(problem.query)

    @contextmanager
    def steered(self, steering: PassSteering) -> Iterator[Self]:
        """The policy itself, whose requests may name the variants of `steering` while the context lasts.

        Raises ValueError where it is steered already.
        """
        if self._steering is not None:
            raise ValueError("the policy is steered already: leave that context first.")
        self._steering = self._prefixes.steering = steering
        try:
            yield self
        finally:
            self._steering = self._prefixes.steering = None
            self._prefixes.forget_steered()

    def encode_prompt(self, prompt: Prompt, fmt: PromptFormat | None = None) -> TokenIds:
        """A question's or a conversation's ids in the policy's prompt format, or another.

        Raises ModelError where the format does not fit.
        """
        fmt = self.prompt_format if fmt is None else fmt
        if isinstance(prompt, str):
            return encode_prompt(self.loaded.tokenizer, prompt, fmt)
        return encode_messages(self.loaded.tokenizer, prompt, fmt)

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Raise ConfigError where a prompt of so many tokens and the budget exceed what the model can read.

        Raises ModelError where rows of that length are not decoded together as they are alone.
        """
        limit, tokens = self._length_limit, prompt + sampling.budget
        if limit is not None and tokens > limit.tokens:
            also = f" or lower {setting('budget')}" if prompt < limit.tokens else ""
            raise ConfigError(
                f"a prompt of {prompt} tokens and a budget of {sampling.budget} exceed {limit.reason}: "
                f"shorten the prompt{also}."
            )
        self._check.up_to(tokens)

    def encode_completion(self, text: str) -> TokenIds:
        """Ids of a completion given as text, with no special tokens added, an end token neither."""
        return tuple(self.loaded.tokenizer.encode(text, add_special_tokens=False))

    def end_of_stop(self, completion: TokenIds, stop: Sequence[str]) -> int | None:
        """How many tokens there are up to the first that completes a stop text; None where none does."""
        stops = self._ends.stops(stop)
        return None if stops is None else stops.end_in(completion)

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:
        """Text of a completion, up to where the first of the texts `stop` begins; its end token is left out.

        An end token alone has its own text.
        """
        if len(ids) > 1 and ids[-1] in self.loaded.end_token_ids:
            ids = ids[:-1]
        text: str = self.loaded.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return before_stop(text, stop)

    def next_token_probs(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling
    ) -> Sequence[TokenDistribution]:
        """The truncated distribution at every position of a completion, from one pass over the whole of it.

        The logits are read in chunks, so memory does not grow with vocabulary times length; where top-k does
        not bound the distributions, they are read as they are asked for and few are kept. A pass over many
        tokens rounds differently from steps of one: a token that a rollout drew at the very edge of the
        truncation can have probability 0 here (the probabilities in a Trace are those it was drawn with).
        """
        read = partial(self._read_distributions, prompt, completion, sampling)
        along = DistributionsAlong(len(completion), read)
        bounded = sampling.top_k or sampling.temperature == 0
        return list(along) if bounded else along

    def _read_distributions(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling, start: int, end: int
    ) -> Iterator[TokenDistribution]:
        """The distributions at positions `start` to `end` of a completion."""
        started = time.perf_counter()
        whole = end == len(completion)
        ids = prompt + completion[: end - 1]
        # A whole completion is read anew: a search that goes on then sees the same numbers to the last bit.
        anew = whole and start == 0
        first = len(prompt) - 1 + start
        for logits in self._prefixes.logits(ids, first, keep=whole, anew=anew) if end > start else ():
            if truncates_nothing(sampling):
                rows: Iterator[TokenDistribution] = whole_vocabulary(logits, sampling)
            else:
                truncated = truncate(logits, sampling)
                rows = (truncated.row(index) for index in range(len(logits)))
            for row in rows:
                # The time that the consumer takes is its own.
                self._seconds += time.perf_counter() - started
                yield row
                started = time.perf_counter()

    def residuals(self, prompts: Sequence[TokenIds], layers: Sequence[int]) -> torch.Tensor:
        """The residual stream at prompts' ends, at layers (from 0): [prompts, layers, hidden], float32, CPU.

        A prompt's end is the last token that its prefill reads, the last but one (rollouts read the last by
        their first step). It is recorded in that very prefill, which the prompt's rollouts then start from: no
        prompt is read twice. Raises ConfigError for a layer that the model does not have.
        """
        if self._blocks is None:
            self._blocks = tuple(decoder_layers(self.loaded.model, self._layers_path))
        outside = [layer for layer in layers if not 0 <= layer < len(self._blocks)]
        if outside:
            raise ConfigError(
                f"layer {outside[0]} is out of range: the model has decoder layers 0 to "
                f"{len(self._blocks) - 1}."
            )
        started = time.perf_counter()
        at = tuple(layers)
        places: dict[TokenIds, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append(place)
        hidden = self.loaded.model.config.get_text_config(decoder=True).hidden_size
        states = torch.empty(len(prompts), len(layers), hidden)
        ends: dict[TokenIds, list[TokenIds]] = {}
        for prompt, own in places.items():
            if (known := self._residuals.get((prompt, at))) is not None:
                states[own] = known
            else:
                ends.setdefault(prompt[: max(1, len(prompt) - 1)], []).append(prompt)
        for end, found in self._prefixes.residuals(list(ends), [self._blocks[layer] for layer in layers]):
            for prompt in ends[end]:
                states[places[prompt]] = found
                self._remember((prompt, at), found)
        self._seconds += time.perf_counter() - started
        return states

    def _remember(self, key: tuple[TokenIds, tuple[int, ...]], states: torch.Tensor) -> None:
        """Keep a prompt's residual stream; the oldest beyond the memory allowed go."""
        self._residuals[key] = states.clone()
        most = max(1, _RESIDUALS_BYTES // (states.nbytes + 40 * len(key[0])))
        while len(self._residuals) > most:
            self._residuals.popitem(last=False)

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        """The requests' rollouts, as they are done; equal ones of a request come as one with a count.

        Raises ValueError for a request that contradicts itself (see `RolloutRequest`), and ConfigError for a
        prompt too long for the model and the budget.
        """
        for finished in self.finished(requests):
            yield finished.rollout

    def sample_traces(self, prompt: TokenIds, n: int, seed: int, sampling: Sampling) -> list[Trace]:
        """`n` completions of the prompt, in random order, each token with the probability it was drawn with."""
        request = RolloutRequest(prompt, n=n, seed=seed, sampling=sampling)
        traces = [
            Trace(prompt, finished.rollout.completion, finished.new_probs, finished.rollout.finish)
            for finished in self.finished([request])
            for _ in range(finished.rollout.count)
        ]
        # They finish in order of length: whoever takes the first few must not get the short ones. What finishes
        # at the same step does so in an order that depends on the batch.
        traces.sort(key=lambda trace: trace.completion)
        order = np.random.default_rng(seed % 2**64).permutation(n)
        return [traces[index] for index in order]

    def expand(self, requests: RolloutRequests, least: int) -> Iterator[Rollout]:
        """The completions of each request that are likely enough, all of them, with no draw made.

        A completion's count is `request.n` times its probability, rounded down at each token; a branch whose
        share falls below `least` is not followed. What is missing from `request.n` is the mass not explored: it
        bounds how far the success of the rest can be from the value. Take n large (10¹²), so that rounding is
        nothing beside it.
        """
        for finished in self.finished(requests, lambda rows, _, counts: apportion(rows, counts, least)):
            yield finished.rollout

    def finished(
        self, requests: RolloutRequests, split: Split = draw, *, own_probs: bool = False
    ) -> Iterator[Finished]:
        """The requests' rollouts as they are done, each with its tokens' probabilities and its guide.

        The probabilities are the sampler's or, with `own_probs`, the model's own before temperature and
        truncation.
        Counts what is delivered and the time it takes (the consumer's own left out). Raises as `rollouts` does.
        """
        engine = Engine(
            self.loaded.model,
            self._plan,
            self._prefixes,
            self._ends,
            self._allowance,
            self._steps,
            split,
            self._steering,
            own_probs,
        )
        results = engine.run(_FittingRequests(as_source(requests), self._require_fits))
        while True:
            # Requests are taken in here too, and making one may ask the policy for more: that counts once.
            started, before = time.perf_counter(), self._seconds
            finished = next(results, None)
            self._seconds = before + time.perf_counter() - started
            if finished is None:
                return
            self._tokens_delivered += finished.rollout.count * _generated(finished.rollout)
            yield finished

    def _require_fits(self, request: RolloutRequest) -> None:
        """Raise ValueError or ConfigError for a request that the policy cannot complete."""
        if request.variant and self._steering is None:
            raise ValueError(f"a request names variant {request.variant} of a policy that has none.")
        self.check_length(len(request.prompt), request.sampling)


@dataclass(frozen=True, slots=True)
class _FittingRequests:
    """The requests of a source, each checked as it is taken."""

    source: RolloutSource
    check: Callable[[RolloutRequest], None]

    def take(self, n: int) -> Sequence[RolloutRequest]:
        """At most the next `n` requests."""
        taken = self.source.take(n)
        for request in taken:
            self.check(request)
        return taken


def _generated(rollout: Rollout) -> int:
    """New tokens of one completion that the policy drew."""
    forced = rollout.request.force is not None and len(rollout.completion) > len(rollout.request.prefix)
    return len(rollout.completion) - len(rollout.request.prefix) - forced
