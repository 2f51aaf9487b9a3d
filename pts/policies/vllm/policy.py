"""A policy over vLLM: its batches, its prefix cache, and the distributions by which it draws."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch

from pts.errors import ConfigError
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat, encode_messages, encode_prompt
from pts.policies.guide import StepSteering
from pts.policies.protocol import Finished, PolicyIdentity, Prompt
from pts.policies.source import RolloutRequests, as_source
from pts.policies.stop_texts import before_stop
from pts.policies.transformers.complete import CompletionEnds, finished_at_once
from pts.policies.vllm.drawing import Drawing, drawings
from pts.policies.vllm.inside import Inside
from pts.policies.vllm.probs import (
    SeenDistributions,
    distributions,
    logits_needed,
    require_same_sampler,
)
from pts.policies.vllm.pump import Call, Line, Pump
from pts.policies.vllm.requests import (
    Start,
    parameters,
    require_plain,
    starts,
    stop_finder,
)
from pts.policies.vllm.start import start_engine
from pts.policies.vllm.worker import LABEL
from pts.records import Finish, Problem, Rollout, RolloutRequest, Sampling, TokenDistribution, TokenIds
from pts.setting_names import setting

logger = logging.getLogger(__name__)

_AHEAD = 1.25
"""Completions under way, over those that vLLM writes at once: one waits wherever a place becomes free."""
_WHOLE = Sampling(temperature=1.0, top_k=2, top_p=1.0)
"""The two likeliest tokens, whatever the sampler leaves."""
_NOT_STEERABLE = (
    "a policy of the engine vllm steers, takes guides and gives residual streams only where it was opened for "
    "that: open it with steerable=True."
)


class VllmPolicy:
    """A model that vLLM generates with, in this process (see pts.policies.protocol.Policy).

    It draws rollouts, forced and avoided tokens included, and gives exact distributions. Opened as `steerable`
    it is a SteerablePolicy: it takes guides, and with `eager` steers and gives residual streams, which needs
    vLLM without its compiled graphs (on a CPU it has none). What it was not opened for is refused.
    `batch_rows` is how many completions vLLM writes at once; `beside` has it take of a GPU's memory only what
    is free. Raises ConfigError or ModelError where vLLM is not
    there, is of another version, or does not serve the model.
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
    ) -> None:
        if batch_rows is not None and batch_rows < 1:
            raise ConfigError(f"batch-rows is {batch_rows}; it must be at least 1.")
        options = ModelOptions(spec) if isinstance(spec, str) else spec
        self.prompt_format = prompt_format
        self.options = options
        self._started = start_engine(options, batch_rows, steerable=steerable, eager=eager, beside=beside)
        self.tokenizer = self._started.tokenizer
        self._ends = CompletionEnds(self._started.end_token_ids, self.tokenizer)
        self._pump = Pump(self._started.engine)
        self._seen = SeenDistributions()
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
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a completion, the tokenizer's own first; the one that did belongs to it."""
        own = getattr(self.tokenizer, "eos_token_id", None)
        return tuple(sorted(self._started.end_token_ids, key=lambda token: (token != own, token)))

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the model's configuration counts."""
        return int(self._started.config.get_text_config(decoder=True).vocab_size)

    @property
    def config(self) -> Any:
        """The model's configuration, as transformers reads it."""
        return self._started.config

    @property
    def unknown_token_id(self) -> int | None:
        """The tokenizer's token for what it cannot write."""
        token: int | None = self.tokenizer.unk_token_id
        return token

    @property
    def inside(self) -> Inside:
        """What `pts` added to the engine. Raises ConfigError where the policy was not opened as steerable."""
        if self._inside is None:
            raise ConfigError(_NOT_STEERABLE)
        return self._inside

    def encode(self, problem: Problem) -> TokenIds:
        """The prompt for a problem in the policy's format. Raises ModelError where the format does not fit."""
        return self.encode_prompt(problem.query)

    def encode_prompt(self, prompt: Prompt, fmt: PromptFormat | None = None) -> TokenIds:
        """A question's or a conversation's ids in the policy's prompt format, or another."""
        fmt = self.prompt_format if fmt is None else fmt
        if isinstance(prompt, str):
            return encode_prompt(self.tokenizer, prompt, fmt)
        return encode_messages(self.tokenizer, prompt, fmt)

    def encode_completion(self, text: str) -> TokenIds:
        """Ids of a completion given as text, with no special tokens added, an end token neither."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:
        """Text of a completion, up to where the first of the texts `stop` begins; its end token is left out."""
        if len(ids) > 1 and ids[-1] in self._started.end_token_ids:
            ids = ids[:-1]
        text: str = self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return before_stop(text, stop)

    def end_of_stop(self, completion: TokenIds, stop: Sequence[str]) -> int | None:
        """How many tokens there are up to the first that completes a stop text; None where none does."""
        stops = self._ends.stops(stop)
        return None if stops is None else stops.end_in(completion)

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Raise ConfigError where prompt and budget exceed the engine's positions, or the sampler is not pts's.

        A policy that is steerable draws by pts's own sampler, so any will do there.
        One position is kept free: vLLM writes a token after whatever it reads.
        """
        if self._inside is None:
            require_same_sampler(sampling, self.vocabulary_size)
        room = self._started.positions - 1
        if prompt + sampling.budget > room:
            also = f" or lower {setting('budget')}" if prompt < room else ""
            raise ConfigError(
                f"a prompt of {prompt} tokens and a budget of {sampling.budget} exceed the {room} positions "
                f"that vLLM has for them: shorten the prompt{also}."
            )

    def next_token_probs(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling
    ) -> Sequence[TokenDistribution]:
        """The truncated distribution at every position of a completion, from one request for its logits.

        vLLM reads such a request without its prefix cache, so that every logit is computed anew.
        """
        require_same_sampler(sampling, self.vocabulary_size)
        if not completion:
            return []
        from vllm import SamplingParams

        count = logits_needed(sampling, self.vocabulary_size)
        wanted = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=count, detokenize=False)
        line: Line[None] = Line(self._pump)
        try:
            line.add(Call(None), prompt + completion, wanted)
            done = line.next_done()
        finally:
            line.close()
        assert done is not None
        rows = done.output.prompt_logprobs[len(prompt) :]
        found = distributions(rows, sampling, self.vocabulary_size)
        self._seen.put(prompt, completion, sampling, found)
        return found

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        """The requests' rollouts, each request's as its last is done; equal ones come as one with a count.

        vLLM's own sampler draws them. A policy that is steerable does it as `finished` does, one by one: so a
        request's variants share their random numbers.
        Raises ValueError for a request that contradicts itself, and ConfigError for one that the engine cannot
        complete. Completions that are under way are aborted where the iteration is given up.
        """
        for finished in self._completed(requests, False):
            yield finished.rollout

    def finished(self, requests: RolloutRequests, *, own_probs: bool = False) -> Iterator[Finished]:
        """The requests' completions as they are done, each with its tokens' probabilities and its guide.

        `pts` draws their tokens, by the streams of the engine transformers. The probabilities are the sampler's
        or, with `own_probs`, the model's own. Raises as `rollouts` does, ConfigError where the policy was not
        opened as steerable, and ModelError where vLLM's counts of steps are not those asked for.
        """
        if self._inside is None:
            raise ConfigError(_NOT_STEERABLE)
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

    def _completed(self, requests: RolloutRequests, own_probs: bool) -> Iterator[Finished]:
        """The completions of requests as they are done."""
        source = as_source(requests)
        window = max(1, int(_AHEAD * self._started.rows))
        line: Line[Start | Drawing] = Line(self._pump)
        try:
            while True:
                ready: list[Finished] = []
                while len(line) < window and (taken := source.take(1)):
                    ready += self._begin(taken[0], line, own_probs)
                    if ready:
                        # What is complete at once may be what its asker waits for.
                        break
                if not ready:
                    done = line.next_done()
                    if done is None:
                        return
                    ready = self._end(done)
                yield from ready
        finally:
            line.close()
            if self._inside is not None:
                self._inside.forget(line)

    def _begin(self, request: RolloutRequest, line: Line[Start | Drawing], own_probs: bool) -> list[Finished]:
        """Put a request's completions under way; the request itself where none is needed."""
        self.check_length(len(request.prompt), request.sampling)
        if self._inside is None:
            require_plain(request)
            gathered, begun = starts(request, self._ends, lambda: self._without(request))
            for start in begun:
                call: Call[Start | Drawing] = Call(start, stops=stop_finder(start, self._ends))
                line.add(call, request.prompt + start.prefix, parameters(start, self._ends))
            return [] if begun else [Finished(rollout, ()) for rollout in gathered.rollouts()]
        self._inside.require_variant(request.variant)
        at_once = finished_at_once(request, self._ends)
        if at_once is not None:
            return at_once
        for drawing in drawings(request, self._ends, own_probs):
            self._inside.begin(drawing, line)
        return []

    def _end(self, done: Call[Start | Drawing]) -> list[Finished]:
        """Count a completion that is done; its request where that was the last."""
        if isinstance(done.payload, Drawing):
            self.inside.end(done.payload.label)
            return [done.payload.finished()]
        start, gathered = done.payload, done.payload.gathered
        ended = done.stopped or (bool(done.tokens) and done.tokens[-1] in self._started.end_token_ids)
        finish: Finish = "end" if ended else "budget"
        gathered.take((*start.prefix, *done.tokens), finish)
        return [] if gathered.missing else [Finished(rollout, ()) for rollout in gathered.rollouts()]

    def _without(self, request: RolloutRequest) -> TokenDistribution:
        """The distribution after a request's prefix, or the likeliest other token where there is no other."""
        prompt, prefix, avoid = request.prompt, request.prefix, request.avoid
        assert avoid is not None
        found = self._seen.after(prompt, prefix, request.sampling)
        if found is None:
            found = self.next_token_probs(prompt, (*prefix, avoid), request.sampling)[len(prefix)]
        if len(found.ids) == 1 and int(found.ids[0]) == avoid:
            found = self.next_token_probs(prompt, (*prefix, avoid), _WHOLE)[len(prefix)]
            others = found.ids != avoid
            found = TokenDistribution(found.ids[others][:1], found.probs[others][:1])
        return found
