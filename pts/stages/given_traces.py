"""A user's own completions, to be searched instead of fresh traces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import DataError
from pts.records import TokenIds
from pts.runs.manifest import text_digest

if TYPE_CHECKING:
    from pts.policies.transformers.policy import TransformersPolicy


def read_traces(path: Path | None) -> tuple[dict[str, list[TokenIds | str]] | None, str | None]:
    """Completions by problem id from JSON Lines with `id` and `completion` or `completion_ids`, and a digest.

    (None, None) where no file is given. Raises DataError, naming the line, for what cannot be read.
    """
    if path is None:
        return None, None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    traces: dict[str, list[TokenIds | str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            problem_id, completion = _read_line(path, number, line)
            traces.setdefault(problem_id, []).append(completion)
    if not traces:
        raise DataError(f"{path} holds no completions; give a line of JSON for each.")
    return traces, text_digest([text])


def encode_traces(
    traces: Mapping[str, Sequence[TokenIds | str]], policy: TransformersPolicy
) -> dict[str, list[TokenIds]]:
    """The completions as token ids; one given as text is closed by the model's end token.

    Raises DataError for a completion without tokens, or longer than the policy's budget.
    """
    ends = policy.end_token_ids
    preferred = policy.loaded.tokenizer.eos_token_id
    end = preferred if preferred in ends else min(ends)
    encoded: dict[str, list[TokenIds]] = {}
    for problem_id, completions in traces.items():
        for given in completions:
            ids = (*policy.encode_completion(given), end) if isinstance(given, str) else given
            if not ids or len(ids) > policy.sampling.budget:
                raise DataError(
                    f"the completion given for problem {problem_id} has {len(ids)} tokens; "
                    f"it must have 1 to {policy.sampling.budget} (--budget)."
                )
            encoded.setdefault(problem_id, []).append(ids)
    return encoded


def _read_line(path: Path, number: int, line: str) -> tuple[str, TokenIds | str]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path} line {number} is not JSON ({error}).") from error
    if not isinstance(entry, dict) or "id" not in entry:
        raise DataError(f"{path} line {number} has no id; each line needs id and completion or completion_ids.")
    text, ids = entry.get("completion"), entry.get("completion_ids")
    if isinstance(text, str) and ids is None:
        return str(entry["id"]), text
    if isinstance(ids, list) and all(type(token) is int for token in ids):
        return str(entry["id"]), tuple(ids)
    raise DataError(f"{path} line {number} needs completion (a text) or completion_ids (a list of token ids).")
