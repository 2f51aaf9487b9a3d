"""Requests to a vLLM server over HTTP, many at once, each of its failures told in one line."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx2

from pts.errors import ConfigError, ModelError, PtsError, one_line
from pts.setting_names import setting

T = TypeVar("T")

TIMEOUT = 600.0
"""Seconds that an answer may take where nothing else is given."""
KEY = "VLLM_API_KEY"
"""The environment variable with the server's key."""
_CONNECT = 10.0
"""Seconds in which a server must accept a connection."""
_WAITS = (0.2, 1.0)
"""Seconds before a request is sent again: a kept connection may be closed just as it is used."""
_BUSY = (429, 502, 503, 504)
"""What a server, or a proxy before it, answers that may have room later."""
_SHOWN = 160


class Unanswered(ModelError):
    """The server is not there, or broke off: the same request may be answered later.

    `status` is what it answered, None where it did not.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Refused(ModelError):
    """The server refused a request (`status` 4xx), and says why in `reason`."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def checked_address(endpoint: str) -> str:
    """An endpoint's address without a final slash or /v1. Raises ConfigError for what is no address."""
    try:
        url = httpx2.URL(endpoint)
    except (httpx2.InvalidURL, TypeError, ValueError):
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ConfigError(
            f"endpoint is {endpoint!r}; it must be a server's address, such as http://localhost:8000."
        )
    return str(url).rstrip("/").removesuffix("/v1").rstrip("/")


def require_timeout(seconds: float) -> None:
    """Raise ConfigError for a time that is not above 0."""
    if not 0 < seconds < math.inf:
        raise ConfigError(f"endpoint-timeout is {seconds:g}; it must be above 0 seconds.")


class HttpClient:
    """A pool of connections to one server, used by a loop in a thread of its own.

    `timeout` (seconds) bounds the wait for an answer, and for each part of one that comes in parts. The key is
    that of `VLLM_API_KEY`.
    """

    def __init__(self, endpoint: str, timeout: float = TIMEOUT, connections: int = 100) -> None:
        self.address = checked_address(endpoint)
        require_timeout(timeout)
        self.timeout = timeout
        self._known = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pts-endpoint", daemon=True)
        self._thread.start()
        key = os.environ.get(KEY)
        self._http = httpx2.AsyncClient(
            base_url=self.address,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout, connect=_CONNECT, pool=None),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
        self._close = weakref.finalize(self, _close, self._loop, self._thread, self._http)

    def close(self) -> None:
        """Break off what is under way."""
        self._close()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin work on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that the server answers a GET, or with `body` a POST. Raises ModelError."""
        return self.start(self.answer(path, body)).result()

    async def answer(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The same, on the loop."""
        response = await self._sent(path, body)
        try:
            found = response.json()
        except (ValueError, UnicodeDecodeError):
            found = None
        if not isinstance(found, dict):
            raise ModelError(
                f"{self.shown} answers {path} with what is no JSON object "
                f"({_start_of(response.text)}): give the address of a vLLM server as {setting('endpoint')}."
            )
        return found

    async def parts(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The JSON objects of an answer that comes in parts (server-sent events). Raises ModelError."""
        response = await self._sent(path, body, stream=True)
        try:
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if line.startswith("data:") and data != "[DONE]":
                    yield self._part(path, data)
        except httpx2.HTTPError as error:
            raise self._broken(error) from error
        finally:
            await response.aclose()

    def _part(self, path: str, data: str) -> dict[str, Any]:
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ModelError(f"{self.shown} answers {path} with what is no JSON ({_start_of(data)}).")
        if "error" in found:
            raise ModelError(f"{self.shown} failed on {path} ({_start_of(str(found['error']))}).")
        return found

    async def _sent(self, path: str, body: Mapping[str, Any] | None, stream: bool = False) -> httpx2.Response:
        """The server's answer of status 200, after as many tries as a busy or breaking one needs.

        Of a `stream` only the head is read.
        """
        waits = iter(_WAITS)
        while True:
            failure: PtsError
            try:
                request = self._http.build_request("GET" if body is None else "POST", path, json=body)
                response = await self._http.send(request, stream=stream)
                if response.status_code != httpx2.codes.OK:
                    await response.aread()
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                failure = self._broken(error)
                again = self._known and isinstance(error, httpx2.TransportError) and not _timed_out(error)
            else:
                if response.status_code == httpx2.codes.OK:
                    self._known = True
                    return response
                failure = self._refusal(path, response)
                again = self._known and response.status_code in _BUSY
            wait = next(waits, None) if again else None
            if wait is None:
                raise failure
            await asyncio.sleep(wait)

    @property
    def shown(self) -> str:
        """The address without a password that it may hold."""
        url = httpx2.URL(self.address)
        return str(url.copy_with(userinfo=b"")) if url.userinfo else self.address

    def _broken(self, error: Exception) -> ModelError:
        """What to say of a request that got no answer."""
        shown = self.shown
        if isinstance(error, httpx2.ConnectTimeout) or (
            isinstance(error, httpx2.ConnectError) and not self._known
        ):
            return Unanswered(
                f"nothing answers at {shown} ({one_line(error)}): start vllm serve there, or correct "
                f"{setting('endpoint')}."
            )
        if _timed_out(error):
            return Unanswered(
                f"{shown} gave no answer within {self.timeout:g} s: look whether it is at work, and give a "
                f"larger {setting('endpoint_timeout')} where it is only slow."
            )
        return Unanswered(
            f"{shown} no longer answers ({one_line(error)}): start it again and give the same command again; a "
            "search goes on from what was drawn."
        )

    def _refusal(self, path: str, response: httpx2.Response) -> ModelError:
        """What to say of an answer of another status than 200."""
        shown, status = self.shown, response.status_code
        reason = _reason(response)
        if status in (401, 403):
            return ModelError(f"{shown} wants a key ({status}: {reason}): set {KEY} to the server's own.")
        if status == 404 and path != "/v1/completions":
            return Refused(
                f"{shown} has no {path} (404): give the address of a vLLM server as {setting('endpoint')}.",
                status,
                reason,
            )
        if 400 <= status < 500 and status not in _BUSY:
            return Refused(f"{shown} refused a request ({status}: {reason}).", status, reason)
        if status < 400:
            return ModelError(
                f"{shown} answers {path} with status {status}: give the address to which it leads as "
                f"{setting('endpoint')}."
            )
        return Unanswered(
            f"{shown} failed on {path} ({status}: {reason}): its own log says why; mend it and give the same "
            "command again.",
            status,
        )


def _timed_out(error: Exception) -> bool:
    return isinstance(error, httpx2.TimeoutException)


def _reason(response: httpx2.Response) -> str:
    """What a server says of an error: the message in its JSON, or how its text begins."""
    try:
        found = response.json()
    except (ValueError, UnicodeDecodeError):
        return _start_of(response.text)
    if isinstance(found, dict):
        error = found.get("error", found.get("message", found))
        found = error.get("message", error) if isinstance(error, dict) else error
    return _start_of(str(found))


def _start_of(text: str) -> str:
    words = " ".join(text.split())
    return (words if len(words) <= _SHOWN else words[: _SHOWN - 3] + "...") or "nothing"


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread, http: httpx2.AsyncClient) -> None:
    """End what is under way, the connections and the loop."""

    async def end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await http.aclose()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    if thread is threading.current_thread():
        # The last answer held the last reference: the loop ends after this.
        return
    thread.join(timeout=5.0)
    if not thread.is_alive():
        loop.close()
