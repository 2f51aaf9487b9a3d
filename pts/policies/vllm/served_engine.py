"""A vLLM server in the place of an engine in this process: it takes requests, and gives results by steps."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from pts.errors import ModelError
from pts.policies.vllm.http_client import HttpClient
from pts.policies.vllm.wire import LABEL
from pts.records import TokenIds

logger = logging.getLogger(__name__)

COMPLETIONS = "/v1/completions"
_QUIET = 30.0
"""Seconds without an answer after which a warning says so."""


@dataclass(frozen=True, slots=True)
class Logit:
    """The logit of a token, up to a constant of its position, and its rank from 1."""

    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class Made:
    """New tokens of a completion."""

    token_ids: list[int]


@dataclass(frozen=True, slots=True)
class Output:
    """What the server says of a request; `prompt_logprobs` [prompt] where they were wanted.

    `result` is what `pts` in the server says of one that it labelled.
    """

    request_id: str
    outputs: tuple[Made]
    finished: bool
    prompt_logprobs: list[Mapping[int, Logit]] | None = None
    result: Mapping[str, Any] | None = None


class AsksResults(Protocol):
    """What asks the server for the results of labelled requests."""

    async def of(self, label: str) -> Mapping[str, Any]:
        """What the request of that label came to."""


class ServedEngine:
    """Sends each request to the server at once, and hands over results as they come.

    Parameters of a request are the fields of its body beside prompt and model, which is the server's `name` for
    it. With the field `stream` its tokens come as they are written. `results` are asked for labelled requests.
    """

    def __init__(self, client: HttpClient, name: str) -> None:
        self._client = client
        self._name = name
        self.results: AsksResults | None = None
        self._under_way: dict[str, Future[None]] = {}
        self._came: SimpleQueue[Output | BaseException] = SimpleQueue()

    def add_request(self, name: str, prompt: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Begin a request from token ids."""
        body = body_of(self._name, prompt["prompt_token_ids"], params)
        self._under_way[name] = self._client.start(self._complete(name, body))

    def step(self) -> list[Output]:
        """What came since the last step; waits until there is something. Raises ModelError."""
        found = [self._next()]
        while not self._came.empty():
            found.append(self._came.get())
        for one in found:
            if isinstance(one, BaseException):
                raise one
        outputs = [one for one in found if isinstance(one, Output)]
        for output in outputs:
            if output.finished:
                self._under_way.pop(output.request_id, None)
        return outputs

    def abort_request(self, names: Iterable[str]) -> None:
        """Break off requests; the server stops to work on one whose connection is closed."""
        for name in names:
            future = self._under_way.pop(name, None)
            if future is not None:
                future.cancel()

    def _next(self) -> Output | BaseException:
        waited = 0.0
        while True:
            try:
                return self._came.get(timeout=_QUIET)
            except Empty:
                waited += _QUIET
                logger.warning(
                    "the server has sent nothing for %.0f s; %d requests are under way, each may take %g s.",
                    waited,
                    len(self._under_way),
                    self._client.timeout,
                )

    async def _complete(self, name: str, body: Mapping[str, Any]) -> None:
        try:
            if body.get("stream"):
                await self._stream(name, body)
            else:
                choice = only_choice(await self._client.answer(COMPLETIONS, body))
                label = body.get("vllm_xargs", {}).get(LABEL)
                told = None if label is None or self.results is None else await self.results.of(label)
                self._came.put(Output(name, (Made(token_ids(choice)),), True, prompt_logits(choice), told))
        except Exception as error:  # `step` raises it, where it is waited for
            self._came.put(error)

    async def _stream(self, name: str, body: Mapping[str, Any]) -> None:
        finished = False
        # Read to its end, so that the connection can be used again.
        async for part in self._client.parts(COMPLETIONS, body):
            if not finished:
                choice = only_choice(part)
                finished = choice.get("finish_reason") is not None
                self._came.put(Output(name, (Made(token_ids(choice)),), finished))
        if not finished:
            raise ModelError("the server broke off a completion: give the same command again.")


def body_of(name: str, ids: TokenIds, params: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request to continue token ids."""
    return {
        "model": name,
        "prompt": list(ids),
        "add_special_tokens": False,
        "return_token_ids": True,
        # A server's own defaults may come from the model's generation_config.json.
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        # pts names every token that ends a completion.
        "ignore_eos": True,
        **params,
    }


def only_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one completion of an answer. Raises ModelError where there is not one."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ModelError(
            f"the server's answer holds no completion ({str(answer)[:80]}): pts needs a vLLM server 0.32."
        )
    choice: Mapping[str, Any] = choices[0]
    return choice


def token_ids(choice: Mapping[str, Any]) -> list[int]:
    """The new tokens of a completion. Raises ModelError where the server does not give them."""
    found = choice.get("token_ids")
    if not isinstance(found, list) or not all(isinstance(token, int) for token in found):
        raise ModelError("the server does not return token ids (return_token_ids): pts needs vLLM 0.32.")
    return found


def prompt_logits(choice: Mapping[str, Any]) -> list[Mapping[int, Logit]] | None:
    """For each token of the prompt the largest logits before it; none before the first."""
    rows = choice.get("prompt_logprobs")
    if rows is None:
        return None
    try:
        return [
            {int(token): Logit(float(entry["logprob"]), int(entry["rank"])) for token, entry in row.items()}
            for row in ({} if row is None else row for row in rows)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError("the server's prompt_logprobs cannot be read: pts needs vLLM 0.32.") from error
