"""Shows what a vector set, a search run or a trained model becomes on the Hub, and pushes it on request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pts.errors import ConfigError
from pts.publishing.contents import Contents, read_contents
from pts.publishing.hub import Published, publish
from pts.stages.publish.inputs import PublishInputs

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def run_publish(inputs: PublishInputs, *, bars: bool = False) -> Contents | Published:
    """Push, and return what that left; where `push` is off, what would be pushed, read and checked.

    `bars` lets the Hub's client show its own progress. Without `push` neither a token nor the network
    is needed. Raises PtsError.
    """
    contents = read_contents(inputs.path, inputs.target(), rollouts=inputs.rollouts)
    if not inputs.push:
        return contents
    _quiet_client(bars)
    return publish(contents, inputs.target(), hub_api(inputs.token_from_env))


def hub_api(variable: str | None) -> HfApi:
    """The Hub's client with the token of an environment variable, or the user's own.

    Raises ConfigError where there is no token.
    """
    from huggingface_hub import HfApi, get_token

    if variable is None:
        if get_token() is None:
            raise ConfigError("there is no token for the Hub; set HF_TOKEN or run `hf auth login`.")
        return HfApi()
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigError(f"the environment variable {variable} holds no token; set it, or name another.")
    return HfApi(token=token)


def _quiet_client(bars: bool) -> None:
    """Keep the Hub's client to itself, but for its progress bars where a person watches."""
    from huggingface_hub import logging
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not bars:
        disable_progress_bars()
