"""A user's own completions, to be searched instead of fresh traces."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pts.data_files import LINES, good_rows, id_text, read_text, text_fault
from pts.errors import DataError
from pts.records import Sampling, TokenIds
from pts.runs.manifest import text_digest
from pts.setting_names import setting

if TYPE_CHECKING:
    from pts.policies import Policy

logger = logging.getLogger(__name__)


def read_traces(path: Path | None) -> tuple[dict[str, list[TokenIds | str]] | None, str | None]:
    """Completions by problem id, of rows with `id` and `completion` or `completion_ids`, and a digest.

    The file is JSON Lines, or CSV or Parquet where its suffix says so; an id that repeats has several
    completions. (None, None) where no file is given. Raises DataError, naming the row, for what cannot be read.
    """
    if path is None:
        return None, None
    traces: dict[str, list[TokenIds | str]] = {}
    for row in good_rows(path, LINES):
        problem_id, completion = _read_row(f"{path} {row.place}", row.fields)
        traces.setdefault(problem_id, []).append(completion)
    if not traces:
        raise DataError(f"{path} holds no completions; give a line of JSON for each.")
    if path.suffix.lower() == ".parquet":
        return traces, hashlib.sha256(path.read_bytes()).hexdigest()
    # Line ends as Python reads text, which is what the digests of earlier runs are of.
    return traces, text_digest([read_text(path).replace("\r\n", "\n").replace("\r", "\n")])


def encode_traces(
    traces: Mapping[str, Sequence[TokenIds | str]], policy: Policy, sampling: Sampling
) -> dict[str, list[TokenIds]]:
    """The completions as token ids, each up to its stop text; text without one is closed by an end token.

    Raises DataError for a completion without tokens, longer than the budget, or with an id that is not
    in the model's vocabulary.
    """
    encoded: dict[str, list[TokenIds]] = {}
    shortened = 0
    vocabulary = policy.vocabulary_size
    for problem_id, completions in traces.items():
        for given in completions:
            whole = policy.encode_completion(given) if isinstance(given, str) else given
            stopped = policy.end_of_stop(whole, sampling.stop)
            ids = whole[:stopped]
            if isinstance(given, str) and stopped is None:
                ids = (*ids, *policy.end_token_ids[:1])
            shortened += len(ids) < len(whole)
            if not ids or len(ids) > sampling.budget:
                raise DataError(
                    f"the completion given for problem {problem_id} has {len(ids)} tokens; "
                    f"it must have 1 to {sampling.budget} ({setting('budget')})."
                )
            unknown = [token for token in ids if not 0 <= token < vocabulary]
            if unknown:
                raise DataError(
                    f"the completion given for problem {problem_id} has the token id {unknown[0]}; the model's "
                    f"are 0 to {vocabulary - 1}."
                )
            encoded.setdefault(problem_id, []).append(ids)
    if shortened:
        logger.warning(
            "%d of the given completions continue after a stop text: they are searched up to it.",
            shortened,
        )
    return encoded


def _read_row(where: str, fields: Mapping[str, Any]) -> tuple[str, TokenIds | str]:
    if "id" not in fields:
        raise DataError(f"{where} has no id; each line needs id and completion or completion_ids.")
    problem_id = id_text(fields["id"], f"{where}: the field id")
    text, ids = fields.get("completion"), fields.get("completion_ids")
    if isinstance(text, str) and ids is None:
        fault = text_fault(text)
        if fault is not None:
            raise DataError(f"{where}: the field completion {fault}; fix or remove it.")
        return problem_id, text
    if isinstance(ids, list) and text is None and all(type(token) is int for token in ids):
        return problem_id, tuple(ids)
    raise DataError(f"{where} needs either completion (a text) or completion_ids (a list of token ids).")
