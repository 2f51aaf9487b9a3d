"""A measurement that a set carries: written into it, shown with it, replaced by more of the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_measure import write

from pts.cli import run
from pts.errors import ConfigError, RunError
from pts.publishing.card import vector_set_card
from pts.report.write_report import write_report
from pts.stages.measure.inputs import MeasureInputs
from pts.stages.measure.record import FIGURES
from pts.stages.measure.run import measure_set
from pts.steering.vector_files import load_vectors, vectors_digest

SMALL = ("--problems", "4", "--samples", "2")


@pytest.fixture
def data(tmp_path):
    """A file of eight problems."""
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {n} + 5 - 3 ?", "answer": str(n + 2)} for n in range(10, 18)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_set_carries_what_was_measured_and_steers_as_before(tmp_path, data):
    source = write(tmp_path / "set")
    before = vectors_digest(load_vectors(source))
    inputs = MeasureInputs(source, dataset=data, problems=4, samples=2, random=2, record=True)
    measured = measure_set(inputs)
    kept = load_vectors(source)
    assert vectors_digest(kept) == before
    (only,) = kept.measurements
    assert (only.dataset, only.problems, only.samples, only.seed) == ("sums.jsonl", 4, 2, 1)
    assert (only.unsteered, only.steered) == (measured.unsteered.success, measured.steered.success)
    assert (only.difference, only.low, only.high) == (measured.difference, measured.low, measured.high)
    assert (only.random, only.rank, only.race) == (measured.random_differences, measured.rank, False)
    assert (dict(only.strengths), only.model) == ({"all": 1.0}, "demo")
    assert kept.scaled(2.0).measurements == ()


def test_more_of_the_same_stands_in_its_place_and_anything_else_beside_it(tmp_path, data):
    source = write(tmp_path / "set")
    inputs = MeasureInputs(source, dataset=data, problems=3, samples=1, record=True)
    measure_set(inputs)
    measure_set(replace(inputs, problems=5))
    assert [each.problems for each in load_vectors(source).measurements] == [5]
    # Fewer problems of the same are kept beside: nobody asked to throw the larger one away.
    measure_set(inputs)
    measure_set(replace(inputs, seed=2))
    measure_set(replace(inputs, strengths={"all": 0.5}))
    measure_set(replace(inputs, dataset=None))
    other = Path(data).with_name("other") / "sums.jsonl"
    other.parent.mkdir()
    other.write_text("".join(reversed(Path(data).read_text().splitlines(keepends=True))))
    measure_set(replace(inputs, dataset=str(other)))
    kept = load_vectors(source).measurements
    assert [(each.on_what("demo"), each.problems, each.seed) for each in kept] == [
        ("sums.jsonl", 5, 1),
        ("sums.jsonl", 3, 1),
        ("sums.jsonl", 3, 2),
        ("sums.jsonl (all × 0.5)", 3, 1),
        ("demo, fresh problems", 3, 1),
        ("sums.jsonl", 3, 1),
    ]


def test_it_is_shown_wherever_the_set_is(tmp_path, data, capsys):
    source = write(tmp_path / "set")
    asked = ("vectors", "measure", source, "--dataset", data, *SMALL, "--random", "3", "--race", "--record")
    assert run([*asked, "--quiet"]) == 0
    capsys.readouterr()
    (kept,) = load_vectors(source).measurements
    assert kept.beside_random == f"{kept.rank} of 4, race"
    assert run(["vectors", "show", source]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    card = vector_set_card(load_vectors(source), "set", None, 0)
    page = write_report(Path(source), output=tmp_path / "page.html").read_text()
    for text in (shown, card, page):
        assert "Measured later" in text
        assert "sums.jsonl" in text
        assert f"{kept.low:+.3f} to {kept.high:+.3f}" in text
        assert "They were not calibrated" in text
    assert run(["vectors", "show", source, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measurements"][0]["problems"] == 4


def test_enough_random_vectors_give_a_p_value(tmp_path, data):
    source = write(tmp_path / "set")
    measure_set(MeasureInputs(source, dataset=data, problems=2, samples=1, random=19, record=True))
    (kept,) = load_vectors(source).measurements
    assert kept.beside_random == f"{kept.rank} of 20, p {kept.rank / 20:.3f}"


def test_random_vectors_that_were_recorded_are_not_lost_by_a_measurement_without_them(tmp_path, data):
    source = write(tmp_path / "set")
    beside = MeasureInputs(source, dataset=data, problems=2, samples=1, random=2, record=True)
    measure_set(beside)
    measure_set(replace(beside, random=0))
    assert [len(each.random) for each in load_vectors(source).measurements] == [2, 0]
    measure_set(replace(beside, random=3))
    assert [len(each.random) for each in load_vectors(source).measurements] == [3]


def test_a_set_without_later_measurements_says_nothing_of_them(tmp_path, capsys):
    source = write(tmp_path / "set")
    assert run(["vectors", "show", source]) == 0
    assert "Measured later" not in capsys.readouterr().out
    assert "Measured later" not in vector_set_card(load_vectors(source), "set", None, 0)
    assert "Measured later" not in write_report(Path(source), output=tmp_path / "page.html").read_text()


def test_nothing_is_written_into_a_set_that_comes_with_the_package(capsys):
    with pytest.raises(ConfigError, match=r"record.* writes into the set, and demo is no directory"):
        measure_set(MeasureInputs("demo", problems=1, samples=1, record=True))
    assert run(["vectors", "measure", "demo", "--record"]) != 0
    assert "--record writes into the set, and demo is no directory" in capsys.readouterr().err


def test_a_set_of_an_earlier_version_is_read_and_brought_up_to_date(tmp_path, data):
    source = write(tmp_path / "set")
    path = Path(source) / "vectors.json"
    earlier = json.loads(path.read_text()) | {"schema_version": 3}
    del earlier["measurements"]
    path.write_text(json.dumps(earlier))
    assert load_vectors(source).measurements == ()
    measure_set(MeasureInputs(source, dataset=data, problems=2, samples=1, record=True))
    assert json.loads(path.read_text())["schema_version"] == 4
    assert len(load_vectors(source).measurements) == 1


def test_figures_as_json(tmp_path, data, capsys):
    source = write(tmp_path / "set")
    assert run(["vectors", "measure", source, "--dataset", data, *SMALL, "--json", "--quiet"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == measure_set(MeasureInputs(source, dataset=data, problems=4, samples=2)).figures()


def test_the_example_of_a_kept_measurement_is_kept_too(tmp_path):
    output = tmp_path / "kept"
    inputs = MeasureInputs("demo", problems=8, samples=1, output=output)
    measured = measure_set(inputs)
    assert measured.example is not None
    kept = json.loads((output / FIGURES).read_text())
    assert kept["example"]["query"] == measured.example.query
    kept["example"]["steered"] = "as it was kept"
    (output / FIGURES).write_text(json.dumps(kept))
    assert measure_set(inputs).example.steered == "as it was kept"
    for broken in ("{", "[]", '{"example": {"query": "q"}}'):
        (output / FIGURES).write_text(broken)
        with pytest.raises(RunError, match=r"measured\.json cannot be read: delete it; what was"):
            measure_set(inputs)


def test_another_prompt_is_another_measurement(tmp_path, data):
    source, output = write(tmp_path / "set"), tmp_path / "kept"
    inputs = MeasureInputs(source, dataset=data, problems=2, samples=1, output=output)
    measure_set(inputs)
    manifest = json.loads((output / "manifest.json").read_text())
    begun = manifest["settings"].pop("prompt")
    (output / "manifest.json").write_text(json.dumps(manifest))
    measure_set(inputs)  # A folder of a version that kept no prompt goes on, and keeps it from now on.
    assert json.loads((output / "manifest.json").read_text())["settings"]["prompt"] == begun
    asked = Path(source) / "vectors.json"
    changed = json.loads(asked.read_text())
    changed["provenance"]["search"]["suffix"] = "Think."
    asked.write_text(json.dumps(changed))
    with pytest.raises(RunError, match=r"begun with other settings \(another prompt\)"):
        measure_set(inputs)
    shutil.rmtree(output)
    measure_set(inputs)
