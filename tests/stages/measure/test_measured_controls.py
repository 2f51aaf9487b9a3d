"""A set beside random vectors of its form, and a measurement that is kept and goes on."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from test_measure import ASKED, FOUND, LAYERS, WIDTH, write

from pts.calibration.set_controls import KEPT, UNSTEERED, SetControls
from pts.cli import run
from pts.errors import ConfigError, ModelError, RunError
from pts.evaluation.measured import Measured
from pts.evaluation.outcomes import Outcomes
from pts.report.vector_tables import measured_report
from pts.stages.measure.inputs import MeasureInputs
from pts.stages.measure.run import measure_set, resume_note
from pts.steering import interventions, load_vectors
from pts.steering.vector_files import save_vectors
from pts.steering.vector_set import Gate, SteeredModel, SteeringVector, VectorSet


def layered(folder):
    """A set with vectors at three layers, of unequal parts, behind a gate of tokens."""
    generator = torch.Generator().manual_seed(0)
    directions = {
        layer: torch.nn.functional.normalize(torch.randn(WIDTH, generator=generator), dim=0)
        for layer in (0, 2, 3)
    }
    gate = Gate("tokens", token_ids=tuple(range(5, 40)))
    vector = SteeringVector("all", "gradient", directions, 2, 6.0, gate, shares={0: 0.5, 2: 0.3, 3: 0.2})
    found = {"search": ASKED, "found": FOUND}
    kept = VectorSet(
        SteeredModel("demo", None, WIDTH, LAYERS), (10.0, 20.0, 30.0, 40.0, 50.0), {"all": vector}, {}, found
    )
    save_vectors(kept, folder)
    return str(folder)


def test_random_vectors_have_the_layers_norms_and_gates_of_the_set_and_directions_of_their_own(tmp_path):
    kept = interventions(load_vectors(layered(tmp_path)))
    controls = SetControls(kept, seed=3)
    unsteered, vectors, *random = controls.settings(40)
    assert (unsteered.method, vectors.method, len(random)) == (UNSTEERED, KEPT, 40)
    assert controls.interventions(unsteered) == ()
    assert controls.interventions(vectors) == kept
    drawn = [controls.interventions(each) for each in random]
    for variant in drawn:
        assert [each.layer for each in variant] == [0, 2, 3]
        assert all(one.gate is of.gate for one, of in zip(variant, kept, strict=True))
        for one, of in zip(variant, kept, strict=True):
            assert float(one.vector.norm()) == pytest.approx(float(of.vector.norm()), rel=1e-5)
    # Nearly orthogonal to the set's, to each other, and between the layers: 128 dimensions, a cosine of 0.09.
    flat = [torch.nn.functional.normalize(each.vector, dim=0) for variant in [kept, *drawn] for each in variant]
    cosines = torch.stack(flat) @ torch.stack(flat).T - torch.eye(len(flat))
    assert cosines.abs().max() < 0.5
    assert cosines.square().mean().sqrt() == pytest.approx(WIDTH**-0.5, rel=0.1)
    again = SetControls(kept, seed=3).interventions(random[0])
    assert all(torch.equal(one.vector, of.vector) for one, of in zip(again, drawn[0], strict=True))
    other = SetControls(kept, seed=4).interventions(random[0])
    assert not torch.equal(other[0].vector, again[0].vector)


def test_vectors_of_no_length_are_last_among_random_ones_of_none(tmp_path):
    inputs = MeasureInputs(write(tmp_path, strength=0.0), problems=4, samples=2, random=3)
    measured = measure_set(inputs)
    assert measured.random_differences == (0.0, 0.0, 0.0)
    assert (measured.rank, measured.p_value) == (4, 1.0)


def test_random_vectors_change_nothing_in_what_is_measured_beside_them(tmp_path):
    source = layered(tmp_path)
    alone = measure_set(MeasureInputs(source, problems=6, samples=3))
    beside = measure_set(MeasureInputs(source, problems=6, samples=3, random=2))
    for name in ("unsteered", "steered"):
        assert getattr(alone, name).sums == getattr(beside, name).sums
    assert alone.random == ()
    assert len({each.sums for each in beside.random}) == 2


def test_a_kept_measurement_goes_on_where_it_stopped_and_with_more_of_it(tmp_path):
    source, output = layered(tmp_path / "set"), tmp_path / "kept"
    inputs = MeasureInputs(source, problems=20, samples=4, random=2)
    whole = measure_set(inputs)
    assert measure_set(replace(inputs, output=output)).figures() == whole.figures()
    kept = json.loads((output / "measured.json").read_text())
    assert kept == {**whole.figures(), "example": kept["example"]}
    journal = output / "outcomes.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 2 * 4  # Two blocks, each with four systems.
    journal.write_text("".join(lines[:5]) + lines[5][:20])
    assert measure_set(replace(inputs, output=output)).figures() == whole.figures()
    assert sorted(journal.read_text().splitlines(keepends=True)) == sorted(lines)
    # Fewer problems draw nothing where the blocks are whole; more problems and more controls add theirs.
    fewer = measure_set(replace(inputs, output=output, problems=16))
    assert fewer.figures() == measure_set(replace(inputs, problems=16)).figures()
    assert len(journal.read_text().splitlines()) == 8
    more = measure_set(replace(inputs, output=output, problems=32, random=3))
    assert more.figures() == measure_set(replace(inputs, problems=32, random=3)).figures()
    # The fifth system on the two old ranges, and all five on the new one.
    assert len(journal.read_text().splitlines()) == 8 + 2 + 5


def test_few_vectors_are_kept_in_larger_ranges_which_more_of_them_keep_to(tmp_path):
    source, output = layered(tmp_path / "set"), tmp_path / "kept"
    inputs = MeasureInputs(source, problems=150, samples=1, output=output)
    measure_set(inputs)
    kept = (output / "outcomes.jsonl").read_text()
    ranges = [(line["first"], line["end"]) for line in map(json.loads, kept.splitlines())]
    assert ranges == [(0, 128), (0, 128), (128, 150), (128, 150)]
    measure_set(replace(inputs, random=9))
    more = (output / "outcomes.jsonl").read_text()
    assert more.startswith(kept)
    assert len(more.splitlines()) == 4 + 2 * 9


def test_a_kept_measurement_refuses_what_it_was_not_begun_with(tmp_path):
    source, output = layered(tmp_path / "set"), tmp_path / "kept"
    inputs = MeasureInputs(source, problems=4, samples=1, output=output)
    measure_set(inputs)
    kept = (output / "outcomes.jsonl").read_bytes()
    manifest = output / "manifest.json"
    own = manifest.read_text()
    other = json.loads(own)
    assert other["resolved"]["dtype"] == "float32"
    other["resolved"]["dtype"] = "float16"
    manifest.write_text(json.dumps(other))
    with pytest.raises(RunError, match="float16"):
        measure_set(inputs)
    manifest.write_text(own)
    with pytest.raises(RunError, match=r"other settings \(samples 1 → 2; seed 1 → 2; other problems\)"):
        measure_set(replace(inputs, samples=2, seed=2))
    with pytest.raises(RunError, match=r"other settings \(other vectors\): give what it was begun with, or"):
        measure_set(replace(inputs, vectors=write(tmp_path / "other")))
    with pytest.raises(RunError, match="other vectors"):
        measure_set(replace(inputs, strengths={"all": 2.0}))
    assert (output / "outcomes.jsonl").read_bytes() == kept
    with pytest.raises(RunError, match="output"):
        measure_set(replace(inputs, output=tmp_path / "set"))
    with pytest.raises(ConfigError, match=r"random.* is -1; it must be at least 0"):
        replace(inputs, random=-1)


def test_a_stopped_measurement_says_what_it_leaves(tmp_path):
    inputs = MeasureInputs(layered(tmp_path / "set"), problems=2, samples=1)
    assert resume_note(inputs) == "nothing is kept without output=."
    kept = replace(inputs, output=tmp_path / "kept")
    assert resume_note(kept) == "nothing had been measured yet."
    measure_set(kept)
    assert resume_note(kept) == f"2 measurements are kept in {tmp_path / 'kept'}; the same command continues."


def test_the_model_may_be_elsewhere_and_must_be_the_same(tmp_path):
    source = write(tmp_path / "set", asked={**ASKED, "model": "./gone"})
    inputs = MeasureInputs(source, problems=3, samples=1)
    with pytest.raises(ModelError, match="gone"):
        measure_set(inputs)
    assert measure_set(replace(inputs, model="demo")).unsteered.samples == 1


@pytest.mark.parametrize(("count", "said"), [(2, "proves nothing: a test at 5% needs 19"), (19, "p 0.050 for")])
def test_the_report_says_what_the_rank_proves(count, said):
    none, all_ = Outcomes.of(1, (0, 0), (5, 5), (0, 0)), Outcomes.of(1, (1, 1), (5, 5), (0, 0))
    measured = Measured(none, all_, 1.0, 1.0, 1.0, None, (none,) * count)
    text = " ".join(str(part) for part in measured_report(measured).renderables)
    assert f"rank 1 of {count + 1}" in text
    assert said in text


def test_the_command_measures_controls_and_keeps_them(tmp_path, capsys):
    command = ["vectors", "measure", layered(tmp_path / "set"), "--problems", "3", "--samples", "1", "--random"]
    command += ["2", "--output", str(tmp_path / "kept"), "--quiet"]
    assert run(command) == 0
    first = capsys.readouterr().out
    assert "rank" in first
    shutil.rmtree(tmp_path / "set")
    layered(tmp_path / "set")
    assert run(command) == 0
    assert capsys.readouterr().out == first
