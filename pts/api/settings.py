"""Keyword arguments of the front door become a stage's inputs, checked by name and type."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pts.errors import ConfigError
from pts.models.load import LoadedModel
from pts.runs.codec import ShapeError, from_json, known_keys
from pts.steering.hooks import is_steered

T = TypeVar("T")


def stage_inputs(kind: type[T], caller: str, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> T:
    """Inputs of `kind` from the user's `settings` and what the function itself sets, `fixed`.

    Raises ConfigError, naming `caller`, for a setting that there is not, or one of another type.
    """
    known = [name for name in known_keys(kind) if name not in fixed]
    for name in settings:
        if name in fixed:
            raise ConfigError(f"{caller}: {name} follows from the other arguments; leave it out.")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{caller} has no setting {name}; it has {', '.join(known)}.{meant}")
    try:
        return from_json(kind, {**_plain(settings), **_plain(fixed)})
    except ShapeError as error:
        raise ConfigError(f"{caller}: {error}.") from error


def model_inputs(model: LoadedModel | str) -> dict[str, Any]:
    """How a stage's inputs name a model: by its spec, and as it was loaded."""
    if isinstance(model, str):
        return {"model": model}
    options = model.options if isinstance(model, LoadedModel) else None
    if not isinstance(model, LoadedModel) or options is None:
        raise ConfigError(
            f"the model is {type(model).__name__}; give what pts.load_model returns, or the name of a model."
        )
    if is_steered(model.model):
        raise ConfigError(
            "the model is being steered by pts.steer: leave that block first, and give "
            "vectors= for steered answers."
        )
    return {
        "model": options.spec,
        "revision": options.revision,
        "adapter": options.adapter,
        "trust_remote_code": options.trust_remote_code,
        "device": options.device,
        "dtype": options.dtype,
    }


def loaded_or_none(model: LoadedModel | str | None) -> LoadedModel | None:
    """The model that is in memory; None where only its name is given."""
    return model if isinstance(model, LoadedModel) else None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
