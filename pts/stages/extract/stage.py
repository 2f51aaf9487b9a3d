"""The stage `extract-vectors`, whose parts are harvest, cluster and calibrate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.setting_names import setting
from pts.stages.extract.inputs import PARTS, ExtractInputs
from pts.stages.stage import Context, Observer, Plan, Report, Source, Stage, Status, note_of_measured

if TYPE_CHECKING:
    from pts.runs.manifest import Manifest
    from pts.steering.vector_set import VectorSet


def _status(inputs: ExtractInputs) -> Status:
    """How the directory compares with the inputs, as far as `until`.

    Raises PtsError for a directory that holds something else, or a search that cannot be read.
    """
    from pts.runs.manifest import read_manifest
    from pts.runs.vector_run import VECTORS

    path = inputs.directory()
    manifest = read_manifest(path)
    if manifest is None:
        return Status("new")
    if manifest.kind != VECTORS.name:
        raise RunError(
            f"{path} holds another kind of run ({manifest.kind}, not {VECTORS.name}); give another "
            f"{setting('output')}."
        )
    return _compared(inputs, path, manifest)


def _compared(inputs: ExtractInputs, path: Path, manifest: Manifest) -> Status:
    from pts.runs.manifest import differences
    from pts.runs.search_run import read_search
    from pts.stages.extract.run import enough_pairs, extract_settings
    from pts.stages.shared.recorded_layers import with_recorded_layers

    inputs = with_recorded_layers(inputs, manifest)
    searched = read_search(inputs.run)
    pairs = enough_pairs(searched)
    # A search that was made again and came to the same pairs leaves the vectors what they are.
    found = {key: value for key, value in manifest.resolved.items() if key != "search_created"}
    changes = [
        *differences(manifest.settings, extract_settings(inputs, searched, pairs)),
        # What an earlier version did not record is unknown, and no difference.
        *differences(found, {key: now for key, now in searched.manifest.resolved.items() if key in found}),
    ]
    content = _content(path)
    if changes:
        named = ("other pairs of the search" if entry.startswith("pairs ") else entry for entry in changes)
        return Status("changed", content, tuple(named))
    return Status("complete" if _has_reached(inputs, path, len(pairs)) else "begun", content)


def _content(path: Path) -> str:
    """What there is of a vector set, in words."""
    from pts.runs.vector_run import VECTORS
    from pts.steering.set_location import JSON_NAME

    if (path / JSON_NAME).exists():
        return "a finished vector set"
    if (path / VECTORS.shard).exists():
        return "an unfinished vector set with measurements"
    return "a vector set without measurements yet"


def _has_reached(inputs: ExtractInputs, path: Path, pairs: int) -> bool:
    """Whether the extraction's last part is done. A later part's file says that the earlier ones are."""
    from pts.runs.vector_run import HARVEST_FOLDER
    from pts.stages.extract.patterns import PATTERNS_NAME
    from pts.steering.set_location import JSON_NAME

    if (path / JSON_NAME).exists():
        return True
    if inputs.until == "calibrate":
        return False
    clustered = (path / PATTERNS_NAME).exists()
    return clustered or (inputs.until == "harvest" and _harvested(path / HARVEST_FOLDER) == pairs)


def _harvested(folder: Path) -> int:
    """Pairs in the harvest's shards. Raises RunError for one that cannot be read."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for shard in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(shard), "pt") as opened:
                total += opened.get_slice("pairs").get_shape()[0]
        except SafetensorError as error:
            raise RunError(f"{shard} cannot be read ({error}); delete {folder}: it is made again.") from error
    return total


def _plan(inputs: ExtractInputs, context: Context) -> Plan:
    """What an extraction will do; a set that other settings or another search made is made again."""
    from pts.lexicon import read_lexicon
    from pts.runs.directory import open_run
    from pts.runs.manifest import read_manifest
    from pts.runs.vector_run import VECTORS

    path = inputs.directory()
    with open_run(path, VECTORS):
        pass  # now and not after hours, where the directory cannot be had
    if inputs.lexicon is not None:
        read_lexicon(inputs.lexicon)
    name = "extract-vectors" if inputs.until == "calibrate" else f"extract-vectors, until {inputs.until}"
    if read_manifest(path) is None:
        return Plan(f"{name}: writes {path}.")
    if inputs.fresh:
        return Plan(f"{name}: deletes {path} ({_content(path)}) and starts again.", deletes=True)
    if context.active & {"search", "merge"}:
        text = (
            f"{name}: runs after the search; if its settings or pairs are then no longer those of "
            f"{path} ({_content(path)}), that is deleted and made again."
        )
        return Plan(text, deletes=True)
    status = _status(inputs)
    if status.state == "changed":
        text = (
            f"{name}: {path} was made with other settings ({'; '.join(status.changes)}); "
            f"what is there ({status.content}) is deleted and made again."
        )
        return Plan(text, deletes=True)
    if status.state == "complete":
        return Plan(f"{name}: {path} is complete: nothing to do.", idle=True)
    return Plan(f"{name}: continues {path} ({status.content}).")


def _run(inputs: ExtractInputs, observe: Observer | None) -> VectorSet | None:
    """The vector set; None where `until` ends the extraction before there is one."""
    from pts.stages.extract.run import run_extract

    if inputs.until != "calibrate" and not inputs.fresh and _status(inputs).state == "complete":
        return None
    return run_extract(inputs, observe)


def _report(inputs: ExtractInputs, vectors: VectorSet | None) -> Report:
    from pts.report.vector_tables import VECTOR_COLUMNS, vector_report

    if vectors is not None:
        return Report(vector_report(vectors), VECTOR_COLUMNS)
    if inputs.until == "harvest":
        return Report(f"harvest: the activations are in {inputs.directory()}")
    return Report(f"cluster: {_pattern_counts(inputs.directory())}")


def _pattern_counts(directory: Path) -> str:
    """How many pairs each pattern has, most first, and where that is written."""
    from pts.stages.extract.patterns import PATTERNS_NAME

    path = directory / PATTERNS_NAME
    found = json.loads(path.read_text(encoding="utf-8"))
    sizes = sorted(((len(group["members"]), group["name"]) for group in found["groups"]), reverse=True)
    return f"by {found['basis']}: {', '.join(f'{name} {size}' for size, name in sizes)}; see {path}"


def _resume_note(inputs: ExtractInputs) -> str | None:
    """What a stopped extraction leaves; None where it has not written anything."""
    from pts.runs.manifest import MANIFEST_NAME

    return note_of_measured(inputs.directory() / MANIFEST_NAME, fresh=inputs.fresh)


STAGE: Stage[ExtractInputs, VectorSet | None] = Stage(
    name="extract-vectors",
    summary="Make steering vectors of a run's pivotal tokens and measure what they do.",
    inputs=ExtractInputs,
    plan=_plan,
    run=_run,
    report=_report,
    takes={"run": Source(("search", "merge"))},
    directory=ExtractInputs.directory,
    status=_status,
    parts=PARTS,
    remakes=True,
    resume_note=_resume_note,
)
