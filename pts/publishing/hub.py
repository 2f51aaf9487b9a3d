"""The push: one commit, made whole or not at all, and a tag for its version.

Everything that can be refused without sending a file is looked at first: the token, the name, the branch, what
the repository holds, the tag. A push whose content is there already makes no commit; one whose tag was lost
adds it.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pts.publishing.contents import NAMES, Contents, content
from pts.publishing.hub_errors import PublishError, explained
from pts.publishing.target import MAIN, RepoType, Target
from pts.setting_names import setting

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import GitRefs, RepoFile, RepoFolder

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 120.0
"""Seconds that the Hub may be silent, at any one point, before the connection counts as lost."""
_NUMBERED = re.compile(r"v(\d+)")
_HARMLESS = {".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt"}
"""Files of a repository that somebody may have begun by hand."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a push left: the repository's address, the commit with the content, its tag or pull request.

    `committed` is False where the same content was there already, `tagged` where it had its tag.
    """

    url: str
    commit: str
    committed: bool
    tag: str | None
    tagged: bool
    pull_request: str | None


def publish(contents: Contents, target: Target, api: HfApi | None = None) -> Published:
    """Publish to the Hub, in a new repository or one that holds this kind already.

    Raises PublishError, in one line, for whatever the Hub or the connection refuses. Nothing is ever half
    published: a commit is whole or not there. `api` holds the endpoint and the token, by default the user's.
    """
    from huggingface_hub import HfApi

    api = api or HfApi()
    with explained(target), _answering_within(ANSWER_WITHIN):
        api.whoami()
        _ensure_repository(api, target)
        refs = api.list_repo_refs(target.repo_id, repo_type=target.repo_type, include_pull_requests=True)
        head = _head(refs, target)
        listed = _listed(api, target, head)
        _require_ours(listed, contents, target)
        tag, tagged = _tag(api, contents, target, refs)
        commit, request = _commit(api, contents, target, head, listed)
        if tag is not None and not tagged:
            _add_tag(api, target, tag, commit)
    return Published(
        url=f"{api.endpoint}/{'datasets/' if target.repo_type == 'dataset' else ''}{target.repo_id}",
        commit=commit,
        committed=commit != head,
        tag=tag,
        tagged=tag is not None and not tagged,
        pull_request=request,
    )


def _ensure_repository(api: HfApi, target: Target) -> None:
    """Make the repository unless it is there and fits. Raises PublishError."""
    private = _privacy(api, target.repo_id, target.repo_type)
    if private is not None:
        if target.private and not private:
            raise PublishError(
                f"{target.repo_id} exists and is public, which {setting('private', True)} "
                "cannot change; make it private in its settings, or give another "
                f"{setting('repo_id')}."
            )
        return
    other: RepoType = "model" if target.repo_type == "dataset" else "dataset"
    if _privacy(api, target.repo_id, other) is not None:
        raise PublishError(
            f"the name {target.repo_id} is taken by a {other} repository; give "
            f"{setting('repo_type', other)}, or another {setting('repo_id')}."
        )
    if target.branch != MAIN:
        raise PublishError(
            f"{target.repo_id} does not exist yet, so it has no branch {target.branch}; leave "
            f"{setting('revision')} out."
        )
    if target.create_pr:
        raise PublishError(
            f"{target.repo_id} does not exist, so there is nothing to open a pull request against."
        )
    # `None` leaves an organisation's own default for new repositories in force.
    api.create_repo(target.repo_id, repo_type=target.repo_type, private=target.private or None)


def _privacy(api: HfApi, repo_id: str, repo_type: str) -> bool | None:
    """Whether the repository is private; None where there is none that the token may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return bool(api.repo_info(repo_id, repo_type=repo_type).private)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def _head(refs: GitRefs, target: Target) -> str:
    """The commit that the branch, or the pull request `refs/pr/N`, points at. Raises PublishError."""
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    requests = {request.ref: request.target_commit for request in refs.pull_requests or []}
    if target.branch not in heads | requests:
        raise PublishError(
            f"{target.repo_id} has no branch {target.branch}; it has {', '.join(sorted(heads)) or 'none'}."
        )
    if target.tag in heads:
        raise PublishError(f"{target.tag} is a branch of {target.repo_id}; give another {setting('tag')}.")
    return (heads | requests)[target.branch]


def _listed(api: HfApi, target: Target, revision: str) -> dict[str, RepoFile | RepoFolder]:
    """The files and folders at the top of the repository, by name."""
    tree = api.list_repo_tree(target.repo_id, repo_type=target.repo_type, revision=revision)
    return {entry.path: entry for entry in tree}


def _require_ours(listed: Mapping[str, object], contents: Contents, target: Target) -> None:
    """Raise PublishError for a repository that holds something else: a push would mix the two."""
    if contents.names[0] in listed:
        return
    for kind, names in NAMES.items():
        if names[0] in listed and kind != contents.kind:
            raise PublishError(
                f"{target.repo_id} holds a {kind}, not a {contents.kind}; give another {setting('repo_id')}."
            )
    others = sorted(set(listed) - _HARMLESS)
    if others:
        raise PublishError(
            f"{target.repo_id} holds other files ({', '.join(others[:3])}); give another {setting('repo_id')}."
        )


def _changes(listed: Mapping[str, RepoFile | RepoFolder], contents: Contents) -> tuple[list[str], list[str]]:
    """The names of files to add or replace, and of those of an earlier push to delete."""
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils.sha import git_hash

    changed = []
    for name, source in contents.files.items():
        there = listed.get(name)
        if not isinstance(there, RepoFile):
            changed.append(name)
        elif there.lfs is not None:
            if there.lfs.sha256 != CommitOperationAdd(name, source).upload_info.sha256.hex():
                changed.append(name)
        elif there.blob_id != git_hash(content(source)):
            changed.append(name)
    stale = [name for name in contents.names if name in listed and name not in contents.files]
    return changed, stale


def _tag(api: HfApi, contents: Contents, target: Target, refs: GitRefs) -> tuple[str | None, bool]:
    """The version's tag and whether this very content has it already. Raises PublishError.

    A tag is never moved: asked for by name it must be free or have this content, else the next free is taken.
    """
    if not target.takes_tag:
        return None, False
    tags = {tag.name for tag in refs.tags}
    if target.tag is not None:
        if target.tag not in tags:
            return target.tag, False
        if _changes(_listed(api, target, target.tag), contents) == ([], []):
            return target.tag, True
        raise PublishError(
            f"{target.repo_id} has the tag {target.tag} with other content, and versions are not changed; "
            f"give another {setting('tag')}, or leave it out for the next free one."
        )
    last = max((int(found[1]) for tag in tags if (found := _NUMBERED.fullmatch(tag))), default=0)
    if f"v{last}" in tags and _changes(_listed(api, target, f"v{last}"), contents) == ([], []):
        return f"v{last}", True
    return f"v{last + 1}", False


def _commit(
    api: HfApi,
    contents: Contents,
    target: Target,
    head: str,
    listed: Mapping[str, RepoFile | RepoFolder],
) -> tuple[str, str | None]:
    """Commit what differs from `head`: the commit with the content, and the pull request's address if any."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    changed, stale = _changes(listed, contents)
    if not changed and not stale:
        logger.info("%s already has this content; no commit is made.", target.repo_id)
        return head, None
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(name, contents.files[name]) for name in changed),
        *(CommitOperationDelete(name) for name in stale),
    ]
    with _logged_warnings():
        done = api.create_commit(
            target.repo_id,
            operations,
            repo_type=target.repo_type,
            revision=target.revision,
            create_pr=target.create_pr,
            commit_message=contents.summary[:120],
            # Refused where somebody else has committed since it was looked at.
            parent_commit=head,
        )
    if target.create_pr:
        return done.oid, done.pr_url
    missing, _ = _changes(_listed(api, target, done.oid), contents)
    if missing:
        raise PublishError(
            f"the Hub left {', '.join(missing)} out of commit {done.oid[:8]} of {target.repo_id}; look for a "
            ".gitignore there that names them."
        )
    return done.oid, None


def _add_tag(api: HfApi, target: Target, tag: str, commit: str) -> None:
    try:
        with explained(target):
            api.create_tag(target.repo_id, tag=tag, revision=commit, repo_type=target.repo_type)
    except PublishError as error:
        raise PublishError(
            f"the files are published in commit {commit[:8]} of {target.repo_id}, but the tag {tag} could not "
            f"be added: {error} The same command again adds it."
        ) from error


@contextmanager
def _answering_within(seconds: float) -> Iterator[None]:
    """Let the Hub's client, which waits for ever, give up on a connection that has gone silent."""
    from huggingface_hub import get_session

    session = get_session()
    before = session.timeout
    session.timeout = seconds
    try:
        yield
    finally:
        session.timeout = before


@contextmanager
def _logged_warnings() -> Iterator[None]:
    """Log what the Hub's client warns of, such as a header that the Hub finds thin."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        # Records beside the vectors of a model repository are meant to be there.
        ours = warning.category is UserWarning and "commit a data file" not in str(warning.message)
        if ours:
            logger.warning("%s", " ".join(str(warning.message).split()))
