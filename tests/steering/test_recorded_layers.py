"""The module with the decoder blocks is named once: what was made with it holds it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pts.decoding.steered_decoder import SteeredDecoder
from pts.errors import ModelError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.records import Sampling
from pts.runs.manifest import Manifest, ProblemList
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.measure.inputs import MeasureInputs
from pts.stages.measure.run import measure_set
from pts.stages.shared.recorded_layers import with_recorded_layers
from pts.steering import load_vectors, steer
from pts.steering.vector_files import save_vectors

PATH = "model.layers"


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelOptions())


@pytest.fixture(scope="module")
def vectors():
    return load_vectors("demo")


def named(vectors, path):
    return replace(vectors, model=replace(vectors.model, layers_path=path), directory=None)


def test_a_set_keeps_the_module_that_it_was_made_with(vectors, tmp_path):
    save_vectors(named(vectors, PATH), tmp_path)
    assert load_vectors(tmp_path).model.layers_path == PATH
    assert vectors.model.layers_path is None  # A set of a version that kept none.


def test_steering_looks_where_the_set_says_unless_it_is_told(loaded, vectors):
    with pytest.raises(ModelError, match="'nowhere'"), steer(loaded.model, named(vectors, "nowhere")):
        pass
    with steer(loaded.model, named(vectors, "nowhere"), layers_path=PATH):
        pass


def test_a_decoder_looks_where_the_set_says_unless_it_is_told(loaded, vectors):
    wrong = named(vectors, "nowhere")
    with pytest.raises(ModelError, match="'nowhere'"):
        SteeredDecoder(loaded, wrong, sampling=Sampling(budget=8)).generate(["What is 2 + 5 ?"])
    told = SteeredDecoder(loaded, wrong, layers_path=PATH, sampling=Sampling(budget=8))
    assert told.generate(["What is 2 + 5 ?"])


def test_a_measurement_looks_where_the_set_says(vectors, tmp_path):
    save_vectors(named(vectors, "nowhere"), tmp_path)
    with pytest.raises(ModelError, match="'nowhere'"):
        measure_set(MeasureInputs(str(tmp_path), problems=2, samples=1))


@pytest.mark.parametrize(
    "inputs", [ExtractInputs(Path("run")), EvaluateInputs(vectors="demo")], ids=["extract-vectors", "eval"]
)
def test_a_run_that_goes_on_keeps_what_it_was_told(inputs):
    earlier = Manifest("any", "2026-03-01", {"layers_path": PATH}, {}, {}, ProblemList(0, ""), {})
    assert with_recorded_layers(inputs, earlier).layers_path == PATH
    assert with_recorded_layers(replace(inputs, layers_path="other"), earlier).layers_path == "other"
    assert with_recorded_layers(replace(inputs, fresh=True), earlier).layers_path is None
    assert with_recorded_layers(inputs, None).layers_path is None
