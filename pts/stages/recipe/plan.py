"""What is there of each stage of a recipe, and what running it will do: settled before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.runs.directory import open_run
from pts.runs.evaluation_run import DIGESTS, EVALUATION
from pts.runs.manifest import Manifest, differences, read_manifest
from pts.runs.search_run import SEARCH, SearchResults, read_search
from pts.runs.vector_run import HARVEST_FOLDER, VECTORS
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.fit_router.inputs import FitRouterInputs
from pts.stages.recipe.errors import in_recipe_keys
from pts.stages.recipe.read import Stage, stage_keys
from pts.stages.recipe.router import made_router, require_other_problems, router_standing
from pts.stages.recipe.standing import Standing
from pts.stages.search.inputs import SearchInputs
from pts.stages.shared.recorded_layers import with_recorded_layers

if TYPE_CHECKING:
    from pts.stages.evaluate.inputs import EvaluateInputs
    from pts.stages.publish.run import PublishInputs


@dataclass(frozen=True, slots=True)
class Step:
    """A stage as it is to be run, and a line to say before any is.

    `deletes` says that the line tells of a loss, `idle` that the stage is complete already.
    """

    stage: Stage
    said: str
    deletes: bool = False
    idle: bool = False


def plan_stages(before: Sequence[Stage], chosen: Sequence[Stage], fresh: bool) -> list[Step]:
    """What running `chosen` does, the stages `before` it being left alone; nothing is done or deleted yet.

    A complete stage is left as it is and one that was cut goes on. A vector set that other settings or another
    search made is made again; a search or evaluation that other settings made is paid for and is replaced where
    `fresh` says so, as everything chosen is then. Raises RunError for that, for a stage of `before` that is not
    complete, for a directory that cannot be written; ConfigError for a publication without a token.
    """
    keys = stage_keys([*before, *chosen])
    for stage in before:
        with in_recipe_keys(stage.name, keys):
            _require_complete(stage)
    every = [*before, *chosen]
    for stage in chosen:
        if stage.name == "eval":
            with in_recipe_keys(stage.name, keys):
                require_other_problems(every[: every.index(stage)], stage.inputs)
    steps: list[Step] = []
    searching = False
    for stage in chosen:
        with in_recipe_keys(stage.name, keys):
            step, searches = _plan_stage(stage, fresh, searching, making=any(not made.idle for made in steps))
        searching = searching or searches
        steps.append(step)
    return steps


def _plan_stage(stage: Stage, fresh: bool, searching: bool, making: bool) -> tuple[Step, bool]:
    """The step, and whether it will search; `searching` says that a stage before it will, `making` that one
    before it makes anything."""
    if isinstance(stage.inputs, SearchInputs):
        return _plan_search(stage, stage.inputs, fresh)
    if isinstance(stage.inputs, ExtractInputs):
        return _plan_extract(stage, stage.inputs, fresh, searching), False
    if isinstance(stage.inputs, FitRouterInputs):
        return _plan_fit_router(stage, stage.inputs, fresh, making), False
    if stage.name == "eval":
        return _plan_eval(stage, stage.inputs, fresh), False
    if stage.name == "publish":
        return _plan_publish(stage, stage.inputs), False
    output = Path(stage.inputs.output)
    does = "replaces" if output.exists() else "writes"
    return Step(stage, f"{stage.name}: {does} {output}.", deletes=output.exists()), False


def renewed(stage: Stage) -> Stage:
    """The stage, told to start anew where it is an extraction or a router that what is there does not fit.

    To be asked when the stages before it are done: what they made decides. Raises PtsError.
    """
    inputs = stage.inputs
    if isinstance(inputs, ExtractInputs | FitRouterInputs) and standing_of(inputs).state == "changed":
        return replace(stage, inputs=replace(inputs, fresh=True))
    return stage


def is_part_done(inputs: ExtractInputs) -> bool:
    """Whether an extraction that stops before its vector set has nothing left to do. Raises PtsError."""
    return inputs.until != "calibrate" and not inputs.fresh and standing_of(inputs).state == "complete"


def is_router_done(inputs: FitRouterInputs) -> bool:
    """Whether the router is there already, fitted as it is asked for. Raises PtsError."""
    return not inputs.fresh and standing_of(inputs).state == "complete"


def standing_of(inputs: SearchInputs | ExtractInputs | FitRouterInputs) -> Standing:
    """How a stage's directory stands to its inputs; an extraction only as far as its `until`.

    Raises PtsError for a directory that holds something else, or inputs that cannot be read.
    """
    if isinstance(inputs, FitRouterInputs):
        return router_standing(inputs)
    path = inputs.directory()
    manifest = read_manifest(path)
    if manifest is None:
        return Standing("new")
    if isinstance(inputs, SearchInputs):
        return _search_standing(inputs, read_search(path))
    if manifest.kind != VECTORS.name:
        raise RunError(
            f"{path} holds another kind of run ({manifest.kind}, not {VECTORS.name}); give another --output."
        )
    return _extract_standing(inputs, path, manifest)


def _search_standing(run: SearchInputs, searched: SearchResults) -> Standing:
    from pts.stages.search.given_traces import read_traces

    summary = searched.summary()
    there = f"{summary.done} of {summary.problems} problems done, {summary.tokens_generated:,} tokens generated"
    there += ", all that max_tokens allowed" if summary.status == "spent" else ""
    asked = {**run.asked(), "traces_from": read_traces(run.traces_from)[1]}
    changes = tuple(differences(searched.manifest.settings, asked))
    if changes:
        return Standing("changed", there, changes)
    return Standing("complete" if _is_finished(run, searched) else "begun", there)


def _is_finished(run: SearchInputs, searched: SearchResults) -> bool:
    """Whether the run covers the problems asked for, and each is done or cut by the same spending limit."""
    if not (searched.path / SEARCH.derived[-1]).exists():
        return False
    limit, count = searched.environment.limit, searched.manifest.problems.count
    every = limit is None and run.dataset != "demo"
    covers = every or (limit is None if run.problems is None else max(count, limit or 0) >= run.problems)
    if not covers:
        return False
    if run.max_tokens is not None and searched.tokens_spent >= run.max_tokens:
        return True
    settled = sum(line.settled(run.max_tokens) for line in searched.latest.values())
    return settled >= count


def _extract_standing(inputs: ExtractInputs, path: Path, manifest: Manifest) -> Standing:
    from pts.stages.extract.run import enough_pairs, extract_asked

    inputs = with_recorded_layers(inputs, manifest)
    searched = read_search(inputs.run)
    pairs = enough_pairs(searched)
    # A search that was made again and came to the same pairs leaves the vectors what they are.
    found = {key: value for key, value in manifest.resolved.items() if key != "search_created"}
    changes = [
        *differences(manifest.settings, extract_asked(inputs, searched, pairs)),
        # What an earlier version did not record is unknown, and no difference.
        *differences(found, {key: now for key, now in searched.manifest.resolved.items() if key in found}),
    ]
    there = _made(path)
    if changes:
        said = ("other pairs of the search" if entry.startswith("pairs ") else entry for entry in changes)
        return Standing("changed", there, tuple(said))
    return Standing("complete" if _has_reached(inputs, path, len(pairs)) else "begun", there)


def _made(path: Path) -> str:
    """What there is of a vector set, in words."""
    from pts.steering.vector_files import JSON_NAME

    measured = (path / VECTORS.shard).exists()
    return (
        "a finished vector set"
        if (path / JSON_NAME).exists()
        else "an unfinished vector set with measurements"
        if measured
        else "a vector set without measurements yet"
    )


def _has_reached(inputs: ExtractInputs, path: Path, pairs: int) -> bool:
    """Whether the extraction's last part is done. A later part's file says that the earlier ones are."""
    from pts.stages.extract.patterns import PATTERNS_NAME
    from pts.steering.vector_files import JSON_NAME

    if (path / JSON_NAME).exists():
        return True
    clustered = (path / PATTERNS_NAME).exists()
    if inputs.until == "calibrate":
        return False
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


def _require_complete(stage: Stage) -> None:
    """Raise RunError unless a stage that is left out has done all that the later ones need of it."""
    inputs = stage.inputs
    if not isinstance(inputs, SearchInputs | ExtractInputs | FitRouterInputs):
        return
    standing = standing_of(inputs)
    if standing.state == "complete":
        return
    what = {
        "new": f"{inputs.directory()} is not there",
        "begun": f"{inputs.directory()} has {standing.there}",
        "changed": f"{inputs.directory()} was made with other settings ({'; '.join(standing.changes)})",
    }[standing.state]
    raise RunError(
        f"{stage.name} comes before --from and is not complete up to {stage.parts[-1]}: {what}; leave --from "
        "out, or begin with an earlier stage."
    )


def _plan_search(stage: Stage, run: SearchInputs, fresh: bool) -> tuple[Step, bool]:
    """The step, and whether it will search."""
    path, standing = run.directory(), standing_of(run)
    _require_writable(path, run)
    anew = fresh or run.fresh
    stage = replace(stage, inputs=replace(run, fresh=anew))
    if standing.state == "new":
        return Step(stage, f"search: writes {path}."), True
    if anew:
        return Step(stage, f"search: deletes {path} ({standing.there}) and starts anew.", deletes=True), True
    if standing.state == "changed":
        raise RunError(
            f"{path} holds a search with other settings ({'; '.join(standing.changes)}): {standing.there}. "
            "Give --set search.output=... to keep it, or --fresh to delete it and search again."
        )
    if standing.state == "complete":
        said = f"search: {path} is complete ({standing.there}) and left as it is."
        return Step(stage, said, idle=True), False
    return Step(stage, f"search: goes on with {path} ({standing.there})."), True


def _plan_extract(stage: Stage, inputs: ExtractInputs, fresh: bool, searching: bool) -> Step:
    path = inputs.directory()
    _require_writable(path, inputs)
    if inputs.lexicon is not None:
        from pts.steering.lexicon import read_lexicon

        read_lexicon(inputs.lexicon)
    anew = fresh or inputs.fresh
    stage = replace(stage, inputs=replace(inputs, fresh=anew))
    through = "" if inputs.until == "calibrate" else f", until {inputs.until}"
    if read_manifest(path) is None:
        return Step(stage, f"{stage.name}{through}: writes {path}.")
    if anew:
        said = f"{stage.name}{through}: deletes {path} ({_made(path)}) and starts anew."
        return Step(stage, said, deletes=True)
    if searching:
        said = (
            f"{stage.name}{through}: follows the search; where its settings or pairs are no longer those of "
            f"{path} ({_made(path)}), that is deleted and made again."
        )
        return Step(stage, said, deletes=True)
    standing = standing_of(inputs)
    if standing.state == "changed":
        said = (
            f"{stage.name}{through}: {path} was made with other settings ({'; '.join(standing.changes)}); "
            f"what is there ({standing.there}) is deleted and made again."
        )
        return Step(stage, said, deletes=True)
    if standing.state == "complete":
        return Step(stage, f"{stage.name}{through}: {path} is complete and left as it is.", idle=True)
    return Step(stage, f"{stage.name}{through}: goes on with {path} ({standing.there}).")


def _plan_fit_router(stage: Stage, inputs: FitRouterInputs, fresh: bool, making: bool) -> Step:
    path = inputs.directory()
    anew = fresh or inputs.fresh
    stage = replace(stage, inputs=replace(inputs, fresh=anew))
    there = made_router(path)
    if not there:
        return Step(stage, f"{stage.name}: writes a router to {path}.")
    if anew:
        return Step(stage, f"{stage.name}: deletes {there} in {path} and starts anew.", deletes=True)
    if making:
        said = (
            f"{stage.name}: follows the stages before it; where {there} in {path} no longer fits what they "
            "make, it is deleted and made again."
        )
        return Step(stage, said, deletes=True)
    standing = router_standing(inputs)
    if standing.state == "changed":
        said = (
            f"{stage.name}: {there} in {path} has other settings, vectors or another search "
            f"({'; '.join(standing.changes)}); it is deleted and made again."
        )
        return Step(stage, said, deletes=True)
    if standing.state == "complete":
        return Step(stage, f"{stage.name}: the router in {path} is complete and left as it is.", idle=True)
    return Step(stage, f"{stage.name}: goes on with {there} in {path}.")


def _plan_eval(stage: Stage, run: EvaluateInputs, fresh: bool) -> Step:
    path = run.directory()
    with open_run(path, EVALUATION):
        manifest = read_manifest(path)
    anew = fresh or run.fresh
    stage = replace(stage, inputs=replace(run, fresh=anew))
    if manifest is None:
        return Step(stage, f"eval: writes {path}.")
    if anew:
        return Step(stage, f"eval: deletes {path} and starts anew.", deletes=True)
    # What vectors and router are is settled when the stage runs: the stage before may make them now.
    known = {key: value for key, value in manifest.settings.items() if key not in DIGESTS}
    changes = differences(known, with_recorded_layers(run, manifest).asked())
    if changes:
        raise RunError(
            f"{path} holds an evaluation with other settings ({'; '.join(changes)}). "
            "Give --set eval.output=... to keep it, or --fresh to delete it and evaluate again."
        )
    return Step(stage, f"eval: goes on with {path}, and leaves it as it is where it is complete.")


def _plan_publish(stage: Stage, inputs: PublishInputs) -> Step:
    if not inputs.push:
        return Step(stage, f"publish: shows files and card of {inputs.path}, and sends nothing.")
    from pts.stages.publish.run import hub_api

    hub_api(inputs.token_from_env)
    return Step(stage, f"publish: pushes {inputs.path} to {inputs.repo_type} {inputs.repo_id}.")


def _require_writable(path: Path, inputs: SearchInputs | ExtractInputs) -> None:
    """Raise RunError, now and not after hours, where the stage could not have its directory."""
    with open_run(path, SEARCH if isinstance(inputs, SearchInputs) else VECTORS):
        return
