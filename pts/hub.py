"""Whether the Hugging Face Hub answers, asked once and quickly: its client itself retries for half a minute."""

from __future__ import annotations

from pts.errors import PtsError, one_line

_ANSWERS_WITHIN = 10.0
"""Seconds to wait for the Hub's first answer."""


def why_unreachable() -> str | None:
    """None where the Hub answers, whatever it says, or is switched off by HF_HUB_OFFLINE; else the reason."""
    from huggingface_hub import constants, get_session
    from huggingface_hub import errors as hub

    if constants.HF_HUB_OFFLINE:
        return None
    # HTTPError is that of whichever httpx the Hub client is built on.
    unreachable = (hub.HTTPError, OSError)  # type: ignore[attr-defined]
    try:
        get_session().head(constants.ENDPOINT, timeout=_ANSWERS_WITHIN)
    except unreachable as error:
        return one_line(error, 100)
    return None


def only_from_cache(
    what: str, repo_id: str, kind: str, revision: str | None, file: str, error: type[PtsError]
) -> bool:
    """Whether to read a repository from the cache alone, because the Hub does not answer.

    `what` names it in the error, `file` is one that the cached repository must have. Raises `error`, one line,
    where the Hub does not answer and the cache does not have it.
    """
    from huggingface_hub import try_to_load_from_cache

    reason = why_unreachable()
    if reason is None:
        return False
    if isinstance(try_to_load_from_cache(repo_id, file, revision=revision, repo_type=kind), str):
        return True
    raise error(
        f"The Hub cannot be reached for the {what} {repo_id} ({reason}), and it is not in "
        "the cache; check the name and the connection, or use a local path."
    )
