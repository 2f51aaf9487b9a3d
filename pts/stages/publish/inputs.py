"""The inputs of a publication."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pts.errors import ConfigError
from pts.publishing.target import RepoType, Target
from pts.setting_names import setting

PLACEHOLDER = "OWNER/NAME"
"""Stands for the repository on a card that is shown before one is chosen."""


@dataclass(frozen=True, slots=True)
class PublishInputs:
    """All inputs of a publication: the keys of a recipe, and the options of `pts push-to-hub`.

    Nothing is sent unless `push` is true, and until then `repo_id` may be missing. `token_from_env` names the
    environment variable with the token, None for the user's own. `rollouts` publishes those of a search with
    it. Raises ConfigError for what cannot be.
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
    rollouts: bool = False

    def __post_init__(self) -> None:
        if self.push and self.repo_id is None:
            raise ConfigError(
                f"nothing can be pushed without a repository: give {setting('repo_id', PLACEHOLDER)}, or leave "
                f"{setting('push')} out."
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
