"""`pts extract-vectors` and `pts vectors show`: what they print; bad input is one line, nothing is written."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from pts.cli import run
from pts.cli.interrupts import Stopped
from pts.demo.problems import demo_problems
from pts.problems import problem_digest
from pts.records import Problem
from pts.runs.manifest import read_manifest, write_manifest
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search
from pts.steering.vector_files import save_vectors
from pts.steering.vector_set import Effect, Gate, SteeredModel, SteeringVector, VectorSet
from tests.cli.one_line import complaint

QUESTIONS, COPIES, FREE = 6, 20, 6


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def problems():
    """A few questions, each under many ids, and some more questions at the end."""
    every = demo_problems("train", QUESTIONS + FREE, 0, (2, 3))
    copies = [
        Problem(f"{copy}.{number}", every[number].query, every[number].answer)
        for copy in range(COPIES)
        for number in range(QUESTIONS)
    ]
    return [*copies, *every[QUESTIONS:]]


@pytest.fixture(scope="module")
def few(problems, tmp_path_factory):
    """A search of the questions under their first ids."""
    folder = tmp_path_factory.mktemp("few")
    rows = [{"id": p.id, "question": p.query, "answer": p.answer} for p in problems]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_search(
        SearchInputs(
            dataset=str(folder / "d.jsonl"),
            grader="numeric",
            problems=QUESTIONS,
            threshold=0.4,
            thinking=True,
            traces=4,
            output=folder / "run",
        )
    )
    return folder / "run"


def lines(path):
    return [json.loads(line) for line in (path / "problems.jsonl").read_text().splitlines()]


def rewritten(path, new, changed):
    """A copy of a run with other lines."""
    shutil.copytree(path, new)
    (new / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    return new


@pytest.fixture(scope="module")
def many(few, problems, tmp_path_factory):
    """The run that the search of every copy would be."""
    known = {line["result"]["query"]: line for line in lines(few)}
    changed = [
        {
            **known[problem.query],
            "digest": problem_digest(problem),
            "result": {**known[problem.query]["result"], "problem_id": problem.id},
        }
        for problem in problems[: QUESTIONS * COPIES]
    ]
    path = rewritten(few, tmp_path_factory.mktemp("many") / "run", changed)
    manifest = read_manifest(path)
    count = replace(manifest.problems, count=QUESTIONS * COPIES)
    write_manifest(path, replace(manifest, problems=count))
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--methods", "dance"), "methods has dance; choose from preference, gradient"),
        (("--gates", "always,never"), "gates has never; choose from probe, entropy"),
        (("--layers", "3,x"), "--layers"),
        (("--strengths", "0.4,-1"), "each must be above 0"),
        (("--samples", "0"), "samples is 0"),
        (("--random", "0"), "random is 0"),
        ((), "nowhere does not exist. Give the directory that `pts search --output` wrote"),
    ],
)
def test_bad_settings(capsys, tmp_path, arguments, said):
    assert said in complaint(capsys, "extract-vectors", "nowhere", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_search(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is not a run" in complaint(capsys, "extract-vectors", "empty", "--output", "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_without_confirmed_pivots(capsys, tmp_path, few):
    bare = [{**line, "contexts": [], "result": {**line["result"], "candidates": []}} for line in lines(few)]
    path = rewritten(few, tmp_path / "run", bare)
    said = complaint(capsys, "extract-vectors", path, "--output", "out")
    assert "no pivotal token: search more problems" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_too_few_pairs_says_how_many_and_what_to_do(capsys, tmp_path, few):
    said = complaint(capsys, "extract-vectors", few, "--output", "out")
    assert "measured pairs of" in said
    assert "at least 24 of 8" in said
    assert "search more problems (--problems)" in said
    assert not (tmp_path / "out").exists()


def test_too_few_pairs_of_an_unfinished_search_say_so(capsys, tmp_path, few):
    begun = rewritten(few, tmp_path / "run", lines(few)[:-1])
    said = complaint(capsys, "extract-vectors", begun, "--output", "out")
    assert "problems are searched so far; continue the search, or search more problems (--problems)" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layers", "5"), "layer 5 is out of range: the model has decoder layers 0 to 4"),
        (("--layers=-1",), "layer -1 is out of range"),
        (("--layers-path", "model.blocks"), "no list of decoder blocks at 'model.blocks'"),
        (("--lexicon", "words.yaml"), "lexicon words.yaml cannot be read"),
        (("--test-problems", "9"), f"d.jsonl has {FREE} problems that the search did not draw; 12 are needed"),
        (("--device", "cuda:7"), "cuda:7"),
    ],
)
def test_what_a_run_cannot_give(capsys, tmp_path, many, arguments, said):
    enough = ("--calibration-problems", 3, "--test-problems", 3, "--output", "out/set")
    assert said in complaint(capsys, "extract-vectors", many, *enough, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_itself_is_no_place_for_a_set(capsys, many):
    before = sorted(path.name for path in many.iterdir())
    for fresh in ((), ("--fresh",)):
        said = complaint(capsys, "extract-vectors", many, "--output", many, *fresh)
        assert "another kind of run (search, not vectors)" in said
    assert sorted(path.name for path in many.iterdir()) == before


def a_set(found=True):
    """A set of two patterns, with an effect that is clear of its controls or one that is not."""
    direction = torch.nn.functional.normalize(torch.arange(1.0, 9.0), dim=0)
    evidence = {"pairs": 31, "shift": 0.361, "auc": 0.734, "halves_cosine": None}
    random = (0.01, -0.02) * 10 if found else (0.01, 0.31)
    vectors = {
        "all": SteeringVector("all", "gradient", {2: direction}, 2, 0.4, Gate(), evidence),
        "organization": SteeringVector(
            "organization", "preference", {1: direction}, 1, 0.8, Gate("tokens", token_ids=(3,)), {"pairs": 9}
        ),
    }
    effect = Effect("all", 64, 4, 0.512, 0.634, 0.122, 0.043, 0.201, 0.95, random, 30.0, 41.0, 0.0213)
    return VectorSet(SteeredModel("m", None, 8, 3), (2.0, 3.0, 10.0), vectors, {"all": effect})


def row(out, pattern):
    """The cells of the first line of a table about a pattern."""
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [pattern])


def test_show_tells_patterns_norms_held_out_numbers_and_effect(capsys, tmp_path):
    save_vectors(a_set(), tmp_path / "set")
    assert run(["vectors", "show", "set"]) == 0
    out = capsys.readouterr().out
    assert row(out, "all") == ["all", "gradient", "2", "0.4", "4.0", "always", "31", "+0.36", "0.73", "–"]
    assert row(out, "organization")[:7] == ["organization", "preference", "1", "0.8", "2.4", "tokens", "9"]
    effect = out[out.index("Effect on 64 test problems × 4") :]
    assert row(effect, "all")[1:7] == ["0.512", "0.634", "+0.122", "+0.043", "to", "+0.201"]
    assert row(effect, "all")[7:11] == ["+0.010", "1", "of", "21"]
    assert "all: raises success" in out
    assert "no effect found" not in out


def test_show_says_where_no_effect_was_found(capsys, tmp_path):
    save_vectors(a_set(found=False), tmp_path / "set")
    assert run(["vectors", "show", "set"]) == 0
    out = capsys.readouterr().out
    assert "all: no effect found" in out
    assert "rank 2 of 3" in out
    assert "raises success" not in out
    save_vectors(a_set().scaled(2), tmp_path / "other")
    assert run(["vectors", "show", "other"]) == 0
    assert "No effect was measured" in capsys.readouterr().out


def test_show_as_json_is_all_but_the_tensors(capsys, tmp_path):
    save_vectors(a_set(), tmp_path / "set")
    assert run(["vectors", "show", "set", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "set" / "vectors.json").read_text())


def test_show_of_what_is_no_set(capsys, tmp_path):
    (tmp_path / "notes").mkdir()
    assert "notes is not a vector set: it has no vectors.json" in complaint(capsys, "vectors", "show", "notes")
    assert "does not exist" in complaint(capsys, "vectors", "show", "./nowhere")


def test_the_options_reach_the_stage_and_its_set_is_printed(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "pts.stages.extract.run.run_extract", lambda inputs, _: (asked.append(inputs), a_set())[1]
    )
    given = ("--methods", "pca, ridge", "--layers", "1,2", "--strengths", "0.2,1", "--gates", "tokens")
    assert run(["extract-vectors", "r", "--output", "o", *given, "--test-samples", "3", "--quiet"]) == 0
    (inputs,) = asked
    assert (str(inputs.run), str(inputs.output)) == ("r", "o")
    assert inputs == ExtractInputs(
        run=inputs.run,
        output=inputs.output,
        methods=("pca", "ridge"),
        layers=(1, 2),
        strengths=(0.2, 1.0),
        gates=("tokens",),
        test_samples=3,
    )
    captured = capsys.readouterr()
    assert "all: raises success" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("begun", "more", "said"),
    [
        (False, (), "nothing had been written yet"),
        (True, (), "what was measured is kept in out; the same command continues"),
        (True, ("--fresh",), "kept in out; the same command without --fresh continues"),
    ],
)
def test_an_interrupt_says_what_is_left(capsys, tmp_path, monkeypatch, begun, more, said):
    def stop(inputs, _observe):
        if begun:
            inputs.directory().mkdir()
            (inputs.directory() / "manifest.json").write_text("{}")
        raise Stopped(2)

    monkeypatch.setattr("pts.stages.extract.run.run_extract", stop)
    monkeypatch.setattr("pts.cli.quiet_from_now_on", lambda: None)
    assert run(["extract-vectors", "r", "--output", "out", *more]) == 130
    captured = capsys.readouterr()
    assert captured.err.startswith("pts: stopped; ")
    assert said in captured.err
