"""A set measured on fresh problems: paired, with common random numbers, and refused where it cannot be."""

from dataclasses import replace

import pytest
import torch

from pts.errors import ConfigError, RunError
from pts.evaluation.steered_examples import (
    PROBLEMS,
    MovedPivot,
    SteeredExamples,
    read_examples,
    write_examples,
)
from pts.stages.measure.inputs import MeasureInputs
from pts.stages.measure.run import measure_set
from pts.steering.set_location import EXAMPLES_NAME
from pts.steering.vector_files import save_vectors
from pts.steering.vector_set import Gate, SteeredModel, SteeringVector, VectorError, VectorSet

WIDTH, LAYERS = 128, 5
ASKED = {
    "model": "demo",
    "dataset": "demo",
    "levels": [2, 3],
    "thinking": True,
    "sampling": {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0, "budget": 96},
    "search": {"threshold": 0.2},
}
FOUND = {
    "model_id": "demo",
    "model_revision": None,
    "dtype": "float32",
    "think_end": "</think>",
    "dataset_id": "demo",
    "problem_schema": "demo",
    "grader": "demo",
}


def write(folder, strength=0.4, asked=ASKED, width=WIDTH):
    direction = torch.nn.functional.normalize(
        torch.randn(width, generator=torch.Generator().manual_seed(0)), dim=0
    )
    vector = SteeringVector("all", "gradient", {3: direction}, 3, strength, Gate())
    model = SteeredModel("demo", None, width, LAYERS)
    provenance = {"search": asked, "found": FOUND} if asked else {}
    save_vectors(VectorSet(model, (100.0,) * LAYERS, {"all": vector}, {}, provenance), folder)
    return str(folder)


def test_a_vector_of_no_length_changes_nothing(tmp_path):
    measured = measure_set(MeasureInputs(write(tmp_path, strength=0.0), problems=6, samples=3))
    assert measured.difference == measured.low == measured.high == 0.0
    assert measured.steered.tokens.tolist() == measured.unsteered.tokens.tolist()
    assert 0 < measured.unsteered.success < 1
    assert measured.example is None


def test_a_strong_vector_changes_what_is_written_and_a_factor_of_zero_does_not(tmp_path):
    source = write(tmp_path, strength=4.0)
    strong = measure_set(MeasureInputs(source, problems=6, samples=3))
    assert strong.steered.tokens.tolist() != strong.unsteered.tokens.tolist()
    assert strong.low <= strong.difference <= strong.high
    off = measure_set(MeasureInputs(source, {"all": 0.0}, problems=6, samples=3))
    assert off.steered.tokens.tolist() == off.unsteered.tokens.tolist() == strong.unsteered.tokens.tolist()


def test_examples_are_written_into_the_set_and_keep_its_pivots(tmp_path):
    source = write(tmp_path, strength=2.0)
    inputs = MeasureInputs(source, problems=5, samples=1, examples=True)
    measure_set(inputs)
    first = read_examples(tmp_path)
    (pattern,) = first.patterns.values()
    assert len(pattern.completions) == PROBLEMS
    assert all(len(one.opened) == len(one.tokens) - 1 for one in pattern.completions)
    assert pattern.pivots == ()
    pivot = MovedPivot("before", "better", "worse", 1.0, 0.0, 0.2, 0.4, 0.5, 0.1)
    write_examples(tmp_path, SteeredExamples({"all": replace(pattern, pivots=(pivot,), completions=())}))
    measure_set(inputs)
    assert read_examples(tmp_path).patterns["all"] == replace(pattern, pivots=(pivot,))
    (tmp_path / EXAMPLES_NAME).write_text("{}")
    with pytest.raises(RunError, match=r"examples\.json cannot be read \(missing: patterns\): delete it"):
        read_examples(tmp_path)
    with pytest.raises(ConfigError, match="writes into the set, and demo is no directory"):
        measure_set(replace(inputs, vectors="demo"))


def test_what_cannot_be_measured_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no pattern nothing; it has all"):
        measure_set(MeasureInputs(write(tmp_path), {"nothing": 1.0}))
    with pytest.raises(ConfigError, match="does not say what search"):
        measure_set(MeasureInputs(write(tmp_path, asked=None)))
    with pytest.raises(ConfigError, match=r"made on svamp\.jsonl: name problems"):
        measure_set(MeasureInputs(write(tmp_path, asked={**ASKED, "dataset": "svamp.jsonl", "levels": None})))
    with pytest.raises(VectorError, match="do not fit"):
        measure_set(MeasureInputs(write(tmp_path, width=64), problems=1))
