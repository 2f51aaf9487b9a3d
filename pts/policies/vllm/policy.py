"""A policy over vLLM in this process: its batches, its prefix cache, steering and guides."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch

from pts.errors import ConfigError
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.policies.guide import StepSteering
from pts.policies.protocol import Finished, PolicyIdentity
from pts.policies.source import RolloutRequests
from pts.policies.transformers.complete import finished_at_once
from pts.policies.vllm.batch import LABEL
from pts.policies.vllm.drawing import Drawing, drawings
from pts.policies.vllm.drawn_policy import NOT_STEERABLE, DrawnByVllm
from pts.policies.vllm.inside import Inside
from pts.policies.vllm.pump import Call, Line
from pts.policies.vllm.requests import Start, parameters
from pts.policies.vllm.start import start_engine
from pts.records import Rollout, RolloutRequest, Sampling, TokenIds

logger = logging.getLogger(__name__)


class VllmPolicy(DrawnByVllm):
    """A model that vLLM generates with, in this process (see pts.policies.protocol.Policy).

    It draws rollouts, forced and avoided tokens included, and gives exact distributions. Opened as `steerable`
    it is a SteerablePolicy: it takes guides, and with `eager` steers and gives residual streams, which needs
    vLLM without its compiled graphs (on a CPU it has none). What it was not opened for is refused.
    `batch_rows` is how many completions vLLM writes at once; `beside` has it take of a GPU's memory only what
    is free. `tensor_parallel` GPUs hold the model together, where it is not steerable. Raises ConfigError or
    ModelError where vLLM is not there, is of another version, or does not serve the model.
    """

    def __init__(
        self,
        spec: str | ModelOptions,
        prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
        *,
        batch_rows: int | None = None,
        steerable: bool = False,
        eager: bool = True,
        beside: bool = False,
        tensor_parallel: int | None = None,
    ) -> None:
        if batch_rows is not None and batch_rows < 1:
            raise ConfigError(f"batch-rows is {batch_rows}; it must be at least 1.")
        if tensor_parallel is not None and steerable:
            raise ConfigError("an engine that steers holds its model on one GPU: leave tensor_parallel out.")
        options = ModelOptions(spec) if isinstance(spec, str) else spec
        self.options = options
        started = start_engine(
            options,
            batch_rows,
            steerable=steerable,
            eager=eager,
            beside=beside,
            tensor_parallel=tensor_parallel,
        )
        self._started = started
        super().__init__(
            started.engine,
            started.tokenizer,
            started.config,
            started.end_token_ids,
            prompt_format,
            rows=started.rows,
            positions=started.positions,
        )
        self._inside = Inside(self._started) if steerable else None
        logger.info(
            "vLLM, model runner %s: %d completions at once, of up to %s tokens each.",
            self._started.runner,
            self._started.rows,
            f"{self._started.positions:,}",
        )

    @property
    def identity(self) -> PolicyIdentity:
        """The model, and vLLM with its runner as what computes its attention."""
        started, config = self._started, self._started.config.get_text_config(decoder=True)
        return PolicyIdentity(
            model_id=started.model_id,
            revision=started.revision,
            dtype=started.dtype,
            device=started.device,
            attention=f"vllm {started.runner}",
            layers=int(config.num_hidden_layers),
            hidden_size=int(config.hidden_size),
        )

    @property
    def inside(self) -> Inside:
        """What `pts` added to the engine. Raises ConfigError where the policy was not opened as steerable."""
        if self._inside is None:
            raise ConfigError(NOT_STEERABLE)
        return self._inside

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Raise ConfigError where prompt and budget exceed the engine's positions, or the sampler is not pts's.

        A policy that is steerable draws by pts's own sampler, so any will do there.
        """
        if self._inside is None:
            super().check_length(prompt, sampling)
        else:
            self._require_room(prompt, sampling)

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        """The requests' rollouts, as they are done.

        vLLM's own sampler draws them. A policy that is steerable does it as `finished` does, one by one: so a
        request's variants share their random numbers.
        Raises ValueError for a request that contradicts itself, and ConfigError for one that the engine cannot
        complete. Completions that are under way are aborted where the iteration is given up.
        """
        return super().rollouts(requests)

    def finished(self, requests: RolloutRequests, *, own_probs: bool = False) -> Iterator[Finished]:
        """The requests' completions as they are done, each with its tokens' probabilities and its guide.

        `pts` draws their tokens, by the streams of the engine transformers. The probabilities are the sampler's
        or, with `own_probs`, the model's own. Raises as `rollouts` does, ConfigError where the policy was not
        opened as steerable, and ModelError where vLLM's counts of steps are not those asked for.
        """
        if self._inside is None:
            raise ConfigError(NOT_STEERABLE)
        yield from self._completed(requests, own_probs)

    @contextmanager
    def steered(self, steering: StepSteering) -> Iterator[Self]:
        """The policy itself, whose requests may name the variants of `steering` while the context lasts.

        Raises ValueError where it is steered already, ConfigError where it was not opened for that.
        """
        with self.inside.steered(steering):
            yield self

    def residuals(self, prompts: Sequence[TokenIds], layers: Sequence[int]) -> torch.Tensor:
        """The residual stream at prompts' ends, at layers (from 0): [prompts, layers, hidden], float32, CPU.

        A prompt's end is its last token but one, as in the engine transformers. It is read without the prefix
        cache. Raises ConfigError for a layer that the model does not have.
        """
        from vllm import SamplingParams

        inside = self.inside
        ends = {prompt: prompt[: max(1, len(prompt) - 1)] for prompt in prompts}
        labels: dict[TokenIds, str] = {}
        line: Line[None] = Line(self._pump)
        with inside.recording(layers) as record:
            try:
                for end in dict.fromkeys(ends.values()):
                    labels[end] = label = inside.label()
                    record.positions[label] = len(end) - 1
                    wanted = SamplingParams(
                        temperature=0.0,
                        max_tokens=1,
                        detokenize=False,
                        skip_reading_prefix_cache=True,
                        extra_args={LABEL: label},
                    )
                    line.add(Call(None), end, wanted)
                while line.next_done() is not None:
                    pass
            finally:
                line.close()
        found = {end: record.found(label) for end, label in labels.items()}
        return torch.stack([found[ends[prompt]] for prompt in prompts])

    def _parameters(self, start: Start) -> Any:
        return parameters(start, self._ends)

    def _logit_parameters(self, count: int) -> Any:
        from vllm import SamplingParams

        return SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=count, detokenize=False)

    def _forget(self, line: Line[Any]) -> None:
        if self._inside is not None:
            self._inside.forget(line)

    def _begin(self, request: RolloutRequest, line: Line[Any], own_probs: bool) -> list[Finished]:
        """Put a request's completions under way; the request itself where none is needed."""
        if self._inside is None:
            return super()._begin(request, line, own_probs)
        self.check_length(len(request.prompt), request.sampling)
        self._inside.require_variant(request.variant)
        at_once = finished_at_once(request, self._ends)
        if at_once is not None:
            return at_once
        for drawing in drawings(request, self._ends, own_probs):
            self._inside.begin(drawing, line)
        return []

    def _end(self, done: Call[Any]) -> list[Finished]:
        """Count a completion that is done; its request where that was the last."""
        if isinstance(done.payload, Drawing):
            self.inside.end(done.payload.label)
            return [done.payload.finished()]
        return super()._end(done)
