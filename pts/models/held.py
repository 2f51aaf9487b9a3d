"""A model that is in memory already, for whatever would load it again while a context lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

from pts.errors import ModelError
from pts.models.options import ModelOptions

if TYPE_CHECKING:
    from pts.models.load import LoadedModel

GIVEN = "memory:"
"""How the spec of a model begins that was given in Python and is in no file or repository that pts knows."""
_HELD: ContextVar[LoadedModel | None] = ContextVar("held model", default=None)


@contextmanager
def holding(loaded: LoadedModel | None) -> Iterator[None]:
    """While the context lasts, `load_model` returns this model wherever its options ask for the same one."""
    token = _HELD.set(loaded)
    try:
        yield
    finally:
        _HELD.reset(token)


def held_model(options: ModelOptions) -> LoadedModel | None:
    """The held model where it is what `options` describe, else None.

    Raises ModelError for a model that was given in Python and is not held: it cannot be loaded.
    """
    loaded = _HELD.get()
    if loaded is not None and loaded.options is not None and _is_same(loaded, loaded.options, options):
        return loaded
    if options.spec.startswith(GIVEN):
        name = options.spec.removeprefix(GIVEN)
        raise ModelError(
            f"the model {name} was given in Python and is in no file: load it there with "
            f"pts.load_model(model, tokenizer, name={name!r}), and continue with "
            "pts.extract_vectors, pts.decode or pts.evaluate."
        )
    return None


def _is_same(loaded: LoadedModel, own: ModelOptions, options: ModelOptions) -> bool:
    """Whether loading by `options` would give this model, on this device, in this dtype."""
    commit = None if loaded.revision is None else loaded.revision.partition("+")[0]
    if options.revision not in (own.revision, commit):
        return False
    names = ("revision", "device", "dtype", "auto_dtype", "trust_remote_code")
    same = {name: getattr(own, name) for name in names}
    if replace(options, **same) != own:
        return False
    if own.spec.startswith(GIVEN):
        return True
    dtype = options.auto_dtype if options.dtype == "auto" else options.dtype
    if dtype not in ("auto", str(loaded.dtype).removeprefix("torch.")):
        return False
    return options.device in ("auto", own.device, loaded.device.type, str(loaded.device))
