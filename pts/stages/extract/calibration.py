"""The part `calibrate` of an extraction: layer, strength, gate and method, and the effect that they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pts.records import Completions, Problem
from pts.runs.vector_run import VECTORS
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.shared.cut_completions import cut_of

if TYPE_CHECKING:
    from pts.calibration.calibrate import Calibrated
    from pts.calibration.measurer import Measurer
    from pts.calibration.settings import Directions
    from pts.evaluation.decoder import Decoder
    from pts.evaluation.steered_examples import SteeredExamples
    from pts.stages.search.reload import Loaded
    from pts.steering.pairs import Pair
    from pts.steering.vector_set import Effect, VectorSet

Observe = Callable[[str, int, float], None]
"""Told of the phase, how much more is done (pairs of the harvest, generated tokens of the rest), and the share
of the phase that is done."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What calibration chose, the effects on the test problems, and the completions of both, by phase."""

    calibrated: Calibrated
    effects: Mapping[str, Effect]
    completions: Mapping[str, Completions]


def choose(
    inputs: ExtractInputs,
    search: Loaded,
    directions: Directions,
    layers: tuple[int, ...],
    folder: Path,
    calibration: Sequence[Problem],
    test: Sequence[Problem],
    observe: Observe,
    measurer: Measurer | None = None,
) -> Choice:
    """Choose on the calibration problems and measure on the test problems. Raises PtsError.

    `measurer` makes the completions, None in this process.
    """
    from pts.calibration.calibrate import Choices, calibrate, calibration_size
    from pts.calibration.effect import measure_effects
    from pts.calibration.evaluator import Evaluator
    from pts.steering.vector_set import GateKind

    decoder = stage_decoder(inputs, search) if measurer is None else loaded_decoder(inputs, search)
    choices = Choices(
        inputs.methods,
        (layers[len(layers) // 2],) if inputs.together else layers,
        inputs.strengths,
        cast(tuple[GateKind, ...], inputs.tried_gates()),
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
        measurer=measurer,
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
        measurer=measurer,
    )
    chosen = {pattern: setting for pattern, (setting, _) in calibrated.chosen.items()}
    effects = measure_effects(
        on_test, chosen, calibrated.controls, len(inputs.methods), divergence=inputs.divergence
    )
    completions = {"calibration": cut_of(on_calibration.measured), "effect": cut_of(on_test.measured)}
    for phase, counted in completions.items():
        search.warn_of_cut(f"{folder}, {phase}", counted)
    return Choice(calibrated, effects, completions)


def examples_of(
    inputs: ExtractInputs,
    search: Loaded,
    vectors: VectorSet,
    test: Sequence[Problem],
    held_out: Mapping[str, Sequence[Pair]],
) -> SteeredExamples:
    """A few test problems decoded unsteered and steered, and the choice at held-out pivots both ways.

    The loaded model makes them, whatever engine the inputs name: it also reads them, and they are few.
    """
    from pts.evaluation.steered_examples import steered_examples

    return steered_examples(loaded_decoder(inputs, search), vectors, test, held_out, inputs.seed)


def loaded_decoder(inputs: ExtractInputs, search: Loaded) -> Decoder:
    """What makes completions with the loaded model itself."""
    from pts.evaluation.decoder import Decoder

    return Decoder(
        search.loaded,
        search.sampling,
        search.prompt_format,
        search.grade,
        inputs.batch_rows,
        inputs.layers_path,
    )


def stage_decoder(inputs: ExtractInputs, search: Loaded) -> Decoder:
    """What makes the completions of calibration and test, on the engine that the inputs name."""
    from pts.policies.open import TRANSFORMERS
    from pts.policies.vllm.served import serve_model

    decoder, options = loaded_decoder(inputs, search), search.loaded.options
    if inputs.engine == TRANSFORMERS or options is None:
        return decoder
    # A server chose its own device.
    options = replace(options, device="auto") if inputs.endpoint is not None else options
    served = serve_model(options, inputs.batch_rows, beside=True, server=inputs.server())
    return replace(decoder, served=served)
