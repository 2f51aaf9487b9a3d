"""The policy that a stage generates with, on the engine that its inputs name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.records import Sampling

if TYPE_CHECKING:
    from pts.models.load import LoadedModel
    from pts.policies import Policy, SteerablePolicy
    from pts.verification import Subject

_FEWER_DRAWS = 400
"""First tokens drawn at a prefix where an engine draws each by itself."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A policy with its tokenizer and prompt format.

    `loaded` is the model, and `steerable` the policy itself, where the engine is transformers.
    """

    policy: Policy
    prompt_format: PromptFormat
    tokenizer: Any
    loaded: LoadedModel | None = None
    steerable: SteerablePolicy | None = None

    def subject(self, sampling: Sampling) -> Subject:
        """What is verified of it."""
        from pts.verification import subject_of

        subject = subject_of(
            self.policy,
            sampling,
            steerable=self.steerable,
            loaded=self.loaded,
            tokenizer=self.tokenizer,
            prompt_format=self.prompt_format,
        )
        return subject if self.steerable is not None else replace(subject, draws=_FEWER_DRAWS)


def open_engine(
    options: ModelOptions,
    engine: str,
    settle: Callable[[Any], PromptFormat],
    batch_rows: int | None = None,
    own: Mapping[str, Any] | None = None,
) -> Opened:
    """Open the model on an engine; `settle` makes the prompt format from its tokenizer. Raises PtsError.

    `own` are options that only some engines have: the address of a server that runs already, as `endpoint`, and
    how long it may take, as `timeout`; the GPUs that hold one model, as `tensor_parallel`.
    """
    from pts.policies import open_policy, policy_of
    from pts.policies.open import TRANSFORMERS

    if engine != TRANSFORMERS:
        from pts.models.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(options)
        prompt_format = settle(tokenizer)
        policy = open_policy(
            options, engine=engine, prompt_format=prompt_format, batch_rows=batch_rows, **(own or {})
        )
        return Opened(policy, prompt_format, tokenizer)
    from pts.models.hardware import settle_threads
    from pts.models.load import load_model

    loaded = load_model(options)
    settle_threads(loaded.device, loaded.model.num_parameters())
    prompt_format = settle(loaded.tokenizer)
    steerable = policy_of(loaded, prompt_format, batch_rows=batch_rows)
    return Opened(steerable, prompt_format, loaded.tokenizer, loaded, steerable)
