"""An evaluation on the demo model: paired answers, right sums, and a run that can be cut and extended."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from pts.demo.registration import demo_model_dir
from pts.errors import ConfigError, DataError, PtsError, RunError
from pts.evaluation.items import Item
from pts.evaluation.systems import SWEEP, System
from pts.report.evaluation_cells import note
from pts.runs.journal import Journal
from pts.runs.lock import sole_writer
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import resume_note, run_evaluation
from pts.steering import load_vectors, save_vectors

SMALL = EvaluateInputs(
    problems=4, levels=(1, 2), strategies=("full", "min:20"), seeds=2, sweep=(0.25,), device="cpu"
)
LIGHT = replace(SMALL, strategies=("full", "nothink"), baselines=False, sweep=SWEEP)


def items(run):
    return {item.key: item for item in Journal(run.directory() / "items.jsonl", Item).read()}


def same(first, second):
    """Whether two runs have the same answers; only their times differ."""
    return {key: untimed(item) for key, item in first.items()} == {
        key: untimed(item) for key, item in second.items()
    }


def untimed(item):
    return replace(item, ledger=replace(item.ledger, seconds=0.0))


def of_line(found, name):
    return {key[1:]: untimed(replace(item, line="")) for key, item in found.items() if item.line == name}


def with_controls(path, count):
    """The bundled set with so many random directions at its layer, as a set of its own."""
    demo = load_vectors("demo")
    pattern = next(iter(demo.vectors))
    drawn = torch.randn(count, demo.model.hidden_size, generator=torch.Generator().manual_seed(0))
    layer = demo.vectors[pattern].layer
    controls = tuple(
        replace(demo.vectors[pattern], method="random", directions={layer: row}, evidence={})
        for row in torch.nn.functional.normalize(drawn, dim=1)
    )
    save_vectors(replace(demo, controls=controls, effects={}), path)
    return str(path)


@pytest.fixture(scope="module")
def two_controls(tmp_path_factory):
    return with_controls(tmp_path_factory.mktemp("vectors") / "set", 2)


@pytest.fixture(scope="module")
def whole(two_controls, tmp_path_factory):
    run = replace(SMALL, vectors=two_controls, output=tmp_path_factory.mktemp("evals") / "whole")
    return run, run_evaluation(run)


def test_every_line_answers_every_problem_with_every_seed(whole):
    run, summary = whole
    names = {line.name for line in summary.lines}
    fixed = {"full", "nothink", "budget:24", "min:20"}
    assert names == fixed | {f"{name} + vectors" for name in fixed}
    controls = {f"full + random direction {number}" for number in (1, 2)}
    every = {(name, f"demo-test-0-{n}", k) for name in names for n in range(4) for k in range(2)}
    assert set(items(run)) == every | {(name, f"demo-test-0-{n}", 0) for name in controls for n in range(4)}
    assert {line.name for line in summary.lines if line.asked} == {
        "full",
        "min:20",
        "full + vectors",
        "min:20 + vectors",
    }


def test_the_table_is_what_the_items_say(whole):
    run, summary = whole
    found = items(run)
    for line in summary.lines:
        own = [item for item in found.values() if item.line == line.name]
        assert line.success == pytest.approx(np.mean([item.success for item in own]))
        assert line.tokens == pytest.approx(np.mean([item.ledger.total for item in own]))
        assert line.cut == np.mean([item.ledger.finish != "end" for item in own])
        assert line.success_low <= line.success <= line.success_high
        for item in own:
            assert item.success == (item.ended and f"The answer is {item.reference} ." in item.answer)
    assert summary.items == len(found)
    assert summary.tokens_generated == sum(item.ledger.total for item in found.values())
    assert summary.chance is None
    full = next(line for line in summary.lines if line.name == "full")
    assert full.tokens_ratio == 1.0


def test_the_comparisons_are_the_ablations(whole):
    _, summary = whole
    assert [(entry.kind, entry.line, entry.against) for entry in summary.comparisons] == [
        ("steering", "full + vectors", "full"),
        ("steering", "min:20 + vectors", "min:20"),
        ("budget", "min:20", "frontier (unsteered)"),
        ("budget", "min:20 + vectors", "frontier (steered)"),
        ("full", "min:20", "full"),
        ("full", "min:20 + vectors", "full"),
    ]
    by_name = {line.name: line for line in summary.lines}
    first = summary.comparisons[0]
    assert first.difference == pytest.approx(by_name["full + vectors"].success - by_name["full"].success)
    assert all(entry.corrected >= entry.p_value for entry in summary.comparisons)
    assert set(summary.frontiers) == {"none", "vectors"}


def test_the_direction_is_ranked_among_the_sets_own_controls(whole):
    run, summary = whole
    found, test = items(run), summary.direction
    first = [found["full + vectors", f"demo-test-0-{n}", 0].success for n in range(4)]
    assert test.line == "full + vectors"
    assert test.success == np.mean(first)
    for number, reached in enumerate(test.controls, start=1):
        own = [found[f"full + random direction {number}", f"demo-test-0-{n}", 0] for n in range(4)]
        assert reached == np.mean([item.success for item in own])
    assert test.rank == 1 + sum(reached >= test.success for reached in test.controls)
    assert test.p_value == test.rank / 3
    assert not test.passed
    assert "With so few it proves nothing: at least 19 are needed." in note(summary)
    # The vectors at 0 are the model as it is, and so is every control: ties count against them.
    still = replace(
        run, pattern={next(iter(load_vectors("demo").vectors)): 0.0}, output=run.output.parent / "0"
    )
    tied = run_evaluation(replace(still, strategies=("full",), sweep=())).direction
    assert (tied.rank, set(tied.controls)) == (3, {tied.success})


def test_without_controls_there_is_no_answer_and_a_reason(two_controls, tmp_path):
    bare = tmp_path / "bare"
    save_vectors(replace(load_vectors(two_controls), controls=()), bare)
    run = replace(SMALL, strategies=("full",), problems=1, seeds=1, sweep=(), output=tmp_path / "run")
    summary = run_evaluation(replace(run, vectors=str(bare)))
    assert summary.direction.rank is None
    assert "the set has no random directions" in note(summary)
    assert {key[0] for key in items(run)} == {"full", "full + vectors", "nothink", "nothink + vectors"}
    both = dict.fromkeys(list(load_vectors("demo").vectors)[:2], 0.5)
    summed = replace(run, vectors=two_controls, pattern=both, output=tmp_path / "both")
    assert "several patterns are added at once" in note(run_evaluation(summed))
    plain = replace(run, output=tmp_path / "plain")
    assert run_evaluation(plain).direction is None
    lonely = replace(run, vectors=two_controls, baselines=False, sweep=SWEEP, output=tmp_path / "lonely")
    assert run_evaluation(lonely).direction is None


def test_answers_are_paired_by_common_random_numbers(tmp_path):
    """A budget that never binds and a vector of strength 0 give the very same answers."""
    pattern = next(iter(load_vectors("demo").vectors))
    run = replace(
        LIGHT,
        strategies=("full", "budget:95"),
        vectors="demo",
        pattern={pattern: 0.0},
        levels=(3,),
        output=tmp_path / "run",
    )
    run_evaluation(run)
    found = items(run)
    plain = of_line(found, "full")
    assert plain == of_line(found, "full + vectors")
    assert plain == of_line(found, "budget:95")
    # The seeds differ, so do the answers.
    assert any(plain[problem, 0].ledger != plain[problem, 1].ledger for problem, _ in plain)


def test_a_complete_run_is_left_as_it_is(whole):
    run, summary = whole
    before = {path.name: path.read_bytes() for path in run.output.iterdir() if not path.name.startswith(".")}
    assert set(before) == {"manifest.json", "items.jsonl", "summary.json", "report.html", "frontier.png"}
    seen = []
    again = run_evaluation(run, seen.append)
    assert seen == []
    assert json.dumps(again.lines[0].success) == json.dumps(summary.lines[0].success)
    after = {path.name: path.read_bytes() for path in run.output.iterdir() if not path.name.startswith(".")}
    assert after == before


def test_a_run_that_was_killed_goes_on_to_the_same_answers(whole, tmp_path):
    run, summary = whole
    cut = replace(run, output=tmp_path / "cut")
    shutil.copytree(run.output, cut.output)
    lines = (cut.output / "items.jsonl").read_bytes().splitlines(keepends=True)
    (cut.output / "items.jsonl").write_bytes(b"".join(lines[:70]) + lines[70][:40])
    (cut.output / "summary.json").unlink()
    assert "70 answers are kept" in resume_note(cut)
    seen = []
    again = run_evaluation(cut, seen.append)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (1, len(lines) - 70, len(lines) - 70)
    assert same(items(cut), items(run))
    assert again.lines == summary.lines


def test_more_problems_seeds_and_strategies_extend_a_run(tmp_path):
    first = replace(LIGHT, strategies=("nothink",), problems=3, seeds=1, output=tmp_path / "grown")
    run_evaluation(first)
    begun = (first.output / "items.jsonl").read_bytes()
    more = replace(LIGHT, output=first.output)
    summary = run_evaluation(more)
    assert (first.output / "items.jsonl").read_bytes().startswith(begun)
    assert (summary.problems, summary.seeds) == (4, 2)
    at_once = replace(more, output=tmp_path / "at-once")
    assert run_evaluation(at_once) == summary
    assert same(items(more), items(at_once))
    fewer = run_evaluation(first)
    assert (fewer.problems, fewer.seeds, len(fewer.lines)) == (3, 1, 1)


def test_another_configuration_is_refused_and_fresh_replaces_it(whole, tmp_path):
    run, _ = whole
    for changed, said in (
        (replace(run, seed=1), "seed 0 → 1"),
        (replace(run, temperature=0.9), "temperature 0.6 → 0.9"),
        (replace(run, vectors=None), 'vectors .*/set" → null'),
        (replace(run, budget=64), "budget 96 → 64"),
        (replace(run, pattern={"unlabelled": 2.0}), "pattern"),
    ):
        with pytest.raises(RunError, match=said):
            run_evaluation(changed)
    own = replace(LIGHT, strategies=("nothink",), problems=2, seeds=1, output=tmp_path / "own")
    run_evaluation(own)
    other = replace(own, seed=4, fresh=True)
    run_evaluation(other)
    assert {item.problem for item in items(other).values()} == {"demo-test-4-0", "demo-test-4-1"}


def test_a_directory_in_use_is_refused(whole):
    run, _ = whole
    with sole_writer(run.output), pytest.raises(RunError, match="in use"):
        run_evaluation(run)


def test_data_that_changed_is_refused(tmp_path):
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps({"id": "a", "question": "What is 2 + 3 ?", "answer": "5"}) + "\n")
    run = replace(
        LIGHT,
        dataset=str(file),
        levels=None,
        problems=None,
        seeds=1,
        strategies=("nothink",),
        output=tmp_path / "o",
    )
    assert run_evaluation(run).dataset_id == "d.jsonl"
    file.write_text(json.dumps({"id": "a", "question": "What is 2 + 4 ?", "answer": "6"}) + "\n")
    with pytest.raises(RunError, match="problem a changed"):
        run_evaluation(run)


def test_a_single_seed_is_tested_by_mcnemar(whole, tmp_path):
    run = replace(LIGHT, seeds=1, problems=8, output=tmp_path / "run")
    summary = run_evaluation(run)
    (only,) = summary.comparisons
    found = items(run)
    keys = [f"demo-test-0-{n}" for n in range(8)]
    gaps = [found["nothink", key, 0].success - found["full", key, 0].success for key in keys]
    assert only.difference == pytest.approx(np.mean(gaps))
    b, c = gaps.count(1), gaps.count(-1)
    assert only.p_value == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)


@pytest.fixture(scope="module")
def thoughtless(tmp_path_factory):
    """The demo model under other tags, which nobody knows for think tags."""
    path = tmp_path_factory.mktemp("models") / "thoughtless"
    shutil.copytree(demo_model_dir(), path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        text = (path / name).read_text()
        (path / name).write_text(text.replace("<think>", "<hm>").replace("</think>", "</hm>"))
    return str(path)


def test_a_model_that_does_not_think_goes_without_the_baselines_that_need_it(thoughtless, tmp_path, caplog):
    run = replace(
        SMALL, model=thoughtless, strategies=("full",), problems=2, budget=96, output=tmp_path / "run"
    )
    caplog.set_level("WARNING", logger="pts")
    summary = run_evaluation(run)
    assert [line.name for line in summary.lines] == ["full"]
    assert set(summary.left_out) == {"nothink", "budget:24"}
    assert "baselines left out: nothink, budget:24: strategy nothink needs a model that thinks" in caplog.text
    assert run_evaluation(run) == summary
    named = replace(run, strategies=("full", "budget:24"), output=tmp_path / "other")
    with pytest.raises(PtsError, match="budget:24 needs a model that thinks"):
        run_evaluation(named)
    assert not named.output.exists()
    told = replace(named, think_start="<hm>", think_end="</hm>")
    assert {line.name for line in run_evaluation(told).lines} == {"full", "nothink", "budget:24"}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"strategies": ("ful",)}, ConfigError, "did you mean full"),
        ({"dataset": "gsm8"}, ConfigError, "did you mean gsm8k"),
        (
            {"dataset": "d.jsonl", "data": "e.jsonl"},
            ConfigError,
            "data='e.jsonl' replaces the data of a named data set",
        ),
        ({"seeds": 0}, ConfigError, "seeds is 0"),
        ({"problems": 0}, ConfigError, "must be at least 1"),
        ({"pattern": {"x": 1.0}}, ConfigError, "give one by vectors="),
        ({"vectors": "demo", "pattern": {"x": 1.0}}, ConfigError, "has no pattern x"),
        ({"vectors": "nowhere"}, PtsError, "nowhere does not exist"),
        ({"dataset": "gsm8k"}, ConfigError, "levels"),
        ({"dataset": "gsm8k", "levels": None, "data": "nowhere.jsonl"}, DataError, "nowhere.jsonl"),
        ({"budget": 1000}, ConfigError, "positions"),
        ({"top_p": 0.0}, ConfigError, "top-p"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        run_evaluation(replace(SMALL, output=tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_vectors_of_another_model(thoughtless, tmp_path):
    run = replace(SMALL, model=thoughtless, vectors="demo", output=tmp_path / "out")
    with pytest.raises(PtsError, match="the vectors were made for demo"):
        run_evaluation(run)
    assert not run.output.exists()


def test_a_random_router_is_given_the_shares_of_the_routers_own(tmp_path):
    run = replace(SMALL, problems=6, strategies=("auto",), router="demo", sweep=(), output=tmp_path / "run")
    random = System("auto", routing="random").name
    earlier = None
    # At other shares, the answers of the random router are made again.
    for count in (6, 8):
        summary = run_evaluation(replace(run, problems=count))
        found = items(run).values()
        routes = [item.route for item in found if item.line == "auto"]
        shares = {route: routes.count(route) / len(routes) for route in ("hard", "none")}
        assert len(routes) == 2 * count
        assert 0 < shares["hard"] < 1
        assert next(line for line in summary.lines if line.name == "auto").routes == shares
        drawn = [item for item in found if item.line == random]
        assert len(drawn) == 2 * count
        assert all(item.router_shares == shares for item in drawn)
        assert {item.route for item in drawn} == {"hard", "none"}
        assert shares != earlier
        earlier = shares
    assert ("routing", "auto", random) in [
        (entry.kind, entry.line, entry.against) for entry in summary.comparisons
    ]
