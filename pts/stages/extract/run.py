"""The stage `extract-vectors`: from a search's run directory to a vector set with a measured effect."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError, DataError, RunError
from pts.records import Problem
from pts.runs.directory import RunDirectory, open_run
from pts.runs.files import replace_text
from pts.runs.manifest import Manifest, list_problems, text_digest
from pts.runs.search_run import ROLLOUTS, SearchResults, read_search
from pts.runs.search_summary import search_summary
from pts.runs.settle import settle_manifest
from pts.runs.vector_run import HARVEST_FOLDER, VECTORS
from pts.setting_names import setting
from pts.stages.extract.assemble import assemble, write_set
from pts.stages.extract.calibration import Observe, choose, examples_of
from pts.stages.extract.inputs import FROM_ROLLOUTS, ExtractInputs
from pts.stages.extract.patterns import (
    HELD_OUT,
    PATTERNS_NAME,
    divide_pairs,
    make_directions,
    pattern_source,
    patterns_text,
)
from pts.stages.shared.ray_cluster import require_reachable
from pts.stages.shared.recorded_layers import with_recorded_layers

if TYPE_CHECKING:
    from pts.stages.extract.ray_measure import MeasureOnRay
    from pts.stages.search.reload import Again, Loaded
    from pts.steering.harvest import Harvest
    from pts.steering.pairs import Pair
    from pts.steering.training_rollouts import TrainingRollouts
    from pts.steering.vector_set import VectorSet

logger = logging.getLogger(__name__)

LEAST_PAIRS, LEAST_PROBLEMS = 24, 8
"""Pairs, and problems that they are of, without which nothing can be fitted and judged."""
LAYER_SHARES = (0.25, 0.5, 0.75)
"""Depths that calibration tries where no layers are named."""


def run_extract(inputs: ExtractInputs, observe: Observe | None = None) -> VectorSet | None:
    """Harvest, find patterns, calibrate and measure; write the vector set. A complete one is left as it is.

    A stopped extraction goes on: every measurement is kept as it is made. Nothing is written before the run,
    the model and the problems have been found good. None where `until` ends it before there is a set. Raises
    PtsError.
    """
    from pts.steering.set_location import JSON_NAME
    from pts.steering.vector_files import load_vectors

    searched = read_search(inputs.run)
    if inputs.ray is not None:
        inputs.check_ray(inputs.device, str(searched.manifest.settings.get("model")))
        require_reachable(inputs.ray)  # Refused now and not after the harvest.
    pairs = enough_pairs(searched)
    if "outcome" in inputs.methods:
        _rollouts(inputs, searched, pairs).sample()  # Refused now and not after the harvest.
    if "screened" in inputs.methods and not _rollouts(inputs, searched, pairs).screened(pairs):
        raise DataError(
            f"{searched.path} has no rollouts that avoid a token: the method screened reads the journal of a "
            f"search (its folder {ROLLOUTS})."
        )
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
    summary = search_summary(searched)
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
    summary = search_summary(searched)
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
    from pts.lexicon import read_lexicon

    lexicon = None if inputs.lexicon is None else repr(read_lexicon(inputs.lexicon))
    return {
        **inputs.settings(),
        "lexicon": None if lexicon is None else text_digest([lexicon]),
        "search": dict(searched.manifest.settings),
        "pairs": text_digest(repr((pair.ids, pair.better, pair.worse)) for pair in pairs),
        **({"rollout_tokens": searched.tokens_spent} if set(FROM_ROLLOUTS) & set(inputs.methods) else {}),
    }


def _rollouts(inputs: ExtractInputs, searched: SearchResults, pairs: Sequence[Pair]) -> TrainingRollouts:
    """The journal's rollouts of the problems that are not held out."""
    from pts.stages.search.reload import searched_inputs
    from pts.steering.pairs import split_problems
    from pts.steering.training_rollouts import TrainingRollouts

    _, held_out = split_problems(pairs, HELD_OUT, inputs.seed)
    sampling = searched_inputs(searched).sampling()
    return TrainingRollouts.of_run(searched, sampling, {pair.problem_id for pair in held_out}, inputs.seed)


def _extract(
    inputs: ExtractInputs,
    searched: SearchResults,
    pairs: list[Pair],
    directory: RunDirectory,
    settings: Mapping[str, object],
    observe: Observe,
) -> VectorSet | None:
    from pts.evaluation.steered_examples import write_examples
    from pts.graders.undecided import undecided_by
    from pts.models.decoder_layers import decoder_layers
    from pts.problems import problem_digest
    from pts.stages.search.reload import to_load_again, untouched_problems

    calibration, test = untouched_problems(searched, inputs.calibration_problems, inputs.test_problems)
    earlier = None if inputs.fresh else directory.manifest
    if earlier is not None:
        require_same_problems(directory, earlier, [*calibration, *test])
    again = to_load_again(searched, inputs.device, earlier, trust_remote_code=inputs.trust_remote_code)
    search = again.load()
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
    rollouts = _rollouts(inputs, searched, pairs)
    directions, held_out = make_directions(
        inputs, search.loaded.model, pairs, harvested, division, rollouts, layers
    )
    with _measurer(inputs, again, search) as measurer:
        on = (calibration, test, observe, measurer)
        choice = choose(inputs, search, directions, layers, directory.path, *on)
        undecided = undecided_by(search.grade) + (0 if measurer is None else measurer.undecided)
    _note_undecided(directory, earlier, undecided)
    made = assemble(inputs, searched, directory, directions, held_out, choice.calibrated, choice.effects)
    counted = {phase: each.to_json() for phase, each in choice.completions.items()}
    provenance = {**made.provenance, "completions": counted}
    vectors = replace(made, patterns=pattern_source(inputs, division), provenance=provenance)
    write_examples(directory.path, examples_of(inputs, search, vectors, test, held_out))
    write_set(inputs, directory.path, searched, search.loaded.model, pairs, division, vectors)
    return vectors


@contextmanager
def _measurer(inputs: ExtractInputs, again: Again, search: Loaded) -> Iterator[MeasureOnRay | None]:
    """Workers on Ray that make the completions, None where this process does."""
    if inputs.ray is None:
        yield None
        return
    from pts.stages.extract.ray_measure import MeasureOnRay, open_pool

    pool = open_pool(inputs, again, search)
    try:
        yield MeasureOnRay(pool)
    finally:
        pool.close()


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
        shares = {round(share * (count - 1)) for share in LAYER_SHARES}
        return tuple(range(count)) if inputs.together else tuple(sorted(shares))
    outside = [layer for layer in inputs.layers if not 0 <= layer < count]
    if outside or not inputs.layers:
        named = outside[0] if outside else "(none)"
        raise ConfigError(f"layer {named} is out of range: the model has decoder layers 0 to {count - 1}.")
    return tuple(sorted(set(inputs.layers))) if inputs.together else inputs.layers


def require_same_problems(directory: RunDirectory, earlier: Manifest, problems: Sequence[Problem]) -> None:
    """Raise RunError where what is measured on is no longer what it was."""
    from pts.problems import problem_digest

    # Earlier versions listed the ids alone.
    same = [problem_digest(problem) for problem in problems], [problem.id for problem in problems]
    if earlier.problems not in map(list_problems, same):
        raise RunError(
            f"{directory.path} was measured on other problems: the data changed since then. "
            f"Restore the data, give another {setting('output')}, or "
            f"{setting('fresh', True)} to start again."
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
