"""What the Hub's client raises, as one line that says what was wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pts.errors import PtsError, one_line
from pts.publishing.target import Target
from pts.setting_names import setting

AGAIN = "A commit is made whole or not at all, and the same command again is safe"
_TOKENS = "https://huggingface.co/settings/tokens"
_NO_ROOM = ("storage", "quota", "too large", "exceeds", "limit reached")


class PublishError(PtsError):
    """A publication that the Hub did not take, or that cannot go where it was asked to."""


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """Turn what the Hub's client raises inside into PublishError; let everything else pass."""
    from huggingface_hub import errors as hub

    # HTTPError is that of whichever httpx the Hub client is built on. The client raises RuntimeError around a
    # failed upload, and ValueError for what the LFS endpoint refuses.
    raised = (hub.HTTPError, OSError, RuntimeError, ValueError)  # type: ignore[attr-defined]
    try:
        yield
    except PtsError:
        raise
    except raised as error:
        raise explain(error, target) from error


def explain(error: Exception, target: Target) -> PublishError:
    """The one line for an error of the Hub's client, its cause included."""
    from huggingface_hub import errors as hub

    for cause in _causes(error):
        if isinstance(cause, hub.LocalTokenNotFoundError):
            return PublishError(
                f"no token for the Hub: make one with write rights at {_TOKENS}, then set HF_TOKEN or run "
                f"`hf auth login`; a dry run needs none."
            )
        if isinstance(cause, hub.OfflineModeIsEnabled):
            return PublishError("HF_HUB_OFFLINE is set, so nothing can be published; unset it.")
        if isinstance(cause, hub.RevisionNotFoundError):
            return PublishError(
                f"{target.repo_id} has no revision {target.branch}; make the branch first, or leave "
                f"{setting('revision')} out."
            )
        if isinstance(cause, hub.RepositoryNotFoundError):
            return PublishError(
                f"the Hub shows the token no {target.repo_type} repository {target.repo_id}; check the name "
                "and the token's rights."
            )
        if isinstance(cause, hub.HfHubHTTPError):
            return PublishError(_refusal(cause.response.status_code, _reason(cause), target))
    if any(word in str(error).lower() for word in _NO_ROOM):
        return PublishError(_no_room(target, first_line(error)))
    if isinstance(error, ValueError):
        return PublishError(f"the Hub refuses this for {target.repo_id}: {first_line(error)}")
    return PublishError(f"lost the connection to the Hub ({first_line(error)}). {AGAIN}.")


def first_line(error: BaseException) -> str:
    """An error's message on one line, its cause's too where it wraps one."""
    inner = [one_line(cause, 300) for cause in _causes(error)]
    return "; ".join(dict.fromkeys(inner))[:300].rstrip(".")


def _refusal(status: int, reason: str, target: Target) -> str:
    room = any(word in reason.lower() for word in _NO_ROOM)
    if status == 401:
        return (
            f"the Hub does not accept the token (401: {reason}); make one with write rights at {_TOKENS}, then "
            "set HF_TOKEN or run `hf auth login`."
        )
    if status in (402, 413) or (status in (400, 403) and room):
        return _no_room(target, reason)
    if status == 403:
        return (
            f"the token may not write to {target.repo_id} (403: {reason}); use one with write rights there, a "
            f"repo-id under your own name, or {setting('create_pr', True)} for a repository of somebody else."
        )
    if status == 409:
        return f"the name {target.repo_id} is taken (409: {reason}); give another {setting('repo_id')}."
    if status == 412:
        return f"somebody else committed to {target.repo_id} meanwhile; give the same command again."
    if status == 429:
        return f"the Hub wants fewer requests (429: {reason}); wait some minutes. {AGAIN}."
    if status >= 500:
        return f"the Hub has trouble ({status}: {reason}). {AGAIN}."
    return f"the Hub refuses this for {target.repo_id} ({status}: {reason})."


def _no_room(target: Target, reason: str) -> str:
    return (
        f"the Hub has no room for these files in {target.repo_id} ({reason}); free some, or publish fewer "
        "records."
    )


def _reason(error: Exception) -> str:
    message = getattr(error, "server_message", None) or str(error)
    return " ".join(str(message).split())[:200].rstrip(".") or "no reason given"


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__
