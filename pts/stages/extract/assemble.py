"""From what an extraction chose to the vector set and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pts.runs.directory import RunDirectory
from pts.runs.files import replace_text
from pts.runs.search_run import SearchResults
from pts.runs.search_summary import search_summary
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.extract.patterns import Division, set_records

if TYPE_CHECKING:
    from pts.calibration.calibrate import Calibrated
    from pts.calibration.settings import Directions
    from pts.steering.pairs import Pair
    from pts.steering.vector_set import Effect, VectorSet


def assemble(
    inputs: ExtractInputs,
    searched: SearchResults,
    directory: RunDirectory,
    directions: Directions,
    held_out: Mapping[str, list[Pair]],
    calibrated: Calibrated,
    effects: Mapping[str, Effect],
) -> VectorSet:
    """The vector set of the chosen settings, with its effects, controls and provenance."""
    from pts.steering.evidence import direction_evidence, gate_evidence
    from pts.steering.vector_set import SteeredModel, SteeringVector, VectorSet

    vectors = {}
    for pattern, (chosen, outcomes) in calibrated.chosen.items():
        sign = 1.0 if chosen.strength > 0 else -1.0
        fitted = directions.by_pattern[pattern]
        judged = fitted.of(held_out[pattern])
        by_layer, shares = directions.placed(chosen, calibrated.layers)
        gate = directions.gate(chosen.gate, chosen.layer)
        added = {each.layer: each.vector for each in directions.interventions(chosen)}
        evidence = {
            **direction_evidence(fitted, judged, chosen.method, chosen.layer, added),
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
            shares,
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
    summary = search_summary(searched)
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


def write_set(
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
