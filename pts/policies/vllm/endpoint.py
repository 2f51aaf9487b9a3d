"""A policy over a vLLM server that runs already, on this machine or another."""

from __future__ import annotations

import logging
from typing import Any

from pts.errors import ConfigError
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.policies.protocol import PolicyIdentity
from pts.policies.vllm.drawn_policy import AHEAD, DrawnByVllm
from pts.policies.vllm.http_client import TIMEOUT, HttpClient
from pts.policies.vllm.model_files import read_model_files
from pts.policies.vllm.probs import logits_needed
from pts.policies.vllm.requests import Start
from pts.policies.vllm.served_engine import ServedEngine
from pts.policies.vllm.server import proved_server, require_logits
from pts.records import Sampling

logger = logging.getLogger(__name__)

SERVER = "server"
"""The device of a policy whose engine runs elsewhere."""
_ROWS = 256


class EndpointPolicy(DrawnByVllm):
    """A model that a running `vllm serve` generates with (see pts.policies.protocol.Policy).

    Only the model's tokenizer and configuration are read here. `batch_rows` is how many completions the server
    is thought to write at once, `timeout` the seconds that an answer may take. Raises ConfigError or
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
    ) -> None:
        if batch_rows is not None and batch_rows < 1:
            raise ConfigError(f"batch-rows is {batch_rows}; it must be at least 1.")
        options = ModelOptions(spec) if isinstance(spec, str) else spec
        rows = batch_rows or _ROWS
        # One connection a completion under way, and some for questions between.
        self._client = HttpClient(endpoint, timeout, int(AHEAD * rows) + 8)
        files = read_model_files(options)
        self._server = proved_server(self._client, options, files)
        self._options, self._revision = options, files.revision
        self._given: set[int] = set()
        super().__init__(
            ServedEngine(self._client, self._server.name),
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
            model_id=self._options.spec,
            revision=self._revision,
            dtype=self._server.dtype,
            device=SERVER,
            attention=f"vllm {SERVER}",
            layers=int(config.num_hidden_layers),
            hidden_size=int(config.hidden_size),
        )

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Raise ConfigError where positions do not suffice, the sampler differs, or the server lacks a flag."""
        super().check_length(prompt, sampling)
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
