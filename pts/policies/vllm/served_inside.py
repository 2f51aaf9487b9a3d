"""Steering, guides and residual streams in a running server, which was started with what `pts` adds to it."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from pts.errors import ConfigError, ModelError, PtsError
from pts.policies.vllm.drawing import Drawing
from pts.policies.vllm.http_client import HttpClient, Refused, Unanswered
from pts.policies.vllm.pump import Call, Line
from pts.policies.vllm.served_engine import ServedEngine
from pts.policies.vllm.wire import DRAW, LABEL, READ, WIRE, DrawSpec, ReadSpec, content_name
from pts.version import __version__

CALLS = "/collective_rpc"
FLAGS = (
    "--worker-extension-cls pts.serving.worker.PtsServed "
    "--logits-processors pts.serving.logits:PtsServedLogits "
    "--no-async-scheduling --enforce-eager"
)
"""What a server is started with, beside the environment variable, so that `pts` can act inside it."""
START = f"VLLM_SERVER_DEV_MODE=1 vllm serve ... {FLAGS}"
_HEARD_EVERY = 60.0
"""Seconds after which the server is told again that this client is there."""
_PARTS = ("think", "contexts")
"""What of a guide the server keeps under a name, since many completions share it."""


class ServedInside:
    """What `pts` added to a server, asked and found to be there.

    Contents are named by their hash, so that clients of one server share equal ones and never change another's.
    `proved` says whether a steered row was seen to move, `steps` counts steered steps. Raises ConfigError, in
    one line, for a server that was not started with what this needs.
    """

    def __init__(self, client: HttpClient, engine: ServedEngine, layers: int) -> None:
        self.proved = False
        self.steps = 0
        self.layers = layers
        self._http, self._labels = client, 0
        self._client = secrets.token_hex(8)
        self._kept: dict[str, Mapping[str, Any]] = {}
        self._variants: str | None = None
        self._heard = time.monotonic()
        self._about = self._asked()
        self.dtype = str(self._about["dtype"])
        engine.results = Results(client)
        self._end = weakref.finalize(self, _release, client, self._client)

    def hooks(self) -> int:
        """How many hooks are on the server's model, of any client."""
        return int(self._call("pts_about")["hooks"] or 0)

    def require_eager(self) -> None:
        """Raise ConfigError where the server runs compiled graphs, which cannot be steered or read."""
        if not self._about["eager"]:
            raise ConfigError(
                f"{self._http.shown} runs compiled graphs, which go by the hooks that steer and read a model: "
                "start it with vllm serve ... --enforce-eager."
            )

    def require_variant(self, variant: int) -> None:
        """Raise ValueError for a variant while nothing is steered."""
        if variant and self._variants is None:
            raise ValueError(f"a request names variant {variant} of a policy that has none.")

    @contextmanager
    def steered(self, content: Mapping[str, Any]) -> Iterator[None]:
        """Have requests name the variants that `content` describes while the context lasts."""
        if self._variants is not None:
            raise ValueError("the policy is steered already: leave that context first.")
        self.require_eager()
        name = self._keep(content)
        self._variants = name
        try:
            yield
        finally:
            self._variants = None
            del self._kept[name]
            # A server that no longer answers has said so already, or drops it by itself.
            with suppress(PtsError):
                self._call("pts_release", self._client, [name])

    def begin(self, drawing: Drawing, line: Line[Any]) -> None:
        """Put a completion under way whose tokens `pts` draws in the server."""
        self._be_heard()
        request = drawing.request
        variants = self._variants if drawing.followed is not None else None
        spec = DrawSpec(
            prompt=len(request.prompt),
            prefix=len(request.prefix),
            avoid=request.avoid,
            key=drawing.key,
            own_probs=drawing.own_probs,
            sampling=asdict(request.sampling),
            ends=tuple(sorted(drawing.ends.token_ids)),
            variants=variants,
            variant=request.variant,
            guide=None if drawing.guide is None else self._described(drawing.guide),
        )
        drawing.label = self._label()
        params: dict[str, Any] = {
            "temperature": 0.0,
            "max_tokens": request.sampling.budget - len(drawing.given),
            "stop_token_ids": list(spec.ends),
            "vllm_xargs": {LABEL: drawing.label, DRAW: spec.text()},
        }
        if variants is not None:
            # A guide may leave steps unsteered, so each guided completion is cached by itself.
            own = "" if drawing.guide is None else f" {drawing.label}"
            params["cache_salt"] = f"pts {variants} {request.variant} {len(request.prompt)}{own}"
        line.add(Call(drawing), request.prompt + drawing.given, params)

    def end(self, done: Call[Drawing]) -> None:
        """Take what the server says of a completion. Raises ModelError where something went wrong with it."""
        drawing, told = done.payload, done.output.result
        if told["failed"]:
            raise ModelError(f"{self._http.shown}: {told['failed']}")
        if drawing.followed is not None:
            drawing.followed.read = int(told["read"])
            self.steps += drawing.followed.read
        drawing.replay(done.tokens, told["drawn"])

    def forget(self, drawings: Sequence[Drawing]) -> None:
        """Tell the server that completions were given up."""
        if drawings and self._end.alive:
            labels = [drawing.label for drawing in drawings]
            self._http.start(self._http.answer(CALLS, _body("pts_forget", labels)))

    def residuals(
        self, prompts: Sequence[Sequence[int]], layers: Sequence[int], line: Line[Any]
    ) -> torch.Tensor:
        """The residual stream at the last tokens of prompts [prompts, layers, hidden], without the cache."""
        self.require_eager()
        outside = [layer for layer in layers if not 0 <= layer < self.layers]
        if outside:
            raise ConfigError(
                f"layer {outside[0]} is out of range: the model has decoder layers 0 to {self.layers - 1}."
            )
        found: dict[int, torch.Tensor] = {}
        try:
            for place, prompt in enumerate(prompts):
                label, spec = self._label(), ReadSpec(len(prompt) - 1, tuple(layers))
                extra = {LABEL: label, READ: spec.text()}
                # Under a salt of its own it finds nothing in the cache.
                params = {"temperature": 0.0, "max_tokens": 1, "vllm_xargs": extra, "cache_salt": label}
                line.add(Call(place), tuple(prompt), params)
            while (done := line.next_done()) is not None:
                told = done.output.result
                if told["failed"] or told.get("streams") is None:
                    raise ModelError(f"{self._http.shown}: {told['failed'] or 'no residual stream came'}")
                values = np.frombuffer(base64.b64decode(told["streams"]), dtype="<f4").astype(np.float32)
                found[done.payload] = torch.from_numpy(values).reshape(len(layers), -1)
        finally:
            line.close()
        return torch.stack([found[place] for place in range(len(prompts))])

    def _asked(self) -> Mapping[str, Any]:
        """What runs in the server. Raises ConfigError where it is not what steering needs."""
        shown = self._http.shown
        without = (
            f"{shown} runs without what pts adds to a server that decodes with budgets or vectors: start it, "
            f"where pts is installed, with {START}."
        )
        try:
            about = self._call("pts_about")
        except Refused as error:
            raise ConfigError(without) from error
        except Unanswered as error:
            if error.status is None:
                raise
            raise ConfigError(without) from error
        if (about.get("version"), about.get("wire")) != (__version__, WIRE):
            raise ConfigError(
                f"{shown} has pts {about.get('version')} beside vLLM, and this is {__version__}: install the "
                "same version for both."
            )
        if about["runner"] != "V1":
            raise ConfigError(
                f"{shown} runs vLLM's model runner V2, in which pts cannot act: start it with "
                "VLLM_USE_V2_MODEL_RUNNER=0."
            )
        if about["services"] != 1 or about["asynchronous"]:
            raise ConfigError(without)
        return about

    def _call(self, method: str, *args: Any) -> dict[str, Any]:
        """What the server's one worker answers. Raises ModelError where it fails."""
        found = self._http.ask(CALLS, _body(method, *args)).get("results")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise ModelError(f"{self._http.shown} answers {CALLS} otherwise than vLLM 0.32.")
        if len(found) != 1:
            raise ConfigError(
                f"{self._http.shown} runs a model in {len(found)} workers, and pts acts in one alone: start it "
                "without tensor, pipeline and data parallelism."
            )
        answer: dict[str, Any] = found[0]
        if answer.get("failed"):
            raise ModelError(f"{self._http.shown}: {answer['failed']}")
        return answer

    def _keep(self, content: Mapping[str, Any]) -> str:
        """Have the server keep a content; its name."""
        name = content_name(content)
        if name not in self._kept:
            self._call("pts_put", self._client, name, content)
            self._kept[name] = content
        return name

    def _be_heard(self) -> None:
        """Tell the server now and then that this client is there, and what it has lost give it again."""
        if time.monotonic() - self._heard < _HEARD_EVERY:
            return
        self._heard = time.monotonic()
        there = self._call("pts_hear", self._client)["names"]
        for name, content in self._kept.items():
            if name not in there:
                self._call("pts_put", self._client, name, content)

    def _described(self, guide: Any) -> dict[str, Any]:
        """A guide as the server follows it. Raises ConfigError for one of a strategy of the user's own."""
        if not hasattr(guide, "described"):
            raise ConfigError(
                f"a strategy guides completions by {type(guide).__name__}, which a server does not know: use "
                "vLLM in this process."
            )
        found: dict[str, Any] = guide.described()
        named = {part: self._keep(found[part]) for part in _PARTS if found.get(part) is not None}
        return {**found, **named}

    def _label(self) -> str:
        self._labels += 1
        return f"{self._client} {self._labels}"


class Results:
    """Asks the server what completions came to: of all that are done by then in one call."""

    def __init__(self, client: HttpClient) -> None:
        self._http = client
        self._wanted: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def of(self, label: str) -> dict[str, Any]:
        """What the request of that label came to. Raises ModelError."""
        wanted: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._wanted[label] = wanted
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await wanted

    async def _ask(self) -> None:
        while self._wanted:
            asked, self._wanted = self._wanted, {}
            try:
                answer = await self._http.answer(CALLS, _body("pts_take", list(asked)))
                (told,) = answer["results"]
                if told["failed"]:
                    raise ModelError(f"{self._http.shown}: {told['failed']}")
                results = told["results"]
            except (PtsError, KeyError, ValueError, TypeError) as error:
                failure = error if isinstance(error, PtsError) else ModelError("the server's results are none.")
                for future in asked.values():
                    if not future.done():
                        future.set_exception(failure)
                continue
            for future, result in zip(asked.values(), results, strict=True):
                if not future.done():
                    future.set_result(result)


def _body(method: str, *args: Any) -> dict[str, Any]:
    return {"method": method, "args": list(args)}


def _release(client: HttpClient, name: str) -> None:
    """Have the server drop what it keeps for a client that ends; where that fails, it does so by itself."""
    try:
        client.start(client.answer(CALLS, _body("pts_release", name))).result(timeout=2.0)
    except Exception:
        return
