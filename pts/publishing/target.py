"""Where a publication goes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.errors import ConfigError
from pts.setting_names import setting

RepoType: TypeAlias = Literal["dataset", "model"]
MAIN = "main"
_TAG = re.compile(r"(?!.*\.\.)(?!.*\.lock$)[A-Za-z0-9](?:[\w.-]*[\w-])?")
_PULL_REQUEST = re.compile(r"refs/pr/\d+")


@dataclass(frozen=True, slots=True)
class Target:
    """A repository of the Hub and how to publish there.

    `revision` is the branch (None: main), `tag` the version (None: the next free of v1, v2, ...), `license_id`
    what a card written by pts names as the licence. Raises ConfigError for what cannot be.
    """

    repo_id: str
    repo_type: RepoType = "dataset"
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    tag: str | None = None
    license_id: str | None = None

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise ConfigError(f"repo-id {self.repo_id!r} cannot be a repository's ({error}).") from error
        if "/" not in self.repo_id:
            raise ConfigError(f"repo-id {self.repo_id!r} lacks its owner; write it as owner/{self.repo_id}.")
        if self.tag is not None and not _TAG.fullmatch(self.tag):
            raise ConfigError(
                f"tag {self.tag!r} cannot be a tag; use letters, digits, dots and dashes, as in v1.2."
            )
        if self.tag is not None and not self.takes_tag:
            raise ConfigError(f"a pull request has no tag until it is merged; leave {setting('tag')} out.")
        if self.create_pr and self.revision not in (None, MAIN):
            raise ConfigError(
                f"{setting('create_pr', True)} opens a pull request against main; leave "
                f"{setting('revision')} out."
            )

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo_id.split("/")[1]

    @property
    def branch(self) -> str:
        """The branch that gets the commit."""
        return self.revision or MAIN

    @property
    def takes_tag(self) -> bool:
        """Whether the commit can have a version: one that waits for a merge cannot."""
        return not self.create_pr and not _PULL_REQUEST.fullmatch(self.branch)
