"""What a run recorded of its model, machine and prompts, and how a session that goes on takes it over."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from pts.errors import ModelError, RunError
from pts.models.options import DtypeName, ModelOptions
from pts.models.prompt import PromptFormat, encode_prompt, prompt_digest, settled_format
from pts.pivot_search.results import ProblemResult
from pts.setting_names import setting

if TYPE_CHECKING:
    from pts.models.load import LoadedModel
    from pts.policies.vllm.served import AnsweringModel
    from pts.runs.manifest import Manifest

logger = logging.getLogger(__name__)

OTHER_ENGINE = "vllm "
"""How the attention of a run begins that another engine than transformers drew."""
ELSEWHERE = "server"
"""The device of a run that a server drew: which one that had, it does not tell."""
_COMMIT = re.compile(r"([0-9a-f]{40})(\+|$)")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the sessions before had. None where nothing was recorded: a new run, or one of an earlier version.

    `where` is the run, for messages. `prompt_date` is the time that chat templates were given, `prompt_digest`
    that of a fixed question's prompt, `commit` the model's on the hub.
    """

    where: str
    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
    prompt_date: str | None = None
    prompt_digest: str | None = None
    commit: str | None = None


def recorded_by(manifest: Manifest | None, where: str) -> Recorded:
    """What a run's manifest says; nothing where there is no run yet."""
    if manifest is None:
        return Recorded(where)
    return recorded_in(manifest.resolved, where, manifest.environment.get("device"), manifest.created)


def recorded_in(
    found: Mapping[str, object], where: str, device: object = None, created: object = None
) -> Recorded:
    """The same, of what a manifest holds or a vector set's provenance repeats.

    A run of a version that recorded no date has that on which it was created.
    """
    date = found["prompt_date"] if "prompt_date" in found else _local(created)
    named = device if isinstance(device, str) and device not in ("auto", ELSEWHERE) else None
    # With an adapter the revision is followed by that one's digest.
    commit = _COMMIT.match(str(found.get("model_revision")))
    texts = (
        named,
        found.get("dtype"),
        found.get("attention"),
        date,
        found.get("prompt_digest"),
        None if commit is None else commit.group(1),
    )
    return Recorded(where, *(text if isinstance(text, str) else None for text in texts))


def recorded_options(options: ModelOptions, recorded: Recorded) -> ModelOptions:
    """The options with the recorded dtype and device in place of "auto", and the commit of a hub's model.

    A branch moves; what it was when the run began does not. Raises RunError where the recorded device is not
    here: which other one is meant, only the user can say.
    """
    from pts.models.hardware import choose_device

    if recorded.dtype in get_args(DtypeName):
        options = replace(options, auto_dtype=cast(DtypeName, recorded.dtype))
    if recorded.commit is not None and not Path(options.spec).expanduser().exists():
        options = replace(options, revision=recorded.commit)
    if recorded.device is None:
        return options
    before = recorded.device.partition(":")[0]
    now = choose_device(options.device).type
    if before == now:
        return options
    if options.device != "auto":
        logger.warning("%s began on %s and continues on %s.", recorded.where, before, now)
        return options
    try:
        choose_device(before)
    except ModelError as error:
        raise RunError(
            f"{recorded.where} was made on {before}, which is not here: give {setting('device', now)} "
            "to go on with this "
            "machine's, whose numbers may differ in their last digits."
        ) from error
    return replace(options, device=before)


def require_recorded(loaded: LoadedModel, recorded: Recorded) -> None:
    """Raise RunError where a model computes otherwise than the recorded one did.

    What another engine drew is read by transformers: then its attention is another one, as it must be.
    """
    pairs: dict[str, tuple[str | None, str | None]] = {"dtype": (recorded.dtype, dtype_name(loaded))}
    if recorded.attention is None or not recorded.attention.startswith(OTHER_ENGINE):
        pairs["attention"] = (recorded.attention, loaded.attention)
    changed = [f"{name} {before} → {now}" for name, (before, now) in pairs.items() if before not in (None, now)]
    if changed:
        raise RunError(
            f"{recorded.where} was made with another model: {'; '.join(changed)}. Give the same model and "
            "machine, or search again."
        )


def settled_prompts(
    tokenizer: Any, fmt: PromptFormat, recorded: Recorded, done: ProblemResult | None = None
) -> tuple[PromptFormat, str]:
    """The format by which all prompts of a run are made, with its date, and the digest of a fixed question.

    Raises RunError where that, or the question of a problem that is `done`, is not the prompt that it was.
    """
    settled = settled_format(tokenizer, replace(fmt, written_on=recorded.prompt_date))
    digest = prompt_digest(tokenizer, settled)
    same = recorded.prompt_digest in (None, digest)
    if done is not None:
        same = same and encode_prompt(tokenizer, done.query, settled) == done.prompt
    if not same:
        raise RunError(
            f"{recorded.where} was made with other prompts: the model's chat template or tokenizer writes the "
            "same question differently now. Use the earlier version of the model, or start again with another "
            f"{setting('output')}."
        )
    return settled, digest


def dtype_name(loaded: AnsweringModel) -> str:
    """The dtype that the model computes in, as records have it."""
    return str(loaded.dtype).removeprefix("torch.")


def _local(created: object) -> str | None:
    """A manifest's time in UTC as a local time without a zone; None for what is no time."""
    if not isinstance(created, str):
        return None
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return None
    return moment.astimezone().replace(tzinfo=None).isoformat(timespec="seconds")
