"""The extension of a server's worker through which clients of `pts` reach it (model runner V1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from pts.errors import one_line
from pts.models.options import ModelOptions
from pts.models.tokenizer import load_tokenizer
from pts.policies.vllm.passes import Passes
from pts.policies.vllm.wire import WIRE
from pts.policies.vllm.worker import PtsWorker
from pts.serving.hooks import SharedHooks
from pts.serving.service import Service
from pts.version import __version__


def _answered(method: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A method whose failures are part of its answer: `failed` says why."""

    @wraps(method)
    def answered(self: Any, *args: Any) -> dict[str, Any]:
        try:
            return {"failed": None, **method(self, *args)}
        except Exception as error:  # told to the client in one line; the server goes on
            return {"failed": one_line(error)}

    return answered


class PtsServed(PtsWorker):
    """What a client may call, by the server's route for calls of all workers. Answers are JSON objects."""

    vllm_config: Any

    @_answered
    def pts_about(self) -> dict[str, Any]:
        """What runs here."""
        config, found = self.vllm_config, self.pts_services()
        about = {
            "version": __version__,
            "wire": WIRE,
            "runner": "V2" if self.pts_is_v2() else "V1",
            "services": len(found),
            "eager": bool(config.model_config.enforce_eager),
            "asynchronous": bool(config.scheduler_config.async_scheduling),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "workers": int(config.parallel_config.world_size),
        }
        if len(found) != 1 or self.pts_is_v2():
            return about
        service = self.pts_service()
        service.expire()
        hooks = None if service.hooks is None else service.hooks.count()
        return {**about, "hooks": hooks, "kept": len(service.kept), "under_way": len(service.completions)}

    @_answered
    def pts_put(self, client: str, name: str, content: dict[str, Any]) -> dict[str, Any]:
        """Keep a content for a client."""
        self.pts_service().put(client, name, content)
        return {}

    @_answered
    def pts_hear(self, client: str) -> dict[str, Any]:
        """Note that a client is there; the names of what is kept for it."""
        return {"names": self.pts_service().kept.hear(client)}

    @_answered
    def pts_release(self, client: str, names: list[str] | None = None) -> dict[str, Any]:
        """A client wants some contents no more, or ends."""
        self.pts_service().release(client, names)
        return {}

    @_answered
    def pts_take(self, labels: list[str]) -> dict[str, Any]:
        """What requests came to."""
        service = self.pts_service()
        return {"results": [service.take(label) for label in labels]}

    @_answered
    def pts_forget(self, labels: list[str]) -> dict[str, Any]:
        """Requests were given up."""
        self.pts_service().forget(labels)
        return {}

    def pts_services(self) -> list[Service]:
        """The services of the logits processors that were loaded."""
        return [each.pts_service for each in self.pts_batch().processors() if hasattr(each, "pts_service")]

    def pts_service(self) -> Service:
        """The service, which knows the model from the first call on."""
        (service,) = self.pts_services()
        if not service.attached:
            self.pts_attach(service)
        return service

    def pts_attach(self, service: Service) -> None:
        """Let a service know the model and its tokenizer."""
        settings = self.vllm_config.model_config
        options = ModelOptions(
            settings.tokenizer, settings.tokenizer_revision, trust_remote_code=settings.trust_remote_code
        )
        service.completions.tokenizer = load_tokenizer(options)
        if settings.enforce_eager:
            config = settings.hf_config
            layers = int(config.get_text_config(decoder=True).num_hidden_layers)
            passes = Passes(self.pts_model(), layers, self.pts_rows)
            service.hooks = SharedHooks(passes, config, self.pts_rows, service.kept, service.completions)
        service.attached = True
