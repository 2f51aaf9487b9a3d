"""The bundled decoder: a model, a vector set and a strategy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, TypeAlias

from pts.decoding.answers import Answer
from pts.decoding.auto import Auto
from pts.decoding.context_match import Contexts
from pts.decoding.own_choice import OwnChoice
from pts.decoding.registry import make_strategy
from pts.decoding.routers.files import find_router
from pts.decoding.routers.probe import ProbeRouter
from pts.decoding.routers.protocol import Router
from pts.decoding.session import Listener, Question, Session
from pts.decoding.strategies import Plain, Strategy
from pts.decoding.strategy_options import StrategyOptions
from pts.decoding.think_format import ThinkFormat, find_think_format
from pts.errors import ConfigError
from pts.models.prompt import PromptFormat
from pts.policies.protocol import Prompt
from pts.policies.stop_texts import before_stop
from pts.policies.vllm.served import AnsweringModel
from pts.records import Sampling, TokenIds
from pts.seeds import derive_seed
from pts.steering.hooks import Variant, interventions
from pts.steering.steered_policy import steered_policy
from pts.steering.vector_algebra import require_fits
from pts.steering.vector_set import VectorSet

Strengths = Mapping[str, float]
"""Patterns and how strongly each is on, in multiples of its calibrated strength; empty for none."""
Where: TypeAlias = Literal["gate", "always", "context"]
"""Where a completion is steered: where the set's gates are open, everywhere, or where a context is matched."""


class SteeredDecoder:
    """Answers prompts by a strategy, steered by a vector set where one is given.

    `patterns` is what is on where a call does not say otherwise (by default the set's first pattern at 1.0).
    `options` are what strategies may use; a router that is stored with the set is one of them by default.
    `where` the set's gates are open it steers, or `always`, or after each of `contexts` (gates open).
    `batch_rows` bounds the rows of a batch, `memory_bytes` what its caches take. No hook is on the model
    between calls. Raises VectorError where the
    vectors are another model's (`same_shape` accepts a fine-tune), ConfigError for an unknown strategy or
    pattern, or one that does not fit the model.

        decoder = SteeredDecoder(load_model(ModelOptions(spec="demo")), load_vectors("demo"), "budget:32")
        for answer in decoder.generate(["What is 27 + 8 - 9 ?"]):
            print(answer.answer, answer.usage.total)
    """

    def __init__(
        self,
        model: AnsweringModel,
        vectors: VectorSet | None = None,
        strategy: str | Strategy = "full",
        *,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
        patterns: Strengths | None = None,
        where: Where = "gate",
        contexts: Contexts | None = None,
        think: ThinkFormat | None = None,
        options: StrategyOptions = StrategyOptions(),  # noqa: B008 (frozen)
        batch_rows: int | None = None,
        memory_bytes: int | None = None,
        layers_path: str | None = None,
        same_shape: bool = False,
    ) -> None:
        if vectors is not None:
            require_fits(vectors, model, same_shape=same_shape)
        elif patterns:
            raise ConfigError(f"patterns ({', '.join(patterns)}) need a vector set: give one.")
        if options.router is None and vectors is not None and vectors.directory is not None:
            fitted = find_router(vectors.directory)
            options = (
                options
                if fitted is None
                else replace(options, router=ProbeRouter(fitted, same_shape=same_shape))
            )
        if (where == "context") != (contexts is not None):
            raise ConfigError("contexts and where='context' go together: give both or neither.")
        self.model = model
        self.vectors = vectors
        self.options = options
        self.strategy = make_strategy(strategy, options) if isinstance(strategy, str) else strategy
        self.think = find_think_format(model.tokenizer, prompt_format) if think is None else think
        self._sampling = sampling
        self._prompt_format = prompt_format
        self._batch_rows, self._memory_bytes = batch_rows, memory_bytes
        self._layers_path = layers_path or _recorded_layers(vectors, options.router)
        self._gated, self._contexts = where == "gate", contexts
        self._steering: Variant = ()
        if vectors is not None:
            self._steering = interventions(vectors, patterns, gated=self._gated)
        with self.session([]) as session:
            self.strategy.check(session)

    @contextmanager
    def session(self, variants: Sequence[Variant], listen: Listener | None = None) -> Iterator[Session]:
        """A session whose questions may name `variants`, from 1; the hooks are gone when it ends."""
        with steered_policy(
            self.model,
            self._prompt_format,
            variants,
            batch_rows=self._batch_rows,
            memory_bytes=self._memory_bytes,
            layers_path=self._layers_path,
        ) as policy:
            yield Session(policy, self._sampling, self.think, listen, self._contexts)

    @property
    def prompt_format(self) -> PromptFormat:
        """How a question becomes a prompt."""
        return self._prompt_format

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end a completion."""
        return self._sampling.stop

    @property
    def streams(self) -> bool:
        """Whether an answer is written once, from first token to last, so that it can be read along."""
        return isinstance(self.strategy, Plain | Auto | OwnChoice)

    def text(self, ids: TokenIds) -> str:
        """Text of token ids up to a stop text, think tags included, the end token left out."""
        written = [token for token in ids if token not in self.model.end_token_ids]
        text: str = self.model.tokenizer.decode(written, clean_up_tokenization_spaces=False)
        return before_stop(text, self._sampling.stop)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int = 0,
        patterns: Sequence[Strengths | None] | None = None,
        listen: Listener | None = None,
    ) -> list[Answer]:
        """The answers to prompts, in their order.

        `patterns` says for each prompt what is on ({} for nothing, None for the decoder's own); all of them
        share one batch. `listen` hears of each token as it is written. Each prompt's draws depend on `seed` and
        its place alone. Raises ConfigError for an empty prompt or one that is too long.
        """
        found = dict(self.stream(prompts, seed=seed, patterns=patterns, listen=listen))
        return [found[index] for index in range(len(prompts))]

    def stream(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int = 0,
        patterns: Sequence[Strengths | None] | None = None,
        listen: Listener | None = None,
        places: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, Answer]]:
        """The same as they are done, each with its prompt's index. `places` are those that draws depend on."""
        at = range(len(prompts)) if places is None else places
        chosen = [None] * len(prompts) if patterns is None else list(patterns)
        if len(chosen) != len(prompts):
            raise ConfigError(f"patterns are given for {len(chosen)} prompts; there are {len(prompts)}.")
        variants, steered = self._variants(chosen)
        questions = [
            Question(str(index), prompt, seed=derive_seed(seed, "decode", at[index]), variant=place)
            for index, (prompt, place) in enumerate(zip(prompts, steered, strict=True))
        ]
        with self.session(variants, listen) as session:
            session.begin()
            yield from self.strategy.answers(session, questions)

    def _variants(self, chosen: Sequence[Strengths | None]) -> tuple[list[Variant], list[int]]:
        """The distinct steerings that are wanted, and each prompt's: its place among them from 1, or 0."""
        variants: list[Variant] = []
        by_key: dict[object, int] = {}
        places = []
        for strengths in chosen:
            key = None if strengths is None else tuple(strengths.items())
            if key not in by_key:
                variant = self._steering if strengths is None else self._named(strengths)
                variants += [variant] if variant else []
                by_key[key] = len(variants) if variant else 0
            places.append(by_key[key])
        return variants, places

    def _named(self, strengths: Strengths) -> Variant:
        if not strengths:
            return ()
        if self.vectors is None:
            raise ConfigError(f"patterns ({', '.join(strengths)}) need a vector set: give one.")
        return interventions(self.vectors, strengths, gated=self._gated)


def _recorded_layers(vectors: VectorSet | None, router: Router | None) -> str | None:
    """The module with the decoder blocks that the vectors, or else a fitted router, were made with."""
    if vectors is not None and vectors.model.layers_path is not None:
        return vectors.model.layers_path
    return router.fitted.model.layers_path if isinstance(router, ProbeRouter) else None
