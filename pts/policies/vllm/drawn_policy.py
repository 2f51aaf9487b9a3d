"""What the policies over vLLM share: texts, exact probabilities, rollouts by its own sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pts.errors import ConfigError
from pts.models.prompt import PromptFormat, encode_messages, encode_prompt
from pts.policies.protocol import Finished, PolicyIdentity, Prompt
from pts.policies.source import RolloutRequests, as_source
from pts.policies.stop_texts import before_stop
from pts.policies.transformers.complete import CompletionEnds
from pts.policies.vllm.probs import (
    SeenDistributions,
    distributions,
    logits_needed,
    require_same_sampler,
)
from pts.policies.vllm.pump import Call, Line, Pump
from pts.policies.vllm.requests import Start, require_plain, starts, stop_finder
from pts.records import Finish, Problem, Rollout, RolloutRequest, Sampling, TokenDistribution, TokenIds
from pts.setting_names import setting

AHEAD = 1.25
"""Completions under way, over those that vLLM writes at once: one waits wherever a place becomes free."""
NOT_STEERABLE = (
    "a policy of the engine vllm steers, takes guides and gives residual streams only where it was opened for "
    "that: open it with steerable=True."
)
_WHOLE = Sampling(temperature=1.0, top_k=2, top_p=1.0)
"""The two likeliest tokens, whatever the sampler leaves."""


class DrawnByVllm(ABC):
    """A policy whose rollouts vLLM's own sampler draws (see pts.policies.protocol.Policy).

    `engine` takes requests and gives results by steps, as vLLM's engine does; `rows` is how many completions it
    writes at once, and `positions` how many tokens a prompt and its completion may have together.
    """

    def __init__(
        self,
        engine: Any,
        tokenizer: Any,
        config: Any,
        end_token_ids: frozenset[int],
        prompt_format: PromptFormat,
        *,
        rows: int,
        positions: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt_format = prompt_format
        self._config = config
        self._rows = rows
        self._positions = positions
        self._ends = CompletionEnds(end_token_ids, tokenizer)
        self._pump = Pump(engine)
        self._seen = SeenDistributions()

    @property
    @abstractmethod
    def identity(self) -> PolicyIdentity:
        """Which model generates, and how."""

    @abstractmethod
    def _parameters(self, start: Start) -> Any:
        """What the engine takes as the parameters of a completion."""

    @abstractmethod
    def _logit_parameters(self, count: int) -> Any:
        """What the engine takes to give, for each token of a prompt, the `count` largest logits before it."""

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a completion, the tokenizer's own first; the one that did belongs to it."""
        own = getattr(self.tokenizer, "eos_token_id", None)
        return tuple(sorted(self._ends.token_ids, key=lambda token: (token != own, token)))

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the model's configuration counts."""
        return int(self._config.get_text_config(decoder=True).vocab_size)

    @property
    def config(self) -> Any:
        """The model's configuration, as transformers reads it."""
        return self._config

    @property
    def unknown_token_id(self) -> int | None:
        """The tokenizer's token for what it cannot write."""
        token: int | None = self.tokenizer.unk_token_id
        return token

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
        if len(ids) > 1 and ids[-1] in self._ends.token_ids:
            ids = ids[:-1]
        text: str = self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return before_stop(text, stop)

    def end_of_stop(self, completion: TokenIds, stop: Sequence[str]) -> int | None:
        """How many tokens there are up to the first that completes a stop text; None where none does."""
        stops = self._ends.stops(stop)
        return None if stops is None else stops.end_in(completion)

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Raise ConfigError where prompt and budget exceed the engine's positions, or the sampler is not pts's.

        One position is kept free: vLLM writes a token after whatever it reads.
        """
        require_same_sampler(sampling, self.vocabulary_size)
        self._require_room(prompt, sampling)

    def _require_room(self, prompt: int, sampling: Sampling) -> None:
        room = self._positions - 1
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
        count = logits_needed(sampling, self.vocabulary_size)
        rows = self._logits(prompt + completion, count)[len(prompt) :]
        found = distributions(rows, sampling, self.vocabulary_size)
        self._seen.put(prompt, completion, sampling, found)
        return found

    def _logits(self, ids: TokenIds, count: int) -> list[Mapping[int, Any]]:
        """For each token of `ids`, the largest logits before it: from token id to logit and rank."""
        line: Line[None] = Line(self._pump)
        try:
            line.add(Call(None), ids, self._logit_parameters(count))
            done = line.next_done()
        finally:
            line.close()
        assert done is not None
        found: list[Mapping[int, Any]] = done.output.prompt_logprobs
        return found

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        """The requests' rollouts, each request's as its last is done; equal ones come as one with a count.

        vLLM's own sampler draws them.
        Raises ValueError for a request that contradicts itself, and ConfigError for one that the engine cannot
        complete. Completions that are under way are aborted where the iteration is given up.
        """
        for finished in self._completed(requests, False):
            yield finished.rollout

    def _completed(self, requests: RolloutRequests, own_probs: bool) -> Iterator[Finished]:
        """The completions of requests as they are done."""
        source = as_source(requests)
        window = max(1, int(AHEAD * self._rows))
        line: Line[Any] = Line(self._pump)
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
            self._give_up(line)
            line.close()
            self._forget(line)

    def _give_up(self, _line: Line[Any]) -> None:  # noqa: B027 (nothing is kept elsewhere)
        """Have what is kept elsewhere of a line's open calls let go of."""

    def _forget(self, _line: Line[Any]) -> None:  # noqa: B027 (nothing is kept here)
        """Let go of what is kept for a line that is closed."""

    def _begin(self, request: RolloutRequest, line: Line[Any], _own_probs: bool) -> list[Finished]:
        """Put a request's completions under way; the request itself where none is needed."""
        self.check_length(len(request.prompt), request.sampling)
        require_plain(request)
        gathered, begun = starts(request, self._ends, lambda: self._without(request))
        for start in begun:
            call: Call[Any] = Call(start, stops=stop_finder(start, self._ends))
            line.add(call, request.prompt + start.prefix, self._parameters(start))
        return [] if begun else [Finished(rollout, ()) for rollout in gathered.rollouts()]

    def _end(self, done: Call[Any]) -> list[Finished]:
        """Count a completion that is done; its request where that was the last."""
        start, gathered = done.payload, done.payload.gathered
        ended = done.stopped or (bool(done.tokens) and done.tokens[-1] in self._ends.token_ids)
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
