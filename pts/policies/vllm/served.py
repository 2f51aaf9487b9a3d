"""A model that vLLM holds, under the names by which a loaded one is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch

from pts.errors import ConfigError
from pts.models.held import GIVEN
from pts.models.load import LoadedModel
from pts.models.options import ModelOptions
from pts.policies.vllm.endpoint import SERVER, EndpointPolicy
from pts.policies.vllm.policy import VllmPolicy


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """What answers by strategies and is steered need of a model (see pts.models.load.LoadedModel).

    The weights are vLLM's own: `model` has the configuration alone.
    """

    policy: VllmPolicy | EndpointPolicy

    @property
    def model(self) -> Any:
        """The model's configuration, as its attribute `config`."""
        return SimpleNamespace(config=self.policy.config)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.policy.tokenizer

    @property
    def model_id(self) -> str:
        """The model's name."""
        return self.policy.identity.model_id

    @property
    def revision(self) -> str | None:
        """The commit on the hub, or a digest of local files."""
        return self.policy.identity.revision

    @property
    def device(self) -> torch.device | str:
        """Where vLLM computes; "server" where another process does, which does not tell."""
        named = self.policy.identity.device
        return named if named == SERVER else torch.device(named)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        found = getattr(torch, str(self.policy.identity.dtype))
        assert isinstance(found, torch.dtype)
        return found

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a completion."""
        return frozenset(self.policy.end_token_ids)

    @property
    def options(self) -> ModelOptions:
        """Those that it was opened by."""
        return self.policy.options

    @property
    def attention(self) -> str | None:
        """What computes its attention: vLLM, with its model runner."""
        return self.policy.identity.attention


AnsweringModel: TypeAlias = LoadedModel | ServedModel
"""What answers by strategies: a model that transformers loaded, or one that vLLM holds."""


def serve_model(
    options: ModelOptions,
    batch_rows: int | None = None,
    *,
    eager: bool = True,
    beside: bool = False,
    server: Mapping[str, Any] | None = None,
) -> ServedModel:
    """Start vLLM on a model that answers by strategies; `eager` for one that is steered or read from.

    `beside`: something else is on the same GPU, and vLLM takes of what that leaves. `server` is one that runs
    already and answers in its place: its `endpoint`, and the `timeout` of an answer.
    Raises ConfigError or ModelError, in one line, for what vLLM cannot do.
    """
    if options.spec.startswith(GIVEN):
        raise ConfigError(
            f"the model {options.spec.removeprefix(GIVEN)} was given in Python and is in no file, from which "
            "vLLM could read it: use the engine transformers."
        )
    if server:
        served = EndpointPolicy(spec=options, batch_rows=batch_rows, steerable=True, eager=eager, **server)
        return ServedModel(served)
    policy = VllmPolicy(options, batch_rows=batch_rows, steerable=True, eager=eager, beside=beside)
    return ServedModel(policy)
