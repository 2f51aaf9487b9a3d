"""The stage `publish`: shows what a vector set or a search run is to be on the Hub; pushes it when told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError
from pts.publishing.contents import Contents, read_contents
from pts.publishing.hub import Published, publish
from pts.publishing.target import RepoType, Target

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PLACEHOLDER = "OWNER/NAME"
"""Stands for the repository on a card that is shown before one is chosen."""


@dataclass(frozen=True, slots=True)
class PublishInputs:
    """All inputs of a publication, under the keys of a recipe; those of `pts push-to-hub` mean the same.

    Nothing is sent unless `push` is true, and until then `repo_id` may be missing. `token_from_env` names the
    environment variable with the token, None for the user's own. Raises ConfigError for what cannot be.
    """

    path: Path
    push: bool = False
    repo_id: str | None = None
    repo_type: RepoType = "dataset"
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    tag: str | None = None
    license: str | None = None
    token_from_env: str | None = None

    def __post_init__(self) -> None:
        if self.push and self.repo_id is None:
            raise ConfigError(
                f"publish is to push, but has no repo_id; give --set publish.repo_id={PLACEHOLDER}, or leave "
                "push out."
            )
        self.target()

    def target(self) -> Target:
        """Where it goes; a placeholder where no repository is named. Raises ConfigError."""
        return Target(
            self.repo_id or PLACEHOLDER,
            self.repo_type,
            self.private,
            self.revision,
            self.create_pr,
            self.tag,
            self.license,
        )


def run_publish(inputs: PublishInputs) -> Contents | Published:
    """Push, and return what that left; where `push` is off, what would be pushed, read and checked.

    Raises PtsError. Without `push` there is neither token nor network.
    """
    contents = read_contents(inputs.path, inputs.target())
    if not inputs.push:
        return contents
    return publish(contents, inputs.target(), hub_api(inputs.token_from_env))


def hub_api(variable: str | None) -> HfApi:
    """The Hub's client with the token of an environment variable, or the user's own.

    Raises ConfigError where there is no token.
    """
    from huggingface_hub import HfApi, get_token

    if variable is None:
        if get_token() is None:
            raise ConfigError("there is no token for the hub; set HF_TOKEN or run `hf auth login`.")
        return HfApi()
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigError(f"the environment variable {variable} holds no token; set it, or name another.")
    return HfApi(token=token)
