"""Where a model spec leads, and what loading from there may say: no noise, and errors of one line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from pts.errors import ModelError, one_line
from pts.hub import only_from_cache
from pts.models.options import ModelOptions
from pts.registered import registered_model
from pts.setting_names import setting

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LOADING_ERRORS = (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError, HfHubHTTPError)
"""What transformers raises for files that are missing, broken, or need a package that is not installed."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a spec leads: `name` for transformers, `named` what goes with it, and the local path if any."""

    name: str
    named: Mapping[str, Any]
    path: Path | None


def find_source(options: ModelOptions) -> Source:
    """Where the spec leads. Raises ModelError for a path that is not there, a file of another kind,
    and a hub that does not answer."""
    spec = options.spec
    named: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    registered = registered_model(spec)
    path = Path(spec).expanduser() if registered is None else registered.directory()
    if options.revision is not None and path.exists():
        raise ModelError(
            f"{setting('revision', options.revision)} needs a model on the hub, and {spec} is not: "
            "leave it out."
        )
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"model file {spec} does not exist.")
        return Source(str(path.parent), {**named, "gguf_file": path.name}, path)
    if path.is_dir():
        return Source(str(path), named, path)
    if path.exists():
        raise ModelError(f"{spec} is a file: give a directory, a .gguf file, a Hub id, or demo.")
    if spec.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(spec):
        raise ModelError(f"model directory {spec} does not exist, and {spec!r} is not a Hub id.")
    if options.revision is not None:
        named["revision"] = options.revision
    if only_from_cache("model", spec, "model", options.revision, "config.json", ModelError):
        named["local_files_only"] = True
    return Source(spec, named, None)


@contextmanager
def quiet(source: Source) -> Iterator[None]:
    """Keep transformers' progress bars and advice from the user's terminal while a model or tokenizer loads."""
    libraries: tuple[Any, ...] = (transformers_logging, hub_logging)
    levels = [library.get_verbosity() for library in libraries]
    shows_bars = bool(transformers_logging.is_progress_bar_enabled())
    bars: Any = transformers_logging
    with ExitStack() as stack:
        if "gguf_file" in source.named:
            # The conversion of a GGUF file shows a bar of its own that no setting switches off.
            stack.enter_context(redirect_stderr(io.StringIO()))
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity_error()
            stack.callback(library.set_verbosity, level)
        if shows_bars:
            bars.disable_progress_bar()
            stack.callback(bars.enable_progress_bar)
        yield


@contextmanager
def one_line_errors(options: ModelOptions, source: Source) -> Iterator[None]:
    """Turn what transformers raises into a ModelError of one line that says what to do."""
    try:
        yield
    except _LOADING_ERRORS as error:
        reason = one_line(error)
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{options.spec} needs code from its repository: "
                f"{setting('trust_remote_code', True)} allows it to run."
            ) from error
        if source.path is None and isinstance(error, (OSError, HfHubHTTPError)):
            raise ModelError(
                f"{options.spec} is not a local directory, and the Hub does not provide it. "
                "Offline, use a local directory, a .gguf file, HF_HUB_OFFLINE=1 if it is "
                f"cached, or {setting('model', 'demo')}. ({reason})"
            ) from error
        raise ModelError(f"{options.spec} cannot be loaded: {reason}") from error
