"""Answering a file of questions: bad lines are named and left out, and a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pts.errors import DataError, PtsError, RunError
from pts.runs.files import append_bytes, make_directories, replace_text, write_failure
from pts.runs.manifest import differences
from pts.stages.decode_inputs import DecodeRun
from pts.stages.recorded import Recorded, attention_name, dtype_name, recorded_in

if TYPE_CHECKING:
    from pts.decoding.session import Prompt
    from pts.decoding.steered_decoder import SteeredDecoder

PART_SUFFIX = ".part"
QUESTION_FIELDS = ("question", "prompt", "query", "problem", "Question", "Problem")
_NO_MATTER = ("device", "batch_rows")
"""Inputs that a run may go on without: the answers are the same."""
_CHUNK = 256
"""Questions given to the decoder at once."""


@dataclass(frozen=True, slots=True)
class Line:
    """A question of the file, with the number of its line from 1."""

    number: int
    id: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be answered, and why."""

    number: int
    reason: str


def read_questions(path: Path) -> tuple[list[Line], list[BadLine]]:
    """The questions of a JSONL file, and the lines that are none.

    A line is an object with `messages` or a question field, and maybe an `id` (else its number). Raises
    DataError for a file that cannot be read or has no line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); convert it first.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    good: list[Line] = []
    bad: list[BadLine] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            found = _parsed(number, line)
            good.append(found) if isinstance(found, Line) else bad.append(found)
    if not good and not bad:
        raise DataError(f"{path} is empty; give a JSON object with a question on each line.")
    return good, bad


def recorded_answers(target: Path) -> Recorded | None:
    """What a stopped run of answers for `target` recorded of model and prompts; None where there is none."""
    part = _part(target)
    if not part.exists():
        return None
    with part.open("rb") as lines:
        first = lines.readline()
    try:
        header = json.loads(first)
        return recorded_in(header["settings"].get("found", {}), str(part), header.get("device"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # `answer_file` says what is wrong with it.


def answer_file(
    run: DecodeRun,
    decoder: SteeredDecoder,
    source: Path,
    target: Path,
    observe: Callable[[int, int], None] | None = None,
) -> list[BadLine]:
    """Answer the questions of `source` into `target`, one JSON object a line, in their order.

    Answers are kept beside the target until all are there: the same call after a stop goes on. `observe` hears
    of answers and tokens. Returns the lines that could not be answered. Raises RunError where the target is
    there already, or what was kept is of other questions or settings.
    """
    if target.exists():
        raise RunError(f"{target} exists: give another --output, or remove it.")
    lines, bad = read_questions(source)
    fitting, unfit = _fitting(decoder, lines)
    part = _part(target)
    settings = _settings(run, decoder, source)
    done = _kept(part, settings, source)
    if not part.exists():
        _make_parent(target)
        append_bytes(part, _encoded({"settings": settings, "device": str(decoder.model.device)}))
    if observe is not None and done:
        observe(len(done), 0)
    places = {line.number: place for place, line in enumerate(lines)}
    todo = [line for line in fitting if line.number not in done]
    for start in range(0, len(todo), _CHUNK):
        chunk = todo[start : start + _CHUNK]
        prompts, at = [line.prompt for line in chunk], [places[line.number] for line in chunk]
        for index, answer in decoder.stream(prompts, seed=run.seed, places=at):
            line = chunk[index]
            done[line.number] = entry = {"line": line.number, **answer.to_json(), "id": line.id}
            append_bytes(part, _encoded(entry))
            if observe is not None:
                observe(1, answer.ledger.total)
    ordered = [done[line.number] for line in fitting]
    replace_text(target, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ordered))
    part.unlink()
    return sorted([*bad, *unfit], key=lambda line: line.number)


def _part(target: Path) -> Path:
    return target.with_name(target.name + PART_SUFFIX)


def _make_parent(target: Path) -> None:
    try:
        make_directories(target.parent)
    except OSError as error:
        raise write_failure(target.parent, error) from error


def _fitting(decoder: SteeredDecoder, lines: Sequence[Line]) -> tuple[list[Line], list[BadLine]]:
    """The questions that every model of the strategy can take, and the others."""
    good, bad = [], []
    with decoder.session([]) as session:
        readers = decoder.strategy.readers(session)
        for line in lines:
            try:
                for reader, fmt in readers:
                    reader.encode(line.prompt, fmt)
            except PtsError as error:
                bad.append(BadLine(line.number, str(error)))
            else:
                good.append(line)
    return good, bad


def _parsed(number: int, text: str) -> Line | BadLine:
    try:
        row: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return BadLine(number, f"not JSON ({error.msg})")
    if not isinstance(row, dict):
        return BadLine(number, "not a JSON object")
    own = row.get("id")
    if not isinstance(own, str | int | float | None):
        return BadLine(number, "its id is neither text nor a number")
    name = str(number if own is None else own)
    messages = row.get("messages")
    if messages is not None:
        if _are_messages(messages):
            return Line(number, name, messages)
        return BadLine(number, "its messages are not a list of objects with role and content")
    for field in QUESTION_FIELDS:
        if isinstance(row.get(field), str):
            return Line(number, name, row[field])
        if row.get(field) is not None:
            return BadLine(number, f"its {field} is not text")
    return BadLine(number, f"no question: it has neither messages nor {', '.join(QUESTION_FIELDS[:4])}")


def _are_messages(messages: Any) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    )  # fmt: skip


def _settings(run: DecodeRun, decoder: SteeredDecoder, source: Path) -> dict[str, object]:
    """What decides the answers: inputs, model, vectors, parts, and the questions' bytes."""
    from pts.models.prompt import prompt_digest
    from pts.stages.strategy_parts import parts_digests, second_model_found, second_model_settled
    from pts.steering.vector_files import vectors_digest

    inputs = {name: value for name, value in asdict(run).items() if name not in _NO_MATTER}
    second_dtype, second_date = second_model_settled(decoder.parts)
    model = {"model_id": decoder.model.model_id, "model_revision": decoder.model.revision}
    found = {
        "dtype": dtype_name(decoder.model),
        "attention": attention_name(decoder.model),
        "second_model": second_model_found(decoder.parts),
        "second_dtype": second_dtype,
        "prompt_date": decoder.prompt_format.written_on or second_date,
        "prompt_digest": prompt_digest(decoder.model.tokenizer, decoder.prompt_format),
    }
    vectors = None if decoder.vectors is None else vectors_digest(decoder.vectors)
    files = {"vectors_digest": vectors, "parts_digests": parts_digests(decoder.parts, run)}
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    settings = {**inputs, **model, **files, "questions": digest, "found": found}
    loaded: dict[str, object] = json.loads(json.dumps(settings))
    return loaded


def _kept(part: Path, settings: Mapping[str, object], source: Path) -> dict[int, dict[str, object]]:
    """The answers of a run that was stopped, by line; a half-written last line is dropped."""
    if not part.exists():
        return {}
    *whole, half = part.read_bytes().split(b"\n")
    try:
        entries = [json.loads(line) for line in whole]
        before = entries[0]["settings"] if entries else {}
        # What an earlier version did not record is unknown, and no difference.
        changed = differences(before, {key: value for key, value in settings.items() if key in before})
        kept = {int(entry["line"]): entry for entry in entries[1:]}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{part} cannot be read ({error}): remove it to begin anew.") from error
    if changed or not entries:
        said = f" ({'; '.join(changed)})" if changed else ""
        raise RunError(
            f"{part} holds answers to other questions than {source.name}, or by other settings{said}: give "
            "those again, or remove it."
        )
    if half:
        replace_text(part, b"".join(line + b"\n" for line in whole).decode())
    return kept


def _encoded(entry: Mapping[str, object]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
