"""What is checked: a policy, the prompts it is tried on, and the model behind it where that can be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pts.models.load import LoadedModel
from pts.models.prompt import PromptFormat
from pts.policies import Policy, SteerablePolicy
from pts.records import DEFAULT_SAMPLING, Problem, Rollout, RolloutRequest, Sampling, TokenIds
from pts.verification.report import CheckResult

QUESTIONS = (
    "What is 27 + 8 - 9 ?",
    "What is 12 + 5 ?",
    "What is 31 - 14 + 6 - 2 ?",
    "What is 9 + 9 + 9 - 20 ?",
    "What is 44 - 7 ?",
    "What is 6 + 15 - 4 + 3 - 8 ?",
)
"""Questions that every tokenizer of the project can write, of different lengths."""
TOKENS = 24
"""New tokens of a trial completion."""
LONGEST = 1100
"""Tokens of the longest prompt that is tried; windows beyond are not reached."""


@dataclass(frozen=True)
class Subject:
    """A policy with what its checks need.

    `prompts` are of different lengths; some lie on both sides of each window of the model's attention, and
    `unreached` are the windows that are too long to try. `sampling` is the sampler that is checked, with a
    budget of `TOKENS`. `steerable` is the policy itself where it offers guides, steering and probabilities of
    single draws, `loaded` its model where that is in this process. `draws` are the first tokens drawn at a
    prefix. `prompt_format` is how its prompts are written. `made_apart` are the results, by name, of checks
    that were made on an engine of their own.
    """

    policy: Policy
    prompts: tuple[TokenIds, ...]
    sampling: Sampling
    steerable: SteerablePolicy | None = None
    loaded: LoadedModel | None = None
    tokenizer: Any = None
    prompt_format: PromptFormat = field(default_factory=PromptFormat)
    unreached: tuple[int, ...] = ()
    draws: int = 2000
    seed: int = 20_261
    made_apart: Mapping[str, CheckResult] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether the model computes in float32, where rounding decides no token."""
        return self.policy.identity.dtype == "float32"

    @property
    def greedy(self) -> Sampling:
        """The same budget without chance."""
        return Sampling(temperature=0.0, budget=self.sampling.budget)

    def request(self, prompt: TokenIds, prefix: TokenIds = (), **more: Any) -> RolloutRequest:
        """A request with the subject's sampler and a key of its own."""
        key = repr((prompt, prefix, sorted((name, repr(value)) for name, value in more.items())))
        return RolloutRequest(prompt, prefix, key=key, **{"sampling": self.sampling, "seed": self.seed, **more})

    def completed(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        """The rollouts of each request, in the requests' order, each request's by completion.

        The requests run in one batch. Raises ValueError where two requests have the same key.
        """
        places = {request.key: place for place, request in enumerate(requests)}
        if len(places) != len(requests):
            raise ValueError("two requests of a check have the same key.")
        found: list[list[Rollout]] = [[] for _ in requests]
        for rollout in self.policy.rollouts(list(requests)):
            found[places[rollout.request.key]].append(rollout)
        return [sorted(rollouts, key=lambda rollout: rollout.completion) for rollouts in found]

    def one_each(self, requests: Sequence[RolloutRequest]) -> list[TokenIds]:
        """The completion of each request for one completion, in the requests' order."""
        return [rollouts[0].completion for rollouts in self.completed(requests)]


def subject_of(
    policy: Policy,
    sampling: Sampling = DEFAULT_SAMPLING,
    *,
    prompts: Sequence[TokenIds] | None = None,
    steerable: SteerablePolicy | None = None,
    loaded: LoadedModel | None = None,
    tokenizer: Any = None,
    prompt_format: PromptFormat | None = None,
    draws: int = 2000,
) -> Subject:
    """A subject that tries `policy` on prompts of its own, or on those given.

    Raises ConfigError where the prompts are longer than the model can read.
    """
    if prompts is None:
        prompts = [policy.encode(Problem(str(n), text, "")) for n, text in enumerate(QUESTIONS)]
    own = tuple(dict.fromkeys(prompts))
    short = replace(sampling, budget=min(sampling.budget, TOKENS))
    policy.check_length(max(map(len, own)), short)
    reached, unreached = _around_windows(own[0], loaded, short.budget)
    return Subject(
        policy,
        tuple(dict.fromkeys((*own, *reached))),
        short,
        steerable,
        loaded,
        tokenizer if loaded is None else loaded.tokenizer,
        PromptFormat() if prompt_format is None else prompt_format,
        unreached,
        draws,
    )


def _around_windows(
    prompt: TokenIds, loaded: LoadedModel | None, budget: int
) -> tuple[list[TokenIds], tuple[int, ...]]:
    """Prompts that end before each attention window or chunk, cross it when completed, and begin beyond it."""
    if loaded is None:
        return [], ()
    from pts.policies.transformers.lengths import length_limit, undeclared_windows
    from pts.policies.transformers.masks import attention_plan

    config = loaded.model.config.get_text_config(decoder=True)
    plan = attention_plan(loaded.model)
    declared = [size for size in (plan.window, plan.chunk) if size is not None]
    windows = sorted({*undeclared_windows(config), *declared})
    limit = length_limit(config)
    most = LONGEST if limit is None else min(LONGEST, limit.tokens - budget)
    inside = [window for window in windows if window + 3 <= most]
    lengths = {max(1, window + step) for window in inside for step in (-budget - 1, -2, 3)}
    return [_of_length(prompt, length) for length in sorted(lengths)], tuple(set(windows) - set(inside))


def _of_length(prompt: TokenIds, length: int) -> TokenIds:
    """The prompt's tokens again and again, cut from the left, so that it ends as the prompt does."""
    return (prompt * (length // len(prompt) + 1))[-length:]
