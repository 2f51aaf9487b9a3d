"""A policy over a vLLM server that runs already, on this machine or another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import torch

from pts.errors import ConfigError
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.policies.guide import PassSteering
from pts.policies.protocol import Finished, PolicyIdentity
from pts.policies.source import RolloutRequests
from pts.policies.transformers.complete import finished_at_once
from pts.policies.vllm.drawing import Drawing, drawings
from pts.policies.vllm.drawn_policy import AHEAD, NOT_STEERABLE, DrawnByVllm
from pts.policies.vllm.http_client import TIMEOUT, HttpClient
from pts.policies.vllm.model_files import read_model_files
from pts.policies.vllm.probs import logits_needed
from pts.policies.vllm.pump import Call, Line
from pts.policies.vllm.requests import Start
from pts.policies.vllm.served_engine import ServedEngine
from pts.policies.vllm.served_inside import ServedInside
from pts.policies.vllm.server import proved_server, require_logits
from pts.records import RolloutRequest, Sampling, TokenDistribution, TokenIds

logger = logging.getLogger(__name__)

SERVER = "server"
"""The device of a policy whose engine runs elsewhere."""
_ROWS = 256


class EndpointPolicy(DrawnByVllm):
    """A model that a running `vllm serve` generates with (see pts.policies.protocol.Policy).

    Only the model's tokenizer and configuration are read here. `batch_rows` is how many completions the server
    is thought to write at once, `timeout` the seconds that an answer may take. Opened as `steerable` it is a
    SteerablePolicy, as one of vLLM in this process is; with `eager` it steers and gives residual streams. The
    server must have been started for that. Raises ConfigError or
    ModelError, in one line, where the server is not there, is of another version, or serves another model.

        policy = EndpointPolicy("http://localhost:8000", "Qwen/Qwen3-8B")
    """

    def __init__(
        self,
        endpoint: str,
        spec: str | ModelOptions,
        prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
        *,
        batch_rows: int | None = None,
        timeout: float = TIMEOUT,
        steerable: bool = False,
        eager: bool = True,
    ) -> None:
        if batch_rows is not None and batch_rows < 1:
            raise ConfigError(f"batch-rows is {batch_rows}; it must be at least 1.")
        options = ModelOptions(spec) if isinstance(spec, str) else spec
        rows = batch_rows or _ROWS
        # One connection a completion under way, and some for questions between.
        self._client = HttpClient(endpoint, timeout, int(AHEAD * rows) + 8)
        files = read_model_files(options)
        self._server = proved_server(self._client, options, files)
        self.options, self._revision = options, files.revision
        self._given: set[int] = set()
        engine = ServedEngine(self._client, self._server.name)
        self._inside: ServedInside | None = None
        if steerable:
            layers = int(files.config.get_text_config(decoder=True).num_hidden_layers)
            self._inside = ServedInside(self._client, engine, layers)
            if eager:
                self._inside.require_eager()
        super().__init__(
            engine,
            files.tokenizer,
            files.config,
            files.end_token_ids,
            prompt_format,
            rows=rows,
            positions=self._server.positions,
        )
        logger.info(
            "%s serves %s in %s, with %s positions.",
            self._client.shown,
            self._server.name,
            self._server.dtype,
            f"{self._server.positions:,}",
        )

    @property
    def identity(self) -> PolicyIdentity:
        """The model, and a server as what computes its attention: it does not tell its model runner."""
        config = self._config.get_text_config(decoder=True)
        return PolicyIdentity(
            model_id=self.options.spec,
            revision=self._revision,
            dtype=self._server.dtype if self._inside is None else self._inside.dtype,
            device=SERVER,
            attention=f"vllm {SERVER}",
            layers=int(config.num_hidden_layers),
            hidden_size=int(config.hidden_size),
        )

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Raise ConfigError where positions do not suffice, the sampler differs, or the server lacks a flag.

        A policy that is steerable draws by pts's own sampler, so any will do there.
        """
        if self._inside is not None:
            self._require_room(prompt, sampling)
            return
        super().check_length(prompt, sampling)
        self._require_logits(sampling)

    def next_token_probs(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling
    ) -> Sequence[TokenDistribution]:
        """The truncated distribution at every position of a completion, from one request for its logits.

        Raises ConfigError where the server lacks the flag that this needs.
        """
        self._require_logits(sampling)
        return super().next_token_probs(prompt, completion, sampling)

    @property
    def inside(self) -> ServedInside:
        """What `pts` added to the server. Raises ConfigError where the policy was not opened as steerable."""
        if self._inside is None:
            raise ConfigError(NOT_STEERABLE)
        return self._inside

    def finished(self, requests: RolloutRequests, *, own_probs: bool = False) -> Iterator[Finished]:
        """The requests' completions as they are done, as those of vLLM in this process.

        Raises as `rollouts` does, ConfigError where the policy was not opened as steerable, and ModelError
        where the server's counts of steps are not those asked for.
        """
        if self._inside is None:
            raise ConfigError(NOT_STEERABLE)
        yield from self._completed(requests, own_probs)

    def steered(self, _steering: PassSteering) -> AbstractContextManager[Self]:
        """Refused: a server is sent vectors and gates, by `pts.steering.vllm_steering.steer_vllm`, and no code.

        Raises ConfigError.
        """
        raise ConfigError("a server takes vectors and no steering in Python: use steer_vllm.")

    def residuals(self, prompts: Sequence[TokenIds], layers: Sequence[int]) -> torch.Tensor:
        """The residual stream at prompts' ends, at layers (from 0): [prompts, layers, hidden], float32, CPU.

        A prompt's end is its last token but one, as in the engine transformers. It is read without the prefix
        cache. Raises ConfigError for a layer that the model does not have.
        """
        ends = [prompt[: max(1, len(prompt) - 1)] for prompt in prompts]
        distinct = list(dict.fromkeys(ends))
        found = self.inside.residuals(distinct, layers, Line(self._pump))
        return torch.stack([found[distinct.index(end)] for end in ends])

    def _require_logits(self, sampling: Sampling) -> None:
        """Raise ConfigError where the server does not give the logits that a sampler's distributions need."""
        count = logits_needed(sampling, self.vocabulary_size)
        if count not in self._given:
            require_logits(self._client, self._server.name, count, self.vocabulary_size)
            self._given.add(count)

    def _parameters(self, start: Start) -> dict[str, Any]:
        sampling = start.gathered.request.sampling
        return {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "seed": start.seed,
            "max_tokens": sampling.budget - len(start.prefix),
            "stop_token_ids": sorted(self._ends.token_ids),
            # Only a completion with stop texts is looked at after every token.
            **({"stream": True} if sampling.stop else {}),
        }

    def _logit_parameters(self, count: int) -> dict[str, Any]:
        return {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": count}

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
            self.inside.end(done)
            return [done.payload.finished()]
        return super()._end(done)

    def _give_up(self, line: Line[Any]) -> None:
        if self._inside is not None:
            self._inside.forget([call.payload for call in line.calls() if isinstance(call.payload, Drawing)])
