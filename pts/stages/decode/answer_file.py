"""Answering a file of questions: bad lines are named and left out, and a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pts.data_files import LINES, BadRow, FileRow, id_text, json_line, parse_json, read_rows, text_fault
from pts.errors import DataError, PtsError, RunError
from pts.problems.schemas import two_questions
from pts.records import Completions
from pts.runs.files import make_directories, replace_text, write_failure
from pts.runs.journal import Journal
from pts.runs.manifest import differences
from pts.setting_names import setting
from pts.stages.decode.inputs import DecodeInputs
from pts.stages.shared.cut_completions import warn_of_cut
from pts.stages.shared.recorded import Recorded, dtype_name, recorded_in

if TYPE_CHECKING:
    from pts.decoding.steered_decoder import SteeredDecoder
    from pts.policies.protocol import Prompt

_LOG = logging.getLogger(__name__)

PART_SUFFIX = ".part"
QUESTION_FIELDS = ("question", "prompt", "query", "problem", "Question", "Problem")
_FIELDS = ("id", "messages", *QUESTION_FIELDS)
_MOST_NAMED = 5
"""Unused fields that a warning names."""
_NO_MATTER = ("device", "batch_rows")
"""Inputs that a run may go on without: the answers are the same."""
_LATER = ("stop", "thinking_switch", "template_options")
"""Inputs that are kept only where they are given: answers that were begun before there were any go on."""
Answers: TypeAlias = dict[int, dict[str, Any]]
"""Answers in their JSON form, by the number of the question's line."""
_CHUNK = 256
"""Questions given to the decoder at once."""


@dataclass(frozen=True, slots=True)
class Line:
    """A question of the file, with the number of its line (its row, in Parquet) from 1."""

    number: int
    id: str
    prompt: Prompt
    place: str


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be answered, where it is ("line 3"), and why."""

    number: int
    place: str
    reason: str


def read_questions(path: Path, *, warn: bool = False) -> tuple[list[Line], list[BadLine]]:
    """The questions of a JSONL, JSON, CSV or Parquet file, and the lines that are none.

    A line has `messages` or a question field, and maybe an `id` (else its number), which may repeat: answers
    have their line's number too. With `warn`, the log names fields that are neither. A suffix that is none of
    these is JSONL's. Raises DataError for a file that cannot be read or has no line.
    """
    good: list[Line] = []
    bad: list[BadLine] = []
    unused: dict[str, str] = {}
    for row in read_rows(path, LINES):
        if isinstance(row, FileRow):
            unused.update({name: row.place for name in row.fields if name not in (*_FIELDS, *unused)})
        found = BadLine(row.number, row.place, f"it {row.reason}") if isinstance(row, BadRow) else _parsed(row)
        good.append(found) if isinstance(found, Line) else bad.append(found)
    if not good and not bad:
        raise DataError(f"{path} is empty; give a JSON object with a question on each line.")
    if unused and warn:
        named = ", ".join(f"{name} ({place})" for name, place in list(unused.items())[:_MOST_NAMED])
        _LOG.warning(
            "%s: fields that nothing uses, and where each is first: %s. Settings of an answer are those of the "
            "command.",
            path,
            named if len(unused) <= _MOST_NAMED else f"{named}, and {len(unused) - _MOST_NAMED} more",
        )
    return good, bad


def recorded_answers(target: Path) -> Recorded | None:
    """What a stopped run of answers for `target` recorded of model and prompts; None where there is none."""
    part = _part(target)
    if not part.exists():
        return None
    try:
        header: Any = _journal(part).header() or {}
        settings = header["settings"]
        found = {**settings.get("found", {}), "model_revision": settings.get("model_revision")}
        return recorded_in(found, str(part), header.get("device"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # `answer_file` says what is wrong with it.


def with_recorded_layers(inputs: DecodeInputs, target: Path) -> DecodeInputs:
    """The inputs with the `layers_path` of the stopped run that they go on with, where they name none."""
    part = _part(target)
    if inputs.layers_path is not None or not part.exists():
        return inputs
    settings = (_journal(part).header() or {}).get("settings")
    recorded = settings.get("layers_path") if isinstance(settings, Mapping) else None
    return replace(inputs, layers_path=recorded) if isinstance(recorded, str) else inputs


def answer_file(
    inputs: DecodeInputs,
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
        raise RunError(f"{target} exists: give another {setting('output')}, or remove it.")
    lines, bad = read_questions(source, warn=True)
    fitting, unfit = _fitting(decoder, lines)
    part = _part(target)
    settings = _settings(inputs, decoder, source)
    journal = _journal(part)
    done = _kept(journal, settings, source)
    if not part.exists():
        _make_parent(target)
        journal.begin({"settings": settings, "device": str(decoder.model.device)})
    if observe is not None and done:
        observe(len(done), 0)
    places = {line.number: place for place, line in enumerate(lines)}
    todo = [line for line in fitting if line.number not in done]
    for start in range(0, len(todo), _CHUNK):
        chunk = todo[start : start + _CHUNK]
        prompts, at = [line.prompt for line in chunk], [places[line.number] for line in chunk]
        for index, answer in decoder.stream(prompts, seed=inputs.seed, places=at):
            line = chunk[index]
            done[line.number] = entry = {"line": line.number, **answer.to_json(), "id": line.id}
            journal.append(entry)
            if observe is not None:
                observe(1, answer.usage.total)
    ordered = [done[line.number] for line in fitting]
    _warn_of_cut(inputs, decoder, target, ordered)
    replace_text(target, "".join(json_line(entry) + "\n" for entry in ordered))
    part.unlink()
    return sorted([*bad, *unfit], key=lambda line: line.number)


def _warn_of_cut(
    inputs: DecodeInputs, decoder: SteeredDecoder, target: Path, answers: Sequence[Mapping[str, object]]
) -> None:
    from pts.decoding.answers import ENDED

    ledgers = [answer["ledger"] for answer in answers]
    cut = sum(isinstance(ledger, Mapping) and ledger["finish"] not in ENDED for ledger in ledgers)
    thinks = decoder.think is not None and inputs.thinking is not False
    warn_of_cut(
        str(target),
        Completions(len(ledgers), cut),
        inputs.sampling().budget,
        thinks=thinks,
        runs_on=inputs.runs_on,
    )


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
                bad.append(BadLine(line.number, line.place, str(error)))
            else:
                good.append(line)
    return good, bad


def _parsed(row: FileRow) -> Line | BadLine:
    try:
        own = row.fields.get("id")
        if isinstance(own, bool) or not isinstance(own, str | int | float | None):
            raise DataError("its id is neither text nor a number")
        missing = own is None or own == ""
        name = str(row.number) if missing else id_text(own, "its id")
        return Line(row.number, name, _prompt(row.fields), row.place)
    except DataError as error:
        return BadLine(
            row.number, row.place, str(error).removesuffix(".").removesuffix("; fix or remove the row")
        )


def _prompt(fields: Mapping[str, Any]) -> Prompt:
    """The messages or the question of a row. Raises DataError where there are none, or that cannot be asked."""
    messages = fields.get("messages")
    if messages is not None:
        return _messages(messages)
    two = two_questions(fields)
    if two is not None:
        raise DataError(f"it has two fields that could be the question, {two[0]} and {two[1]}: leave one")
    for field in QUESTION_FIELDS:
        question = fields.get(field)
        if question is None:
            continue
        if not isinstance(question, str):
            raise DataError(f"its {field} is not text")
        if not question.strip():
            raise DataError(f"its {field} is empty")
        _require_text(question, f"its {field}")
        return question
    raise DataError(f"no question: it has neither messages nor {', '.join(QUESTION_FIELDS[:4])}")


def _messages(messages: Any) -> list[dict[str, str]]:
    """Messages, which a table holds as JSON text. Raises DataError for anything else."""
    if isinstance(messages, str):
        try:
            messages = parse_json(messages)
        except ValueError as error:
            raise DataError("its messages are not a list of objects with role and content") from error
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    ):  # fmt: skip
        raise DataError("its messages are not a list of objects with role and content")
    for at, message in enumerate(messages):
        for name in ("role", "content"):
            _require_text(message[name], f"the {name} of its message {at + 1}")
    return messages


def _require_text(text: str, what: str) -> None:
    fault = text_fault(text)
    if fault is not None:
        raise DataError(f"{what} {fault}")


def _settings(inputs: DecodeInputs, decoder: SteeredDecoder, source: Path) -> dict[str, object]:
    """What decides the answers: inputs, model, vectors, options, and the questions' bytes."""
    from pts.models.prompt import prompt_digest
    from pts.stages.decode.strategies import options_digests, second_model_found, second_model_settled
    from pts.steering.vector_files import vectors_digest

    given = {name: value for name, value in asdict(inputs).items() if name not in _NO_MATTER}
    given = {name: value for name, value in given.items() if value or name not in _LATER}
    second_dtype, second_date = second_model_settled(decoder.options)
    model = {"model_id": decoder.model.model_id, "model_revision": decoder.model.revision}
    found = {
        "dtype": dtype_name(decoder.model),
        "attention": decoder.model.attention,
        "second_model": second_model_found(decoder.options),
        "second_dtype": second_dtype,
        "prompt_date": decoder.prompt_format.written_on or second_date,
        "prompt_digest": prompt_digest(decoder.model.tokenizer, decoder.prompt_format),
    }
    vectors = None if decoder.vectors is None else vectors_digest(decoder.vectors)
    files = {"vectors_digest": vectors, "parts_digests": options_digests(decoder.options, inputs)}
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    settings = {**given, **model, **files, "questions": digest, "found": found}
    loaded: dict[str, object] = json.loads(json.dumps(settings))
    return loaded


def _journal(part: Path) -> Journal[dict[str, Any]]:
    """The answers so far; the header has the settings that decide them, and the device."""
    return Journal(part, dict, headed=True, remedy="remove it to begin again")


def _kept(journal: Journal[dict[str, Any]], settings: Mapping[str, object], source: Path) -> Answers:
    """The answers of a run that was stopped, by line. Raises RunError for those of other settings."""
    if not journal.path.exists():
        return {}
    before = (journal.header() or {}).get("settings")
    if not isinstance(before, dict):
        raise RunError(
            f"{journal.path} cannot be read (its first line has no settings): remove it to begin again."
        )
    # What an earlier version did not record is unknown, and no difference.
    changed = differences(before, {key: value for key, value in settings.items() if key in before})
    if changed:
        raise RunError(
            f"{journal.path} holds answers to other questions than {source.name}, or by other settings "
            f"({'; '.join(changed)}): give those again, or remove it."
        )
    entries = journal.read()
    unnumbered = [entry for entry in entries if not isinstance(entry.get("line"), int)]
    if unnumbered:
        raise RunError(
            f"{journal.path} cannot be read (an answer has no line number): remove it to begin again."
        )
    return {entry["line"]: entry for entry in entries}
