"""The stage `extract-vectors`: from a search's run directory to a vector set with a measured effect."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pts.errors import ConfigError, DataError, RunError
from pts.records import Completions, Problem
from pts.runs.directory import RunDirectory, open_run
from pts.runs.files import replace_text
from pts.runs.manifest import Manifest, list_problems, text_digest
from pts.runs.search_run import SearchResults, read_search
from pts.runs.settle import settle_manifest
from pts.runs.vector_run import HARVEST_FOLDER, VECTORS
from pts.setting_names import setting
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.extract.patterns import (
    PATTERNS_NAME,
    Division,
    divide_pairs,
    make_directions,
    pattern_source,
    patterns_text,
    set_records,
)
from pts.stages.shared.cut_completions import cut_of
from pts.stages.shared.recorded_layers import with_recorded_layers

if TYPE_CHECKING:
    from pts.calibration.calibrate import Calibrated
    from pts.calibration.settings import Directions
    from pts.stages.search.reload import Loaded
    from pts.steering.harvest import Harvest
    from pts.steering.pairs import Pair
    from pts.steering.vector_set import Effect, VectorSet

logger = logging.getLogger(__name__)

LEAST_PAIRS, LEAST_PROBLEMS = 24, 8
"""Pairs, and problems that they are of, without which nothing can be fitted and judged."""
LAYER_SHARES = (0.25, 0.5, 0.75)
"""Depths that calibration tries where no layers are named."""

Observe = Callable[[str, int, float], None]
"""Told of the phase, how much more is done (pairs of the harvest, generated tokens of the rest), and the share
of the phase that is done."""


def run_extract(inputs: ExtractInputs, observe: Observe | None = None) -> VectorSet | None:
    """Harvest, find patterns, calibrate and measure; write the vector set. A complete one is left as it is.

    A stopped extraction goes on: every measurement is kept as it is made. Nothing is written before the run,
    the model and the problems have been found good. None where `until` ends it before there is a set. Raises
    PtsError.
    """
    from pts.steering.set_location import JSON_NAME
    from pts.steering.vector_files import load_vectors

    searched = read_search(inputs.run)
    pairs = enough_pairs(searched)
    with open_run(inputs.directory(), VECTORS) as directory:
        inputs = with_recorded_layers(inputs, directory.manifest)
        settings = extract_settings(inputs, searched, pairs)
        if directory.manifest is not None and not inputs.fresh:
            directory.require_same("configuration", directory.manifest.settings, settings)
            if (directory.path / JSON_NAME).exists():
                logger.info("%s: the vector set is complete.", directory.path)
                return load_vectors(directory.path)
        warn_of_unfinished(searched)
        return _extract(inputs, searched, pairs, directory, settings, observe or (lambda *_told: None))


def warn_of_unfinished(searched: SearchResults) -> None:
    """Log it where the search has problems left to do: the vectors are of the pairs that there are."""
    summary = searched.summary()
    if summary.status != "complete":
        logger.warning(
            "%s is not finished: %d of %d problems are done. The vectors are made from what is there; once the "
            "search has found more, extract again.",
            searched.path,
            summary.done,
            summary.problems,
        )


def enough_pairs(searched: SearchResults) -> list[Pair]:
    """The run's measured pairs. Raises DataError where they are too few to fit and judge, saying how many."""
    from pts.steering.pairs import measured_pairs

    pairs = measured_pairs(searched)
    problems = len({pair.problem_id for pair in pairs})
    if len(pairs) < LEAST_PAIRS or problems < LEAST_PROBLEMS:
        raise DataError(
            f"{searched.path} has {len(pairs)} measured pairs of {problems} problems; vectors need at least "
            f"{LEAST_PAIRS} of {LEAST_PROBLEMS}, and many hundreds to be good: {_more_of(searched)}."
        )
    return pairs


def _more_of(searched: SearchResults) -> str:
    summary = searched.summary()
    if summary.status == "complete":
        return f"search more problems ({setting('problems')})"
    return (
        f"{summary.done} of {summary.problems} problems are searched so far; continue the search, or search "
        f"more problems ({setting('problems')})"
    )


def extract_settings(
    inputs: ExtractInputs, searched: SearchResults, pairs: Sequence[Pair]
) -> dict[str, object]:
    """What decides the result, the run and its pairs included, as the manifest holds it."""
    from pts.steering.lexicon import read_lexicon

    lexicon = None if inputs.lexicon is None else repr(read_lexicon(inputs.lexicon))
    return {
        **inputs.settings(),
        "lexicon": None if lexicon is None else text_digest([lexicon]),
        "search": dict(searched.manifest.settings),
        "pairs": text_digest(repr((pair.ids, pair.better, pair.worse)) for pair in pairs),
    }


def _extract(
    inputs: ExtractInputs,
    searched: SearchResults,
    pairs: list[Pair],
    directory: RunDirectory,
    settings: Mapping[str, object],
    observe: Observe,
) -> VectorSet | None:
    from pts.graders.undecided import undecided_by
    from pts.models.decoder_layers import decoder_layers
    from pts.problems import problem_digest
    from pts.stages.search.reload import load_again, untouched_problems

    calibration, test = untouched_problems(searched, inputs.calibration_problems, inputs.test_problems)
    earlier = None if inputs.fresh else directory.manifest
    if earlier is not None:
        require_same_problems(directory, earlier, [*calibration, *test])
    search = load_again(searched, inputs.device, earlier, trust_remote_code=inputs.trust_remote_code)
    layers = _layers(inputs, len(decoder_layers(search.loaded.model, inputs.layers_path)))
    if inputs.fresh and directory.manifest is not None:
        # First what a cleared directory could not explain.
        shutil.rmtree(directory.path / HARVEST_FOLDER, ignore_errors=True)
        directory.clear()
    settle_manifest(
        directory,
        settings=settings,
        resolved=searched.manifest.resolved,
        environment={
            "run": str(inputs.run),
            "search_created": searched.manifest.created,
            "device": str(search.loaded.device),
            "batch_rows": inputs.batch_rows,
        },
        problems=[problem_digest(problem) for problem in (*calibration, *test)],
    )
    harvested = _harvest(inputs, search, pairs, directory.path / HARVEST_FOLDER, observe)
    if inputs.until == "harvest":
        return None
    division = divide_pairs(inputs, pairs, harvested, layers)
    replace_text(directory.path / PATTERNS_NAME, patterns_text(inputs, division))
    if inputs.until == "cluster":
        return None
    directions, held_out = make_directions(inputs, search.loaded.model, pairs, harvested, division)
    calibrated, effects, completions = _choose(
        inputs, search, directions, layers, directory.path, calibration, test, observe
    )
    _note_undecided(directory, earlier, undecided_by(search.grade))
    made = _assemble(inputs, searched, directory, directions, held_out, calibrated, effects)
    counted = {phase: each.to_json() for phase, each in completions.items()}
    provenance = {**made.provenance, "completions": counted}
    vectors = replace(made, patterns=pattern_source(inputs, division), provenance=provenance)
    _write(inputs, directory.path, searched, search.loaded.model, pairs, division, vectors)
    return vectors


def _note_undecided(directory: RunDirectory, earlier: Manifest | None, undecided: int) -> None:
    """Keep in the manifest, and say, how many completions the grader could not decide in all sessions."""
    before = 0 if earlier is None else earlier.environment.get("undecided", 0)
    total = undecided + (before if isinstance(before, int) else 0)
    manifest = directory.manifest
    assert manifest is not None
    if total:
        directory.write_manifest(replace(manifest, environment={**manifest.environment, "undecided": total}))
        logger.warning(
            "%s: %d completions could not be compared with their reference answer; they count as wrong.",
            directory.path,
            total,
        )


def _layers(inputs: ExtractInputs, count: int) -> tuple[int, ...]:
    if inputs.layers is None:
        return tuple(sorted({round(share * (count - 1)) for share in LAYER_SHARES}))
    outside = [layer for layer in inputs.layers if not 0 <= layer < count]
    if outside or not inputs.layers:
        named = outside[0] if outside else "(none)"
        raise ConfigError(f"layer {named} is out of range: the model has decoder layers 0 to {count - 1}.")
    return inputs.layers


def require_same_problems(directory: RunDirectory, earlier: Manifest, problems: Sequence[Problem]) -> None:
    """Raise RunError where what is measured on is no longer what it was."""
    from pts.problems import problem_digest

    # Earlier versions listed the ids alone.
    same = [problem_digest(problem) for problem in problems], [problem.id for problem in problems]
    if earlier.problems not in map(list_problems, same):
        raise RunError(
            f"{directory.path} was measured on other problems: the data changed since. Restore it, or give "
            f"another {setting('output')}, or {setting('fresh', True)} to start again."
        )


def _harvest(
    inputs: ExtractInputs, search: Loaded, pairs: Sequence[Pair], folder: Path, observe: Observe
) -> Harvest:
    """Harvest anew: it costs one pass over the prefixes, less than finding out whether the old one is whole."""
    from pts.steering.harvest import harvest

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    done = 0

    def more(now: int) -> None:
        nonlocal done
        observe("harvest", now - done, now / len(pairs))
        done = now

    return harvest(
        search.loaded.model, pairs, folder, seed=inputs.seed, layers_path=inputs.layers_path, observe=more
    )


def _choose(
    inputs: ExtractInputs,
    search: Loaded,
    directions: Directions,
    layers: tuple[int, ...],
    folder: Path,
    calibration: Sequence[Problem],
    test: Sequence[Problem],
    observe: Observe,
) -> tuple[Calibrated, Mapping[str, Effect], Mapping[str, Completions]]:
    from pts.calibration.calibrate import Choices, calibrate, calibration_size
    from pts.calibration.effect import measure_effects
    from pts.calibration.evaluator import Evaluator
    from pts.evaluation.decoder import Decoder
    from pts.steering.vector_set import GateKind

    decoder = Decoder(
        search.loaded,
        search.sampling,
        search.prompt_format,
        search.grade,
        inputs.batch_rows,
        inputs.layers_path,
    )
    choices = Choices(
        inputs.methods,
        layers,
        inputs.strengths,
        cast(tuple[GateKind, ...], inputs.gates),
        inputs.controls(),
    )
    patterns = list(directions.by_pattern)
    to_do = calibration_size(len(patterns), choices, len(calibration)) * inputs.samples
    on_calibration = Evaluator(
        decoder,
        directions,
        calibration,
        inputs.samples,
        inputs.seed,
        folder / VECTORS.shard,
        lambda tokens, done: observe("calibration", tokens, done / to_do),
    )
    calibrated = calibrate(on_calibration, patterns, choices)
    to_measure = (1 + len(patterns) + choices.random) * len(test) * inputs.test_samples
    on_test = Evaluator(
        decoder,
        directions,
        test,
        inputs.test_samples,
        inputs.seed,
        folder / "effect.jsonl",
        lambda tokens, done: observe("effect", tokens, done / to_measure),
    )
    chosen = {pattern: setting for pattern, (setting, _) in calibrated.chosen.items()}
    effects = measure_effects(
        on_test, chosen, calibrated.controls, len(inputs.methods), divergence=inputs.divergence
    )
    completions = {"calibration": cut_of(on_calibration.measured), "effect": cut_of(on_test.measured)}
    for phase, counted in completions.items():
        search.warn_of_cut(f"{folder}, {phase}", counted)
    return calibrated, effects, completions


def _assemble(
    inputs: ExtractInputs,
    searched: SearchResults,
    directory: RunDirectory,
    directions: Directions,
    held_out: Mapping[str, list[Pair]],
    calibrated: Calibrated,
    effects: Mapping[str, Effect],
) -> VectorSet:
    from pts.steering.evidence import direction_evidence, gate_evidence
    from pts.steering.vector_set import SteeredModel, SteeringVector, VectorSet

    vectors = {}
    for pattern, (chosen, outcomes) in calibrated.chosen.items():
        sign = 1.0 if chosen.strength > 0 else -1.0
        fitted = directions.by_pattern[pattern]
        judged = fitted.of(held_out[pattern])
        by_layer = {
            layer: sign * directions.direction(pattern, chosen.method, layer) for layer in calibrated.layers
        }
        gate = directions.gate(chosen.gate, chosen.layer)
        evidence = {
            **direction_evidence(
                fitted, judged, chosen.method, chosen.layer, by_layer[chosen.layer], abs(chosen.strength)
            ),
            **gate_evidence(judged, gate, chosen.layer),
            "sign": int(sign),
            "calibration_success": outcomes.success,
        }
        vectors[pattern] = SteeringVector(
            pattern,
            chosen.method,
            by_layer,
            chosen.layer,
            abs(chosen.strength),
            gate,
            evidence,
        )
    whole = directions.whole
    config = whole.model.config.get_text_config(decoder=True)
    model = SteeredModel(
        searched.resolved.model_id,
        searched.resolved.model_revision,
        int(config.hidden_size),
        int(config.num_hidden_layers),
        inputs.layers_path,
    )
    norms = whole.harvest.residual_norms
    return VectorSet(
        model,
        tuple(norms[layer] for layer in range(model.layers)),
        vectors,
        effects,
        _provenance(inputs, searched, directory, calibrated),
        controls=tuple(directions.control(setting) for setting in calibrated.controls),
    )


def _provenance(
    inputs: ExtractInputs, searched: SearchResults, directory: RunDirectory, calibrated: Calibrated
) -> dict[str, object]:
    manifest = directory.manifest
    assert manifest is not None
    summary = searched.summary()
    return {
        "created": manifest.created,
        "dataset": searched.resolved.dataset_id,
        "problems_searched": summary.searched,
        "pivotal_tokens": summary.findings,
        "search": dict(searched.manifest.settings),
        "found": dict(searched.manifest.resolved),
        "seed": inputs.seed,
        "calibration_problems": inputs.calibration_problems,
        "calibration_by_way": {
            method: {"setting": setting.key, "success": outcomes.success}
            for method, (setting, outcomes) in calibrated.by_method.items()
        },
        "versions": dict(manifest.versions),
        "git_commit": manifest.git_commit,
    }


def _write(
    inputs: ExtractInputs,
    folder: Path,
    searched: SearchResults,
    model: object,
    pairs: Sequence[Pair],
    division: Division,
    vectors: VectorSet,
) -> None:
    """Write the set and what travels with it; vectors.json comes last, and says that all is there."""
    from pts.publishing.card import vector_set_card
    from pts.publishing.card_text import CARD_NAME
    from pts.steering.records import write_records_parquet
    from pts.steering.set_location import RECORDS_NAME
    from pts.steering.vector_files import save_vectors

    records = set_records(inputs, searched.resolved.problem_schema, model, pairs, division, vectors)
    write_records_parquet(folder / RECORDS_NAME, records)
    replace_text(folder / CARD_NAME, vector_set_card(vectors, folder.resolve().name, None, len(records)))
    save_vectors(vectors, folder)
