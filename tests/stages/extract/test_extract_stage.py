"""The stage that makes vectors, on the demo model: what is written, continued, refused and left alone."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from pts.cli.commands import cli
from pts.errors import ConfigError, DataError, GraderError, RunError
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import run_variants
from pts.evaluation.steered_examples import PIVOTS, PROBLEMS, read_examples
from pts.models.frozen import with_contiguous_states
from pts.runs.search_run import read_search
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.extract.patterns import HELD_OUT
from pts.stages.extract.run import enough_pairs, run_extract, warn_of_unfinished
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import load_again, searched_inputs, untouched_problems
from pts.stages.search.run import run_search
from pts.steering.graded_rollouts import arms_of
from pts.steering.hooks import interventions
from pts.steering.pairs import measured_pairs, split_problems
from pts.steering.records import read_records_parquet
from pts.steering.screened_pairs import screened_pairs
from pts.steering.training_rollouts import TrainingRollouts
from pts.steering.vector_algebra import control_sets
from pts.steering.vector_files import load_vectors, vectors_digest, vectors_json

pytestmark = pytest.mark.slow

RECORD_FIELDS = [
    *("pivot_context", "pivot_token", "pivot_token_id", "prob_before", "prob_after", "prob_delta"),
    *("model_id", "task_type", "steering_vector", "cluster_id", "reasoning_pattern", "cluster_vector"),
    "steering_layer",
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    output = tmp_path_factory.mktemp("searched") / "run"
    run_search(
        SearchInputs(problems=24, levels=(2, 3, 4), threshold=0.3, thinking=True, traces=2, output=output)
    )
    return read_search(output)


@pytest.fixture(scope="module")
def small(searched, tmp_path_factory):
    return ExtractInputs(
        run=searched.path,
        output=tmp_path_factory.mktemp("small") / "set",
        methods=("gradient",),
        layers=(3,),
        strengths=(0.4,),
        gates=("tokens", "always"),
        calibration_problems=8,
        samples=2,
        test_problems=8,
        test_samples=2,
        random=2,
    )


class Spent:
    """What a stage said that it did, by phase, and the shares done that it said on the way."""

    def __init__(self):
        self.phases = {}
        self.shares = {}

    def __call__(self, phase, more, share):
        self.phases[phase] = self.phases.get(phase, 0) + more
        self.shares.setdefault(phase, []).append(share)


@pytest.fixture(scope="module")
def spent():
    return Spent()


@pytest.fixture(scope="module")
def made(small, spent):
    return run_extract(small, spent)


def names(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def files(folder):
    """Every file's bytes and time of writing, but for the lock's."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def result(folder):
    """All that a set says, without the time and the commit at which it was made."""
    described = json.loads((folder / "vectors.json").read_text())
    del described["provenance"]["created"], described["provenance"]["git_commit"]
    kept = ("vectors.safetensors", "patterns.json", "calibration.jsonl", "effect.jsonl", "examples.json")
    records = pq.read_table(folder / "records.parquet").to_pylist()
    return described, records, [(folder / name).read_bytes() for name in kept]


def journal(folder, name="calibration.jsonl"):
    path = folder / name
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def tokens(entries):
    return sum(sum(entry["tokens"]) for entry in entries)


def test_a_set_has_examples_of_its_test_problems_and_held_out_pivots(small, searched, made):
    examples = read_examples(small.output)
    assert examples.patterns.keys() == made.vectors.keys()
    _, test = untouched_problems(searched, small.calibration_problems, small.test_problems)
    _, held_out = split_problems(measured_pairs(searched), HELD_OUT, small.seed)
    pivots = examples.patterns["all"].pivots
    assert [(pivot.better, pivot.worse) for pivot in pivots] == [
        (pair.better.token, pair.worse.token) for pair in held_out[:PIVOTS]
    ]
    shift = np.mean([log_odds(pivot, "steered") - log_odds(pivot, "plain") for pivot in pivots])
    assert np.sign(shift) == np.sign(made.vectors["all"].evidence["shift"])
    for pattern in examples.patterns.values():
        assert [one.problem for one in pattern.completions] == [problem.id for problem in test[:PROBLEMS]]
        for one in pattern.completions:
            assert len(one.tokens) == len(one.plain) == len(one.steered)
            # What was drawn while steered is possible when read steered.
            assert min(one.steered) > 0
            assert one.success == (one.answer in "".join(one.tokens).rpartition("</think>")[2].split())


def log_odds(pivot, reading):
    """log p(better) − log p(worse), with what the sampler cuts off at a thousandth."""
    return np.log(max(1e-3, getattr(pivot, f"better_{reading}"))) - np.log(
        max(1e-3, getattr(pivot, f"worse_{reading}"))
    )


def test_what_a_set_has(small, made):
    assert names(small.output) == {
        *("manifest.json", "calibration.jsonl", "effect.jsonl", "harvest", "patterns.json"),
        *("vectors.safetensors", "vectors.json", "records.parquet", "README.md", "examples.json"),
    }
    assert len({path.stat().st_mode for path in small.output.iterdir() if path.is_file()}) == 1
    manifest = json.loads((small.output / "manifest.json").read_text())
    assert (manifest["kind"], manifest["problems"]["count"]) == ("vectors", 16)
    assert manifest["settings"]["strengths"] == [0.4]
    assert manifest["resolved"]["model_id"] == "demo"
    described = json.loads((small.output / "vectors.json").read_text())
    counted = described["provenance"]["completions"]
    assert counted["effect"]["drawn"] == (1 + len(made.vectors) + 2) * 8 * 2
    assert 0 <= counted["calibration"]["cut"] <= counted["calibration"]["drawn"]
    assert 0 <= described["effects"]["all"]["cut_unsteered"] <= 1
    assert json.loads((small.output / "patterns.json").read_text())["labels"]
    with pytest.raises(ConfigError, match="patterns is words; choose from auto, clusters, labels"):
        replace(small, patterns="words")
    card = (small.output / "README.md").read_text()
    assert card.startswith("---\n")
    assert "all" in card


def test_what_is_returned_is_what_is_loaded(small, made):
    loaded = load_vectors(small.output)
    assert vectors_json(loaded) == vectors_json(made)
    for pattern, vector in made.vectors.items():
        assert loaded.vectors[pattern].directions.keys() == vector.directions.keys() == {3}
        for layer, direction in vector.directions.items():
            assert torch.equal(loaded.vectors[pattern].directions[layer], direction)
            assert float(direction.norm()) == pytest.approx(1.0, abs=1e-5)


def test_a_set_says_how_it_steers_and_what_held_out_pairs_say(searched, made):
    assert next(iter(made.vectors)) == "all"
    vector = made.vectors["all"]
    assert (vector.method, vector.layer, vector.strength) == ("gradient", 3, 0.4)
    assert vector.gate.kind in ("tokens", "always")
    assert len(made.residual_norms) == made.model.layers
    assert min(made.residual_norms) > 0
    evidence = vector.evidence
    assert evidence["pairs"] + evidence["held_out_pairs"] == len(enough_pairs(searched))
    assert evidence["sign"] in (-1, 1)
    assert 0 <= evidence["shift_positive"] <= 1
    assert 0 <= evidence["auc"] <= 1
    assert -1 <= evidence["halves_cosine"] <= 1
    assert 0 <= evidence["calibration_success"] <= 1


def test_a_set_says_what_it_did(made, spent):
    assert set(made.effects) == set(made.vectors)
    effect = made.effects["all"]
    assert (effect.problems, effect.samples, effect.level) == (8, 2, 0.95)
    assert 0 <= effect.unsteered <= 1
    assert effect.difference == pytest.approx(effect.steered - effect.unsteered)
    assert -1 <= effect.low <= effect.difference <= effect.high <= 1
    assert len(effect.random) == 2
    assert effect.methods == 1
    assert not effect.found
    assert all(-1 <= difference <= 1 for difference in effect.random)
    assert 0 < effect.tokens_unsteered <= 96
    assert 0 < effect.tokens_steered <= 96
    assert effect.kl_per_token > 0
    assert set(spent.phases) >= {"harvest", "calibration", "effect"}


def test_controls_are_stored_as_they_were_calibrated(searched, small, made):
    """What the set holds of a control, added once more, gives the differences that the effect names."""
    raced = {entry["setting"] for entry in journal(small.output)}
    assert len(made.controls) == 2
    for number, control in enumerate(made.controls):
        assert (control.pattern, control.method) == (f"random-{number}", "random")
        assert list(control.directions) == [control.layer] == [3]
        assert {f"all/random-{number}/layer 3/{sign}0.4/{control.gate.kind}" for sign in "+-"} & raced
    assert abs(float(made.controls[0].direction @ made.controls[1].direction)) < 0.5
    _, problems = untouched_problems(searched, small.calibration_problems, small.test_problems)
    again = load_again(searched, "cpu", trust_remote_code=True)
    assert again.inputs.model_options().trust_remote_code
    variants = [interventions(one) for one in control_sets(made, "control")]
    decoder = Decoder(again.loaded, again.sampling, again.prompt_format, again.grade)
    with decoder.steered(variants) as policy:
        found = run_variants(
            policy, again.sampling, problems, again.grade, [0, 1, 2], small.test_samples, small.seed
        )
    differences = [found[number].success - found[0].success for number in (1, 2)]
    assert differences == pytest.approx(made.effects["all"].random)


def test_progress_counts_every_pair_and_every_token(searched, small, made, spent):
    assert spent.phases["harvest"] == len(enough_pairs(searched))
    assert spent.phases["calibration"] == tokens(journal(small.output))
    assert spent.phases["effect"] == tokens(journal(small.output, "effect.jsonl"))
    for shares in spent.shares.values():
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_there_is_a_record_for_each_pair(searched, small, made):
    assert pq.read_schema(small.output / "records.parquet").names == RECORD_FIELDS
    records = read_records_parquet(small.output / "records.parquet")
    pairs = enough_pairs(searched)
    assert [record.pivot_token for record in records] == [pair.taken.token for pair in pairs]
    for record, pair in zip(records, pairs, strict=True):
        assert record.pivot_context == pair.before
        assert record.prob_delta == pytest.approx(record.prob_after - record.prob_before)
        assert (record.model_id, record.task_type) == ("demo", "demo")
        vector = made.vectors.get(record.reasoning_pattern, made.vectors["all"])
        assert record.steering_layer == vector.layer
        torch.testing.assert_close(torch.tensor(record.cluster_vector), made.added(vector.pattern))
        assert made.patterns.groups[record.cluster_id].name == record.reasoning_pattern
    assert len({record.steering_vector for record in records}) > len(records) / 2


def test_a_records_own_vector_raises_its_own_better_token(searched, small, made):
    # Added at the pivot itself, by steering a pass over the text up to it: the ids are those of the search.
    model = load_again(searched, "cpu").loaded.model
    records = read_records_parquet(small.output / "records.parquet")
    raised = []
    for record, pair in zip(records, enough_pairs(searched), strict=True):
        ids = torch.tensor([pair.ids])
        own = torch.tensor(record.steering_vector)

        def add(_module, _args, output, own=own):
            output[:, -1] += 0.1 * own

        def preference(ids=ids, pair=pair):
            logits = model(input_ids=ids).logits[0, -1]
            return float(logits[pair.better.token_id] - logits[pair.worse.token_id])

        with torch.no_grad():
            before = preference()
            handle = model.model.layers[record.steering_layer].register_forward_hook(add)
            raised.append(preference() - before)
            handle.remove()
    assert min(raised) > 0


def test_a_set_says_what_its_patterns_are_made_of(searched, small, made, tmp_path):
    source = made.patterns
    assert (source.requested, source.basis) == ("auto", "labels" if source.clusters == 1 else "clusters")
    assert sum(group.pairs for group in source.groups) == len(enough_pairs(searched))
    assert {"all", *(group.name for group in source.groups if group.no_vector is None)} == set(made.vectors)
    card = (small.output / "README.md").read_text()
    shown = CliRunner().invoke(cli, ["vectors", "show", str(small.output)]).output
    for text in (card, shown):
        assert f"The patterns are {source.basis}" in " ".join(text.split())
        for group in source.groups:
            assert (f"{group.name}: no vector of its own" in text) == (group.no_vector is not None)
    asked = {}
    for basis in ("labels", "clusters"):
        run = replace(small, output=tmp_path / basis, patterns=basis, until="cluster")
        run_extract(run)
        asked[basis] = json.loads((run.output / "patterns.json").read_text())
        assert asked[basis]["basis"] == asked[basis]["requested"] == basis
    by_label = {group["name"]: len(group["members"]) for group in asked["labels"]["groups"]}
    assert by_label == Counter(asked["labels"]["labels"])


def test_a_second_run_leaves_a_set_as_it_is(small, made):
    before, again = files(small.output), Spent()
    assert vectors_json(run_extract(small, again)) == vectors_json(made)
    assert run_extract(replace(small, batch_rows=4), again) is not None
    assert again.phases == {}
    assert files(small.output) == before


def test_another_setting_is_refused_by_name(small, made, tmp_path):
    before = files(small.output)
    with pytest.raises(RunError, match=r"samples 2 → 3") as caught:
        run_extract(replace(small, samples=3))
    assert "fresh=True" in str(caught.value)
    with pytest.raises(RunError, match=r'gates \["tokens", "always"\] → \["always"\]; seed 0 → 1'):
        run_extract(replace(small, gates=("always",), seed=1))
    lexicon = tmp_path / "words.yaml"
    lexicon.write_text("doubt: [wait]\n")
    with pytest.raises(RunError, match="lexicon null → "):
        run_extract(replace(small, lexicon=lexicon))
    assert files(small.output) == before


def test_fresh_starts_anew_and_makes_the_same_set(small, made, tmp_path):
    again = replace(small, output=tmp_path / "set", fresh=True)
    shutil.copytree(small.output, again.output)
    (again.output / "calibration.jsonl").write_text("measured under other settings\n")
    (again.output / "notes.txt").write_text("mine")
    run_extract(again)
    assert result(again.output) == result(small.output)
    assert (again.output / "notes.txt").read_text() == "mine"


class Interrupt:
    """Observes, and raises once a phase goes on after its journal has some lines."""

    def __init__(self, folder, phase):
        self.folder, self.phase, self.phases = folder, phase, Spent()

    def __call__(self, phase, more, share):
        self.phases(phase, more, share)
        name = "effect.jsonl" if phase == "effect" else "calibration.jsonl"
        if phase == self.phase and journal(self.folder, name):
            raise KeyboardInterrupt


def test_a_stopped_extraction_goes_on_to_the_same_set(small, made, tmp_path, monkeypatch):
    import pts.models.load as loading

    models, load_model = [], loading.load_model

    def load(options):
        models.append(load_model(options))
        return models[-1]

    monkeypatch.setattr(loading, "load_model", load)
    run = replace(small, output=tmp_path / "set")
    with pytest.raises(KeyboardInterrupt):
        run_extract(run, Interrupt(run.output, "calibration"))
    kept = (run.output / "calibration.jsonl").read_bytes()
    assert 0 < len(kept) < (small.output / "calibration.jsonl").stat().st_size
    assert not (run.output / "vectors.json").exists()
    with (run.output / "calibration.jsonl").open("ab") as shard:
        shard.write(b'{"setting":"all/gradient/la')
    with pytest.raises(KeyboardInterrupt):
        run_extract(run, second := Interrupt(run.output, "effect"))
    measured = (run.output / "calibration.jsonl").read_bytes()
    assert measured == (small.output / "calibration.jsonl").read_bytes()
    assert measured.startswith(kept)
    new = [json.loads(line) for line in measured[len(kept) :].splitlines()]
    assert second.phases.phases["calibration"] == tokens(new)
    assert second.phases.shares["calibration"][-1] == 1.0
    run_extract(run, last := Spent())
    assert "calibration" not in last.phases
    assert result(run.output) == result(small.output)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    assert len(models) == 3
    for loaded in models:
        left = [
            hook
            for module in loaded.model.modules()
            for kind in hooks
            for hook in getattr(module, kind).values()
        ]
        assert all(hook is with_contiguous_states for hook in left)


def test_an_extraction_may_end_after_a_part_of_it(small, made, tmp_path):
    run = replace(small, output=tmp_path / "set")
    assert run_extract(replace(run, until="harvest")) is None
    assert names(run.output) == {"manifest.json", "harvest"}
    assert run_extract(replace(run, until="cluster")) is None
    assert names(run.output) == {"manifest.json", "harvest", "patterns.json"}
    assert (run.output / "patterns.json").read_bytes() == (small.output / "patterns.json").read_bytes()


def write_problems(path, count):
    rows = [{"id": f"q{n}", "question": f"What is {n} + 3 ?", "answer": str(n + 3)} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def ids(problems):
    return [problem.id for problem in problems]


def test_problems_to_measure_on_are_those_that_the_search_did_not_draw(tmp_path):
    data = tmp_path / "d.jsonl"
    rows = write_problems(data, 9)
    run = SearchInputs(dataset=str(data), grader="numeric", problems=2, output=tmp_path / "run", traces=1)
    run_search(run)
    searched = read_search(run.output)
    calibration, test = untouched_problems(searched, 3, 4)
    assert (ids(calibration), ids(test)) == (["q2", "q3", "q4"], ["q5", "q6", "q7", "q8"])
    with pytest.raises(DataError, match=r"has 7 problems that the search did not draw; 8 are needed"):
        untouched_problems(searched, 4, 4)
    rows[4]["answer"] = "eleven"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(GraderError, match="eleven"):
        untouched_problems(searched, 3, 4)
    rows[1]["answer"] = "5"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="problem q1 changed since"):
        untouched_problems(searched, 1, 1)


def test_a_question_under_two_ids_is_on_one_side_only(tmp_path):
    data = tmp_path / "d.jsonl"
    rows = write_problems(data, 9)
    questions = [0, 1, 1, 2, 3, 0, 2, 4, 5]  # two are searched, two calibrated on, two tested on
    written = [{**rows[question], "id": f"r{n}"} for n, question in enumerate(questions)]
    written[6]["question"] = "What is  2 + 3 ?"
    data.write_text("".join(json.dumps(row) + "\n" for row in written))
    run = SearchInputs(dataset=str(data), grader="numeric", problems=2, output=tmp_path / "run", traces=1)
    run_search(run)
    searched = read_search(run.output)
    calibration, test = untouched_problems(searched, 2, 2)
    assert (ids(calibration), ids(test)) == (["r3", "r4"], ["r7", "r8"])
    with pytest.raises(DataError, match=r"has 4 problems .* without those that repeat a question \(3\); 5 are"):
        untouched_problems(searched, 2, 3)


def test_problems_with_given_traces_are_drawn_wherever_they_stand(tmp_path):
    data, traces = tmp_path / "d.jsonl", tmp_path / "t.jsonl"
    write_problems(data, 5)
    traces.write_text(json.dumps({"id": "q3", "completion": "<think> First"}) + "\n")
    run = SearchInputs(dataset=str(data), grader="numeric", traces_from=traces, output=tmp_path / "run")
    run_search(run)
    calibration, test = untouched_problems(read_search(run.output), 2, 2)
    assert (ids(calibration), ids(test)) == (["q0", "q1"], ["q2", "q4"])


def test_demo_problems_to_measure_on_come_from_the_other_splits(searched):
    calibration, test = untouched_problems(searched, 6, 6)
    assert not set(ids(calibration)) & set(ids(test))
    queries = {problem.query for problem in (*calibration, *test)}
    assert len(queries) == 12
    assert not queries & {result.query for result in searched.results}


def test_an_unfinished_search_is_named(searched, caplog):
    with caplog.at_level("WARNING"):
        warn_of_unfinished(searched)
        assert not caplog.records
        warn_of_unfinished(replace(searched, lines=searched.lines[:-1]))
    assert "is not finished: 23 of 24 problems are done" in caplog.text


def test_remote_code_decides_no_result(small):
    assert replace(small, trust_remote_code=True).settings() == small.settings()


def test_outcome_is_fitted_to_the_journal(small, searched, made, tmp_path):
    """The set has its vector, and the manifest says how many tokens the journal had."""
    inputs = replace(small, methods=("outcome",), gates=("tokens",), random=1, output=tmp_path / "set")
    vectors = run_extract(inputs)
    vector = vectors.vectors["all"]
    assert vector.method == "outcome"
    assert not torch.equal(vector.direction, made.vectors["all"].direction)
    assert torch.equal(load_vectors(tmp_path / "set").vectors["all"].direction, vector.direction)
    settings = json.loads((tmp_path / "set" / "manifest.json").read_text())["settings"]
    assert settings["rollout_tokens"] == searched.tokens_spent


def test_outcome_sees_both_sides_of_every_confirmed_token(searched):
    """The journal's taken sides are what the search counted, and a token's two sides train together."""
    sampling = searched_inputs(searched).sampling()
    sample = TrainingRollouts.of_run(searched, sampling, ()).sample()
    sides = {
        (start.problem_id, start.prefix, start.token): arms
        for start, arms in zip(sample.starts, arms_of(sample), strict=True)
    }
    both = 0
    for result in searched.results:
        for candidate in result.candidates:
            prefix = result.traces[candidate.trace].completion[: candidate.position]
            arms = sides.get((result.problem_id, prefix, candidate.token_id))
            if arms is not None:
                both += 1
                assert list(arms["forced"]) == [candidate.value_successes, candidate.value_n]
                assert arms["avoided"][1] >= candidate.off_trace_n
    assert both >= 10


def test_outcome_refuses_a_run_without_its_rollouts(small, tmp_path):
    bare = tmp_path / "run"
    shutil.copytree(small.run, bare, ignore=shutil.ignore_patterns("rollouts"))
    inputs = replace(small, run=bare, methods=("outcome",), output=tmp_path / "set")
    with pytest.raises(DataError, match=r"has 0 graded rollouts of 0 problems .* at least 200 of 8"):
        run_extract(inputs)
    assert not inputs.output.exists()


def test_vectors_of_every_layer_race_against_random_ones_of_every_layer(small, made, tmp_path):
    inputs = replace(
        small,
        methods=("preference",),
        together=True,
        layers=None,
        gates=("tokens",),
        random=2,
        output=tmp_path / "set",
    )
    vectors = run_extract(inputs)
    every = list(range(vectors.model.layers))
    vector = vectors.vectors["all"]
    assert sorted(vector.directions) == sorted(vector.places) == every
    assert sum(vector.places.values()) == pytest.approx(1.0, abs=1e-5)
    for control in vectors.controls:
        assert control.places == pytest.approx({layer: 1 / len(every) for layer in every})
    assert len(vectors.effects["all"].random) == 2
    back = load_vectors(tmp_path / "set")
    assert back.vectors["all"].places == pytest.approx(vector.places)
    assert vectors_digest(back) == vectors_digest(vectors) != vectors_digest(made)


def test_screened_is_fitted_to_forks_that_were_not_reported_besides(small, made, tmp_path):
    inputs = replace(small, methods=("screened",), gates=("tokens",), random=1, output=tmp_path / "set")
    vector = run_extract(inputs).vectors["all"]
    assert vector.method == "screened"
    assert vector.evidence["pairs"] == made.vectors["all"].evidence["pairs"]
    assert vector.evidence["screened_pairs"] > 0
    assert not torch.equal(vector.direction, made.vectors["all"].direction)


def test_screened_pairs_are_of_other_forks_and_of_these_problems_alone(searched):
    reported = measured_pairs(searched)
    problems = sorted({pair.problem_id for pair in reported})
    known = {(pair.problem_id, pair.prefix) for pair in reported}
    every = screened_pairs(searched, problems, known)
    assert every
    assert not known & {(pair.problem_id, pair.prefix) for pair in every}
    assert {pair.better.token_id == pair.worse.token_id for pair in every} == {False}
    assert all(0 <= pair.gap <= 1 for pair in every)
    one = screened_pairs(searched, problems[:1], known)
    assert one == [pair for pair in every if pair.problem_id == problems[0]]
    assert len(screened_pairs(searched, problems, ())) > len(every)


def test_screened_refuses_a_run_without_its_rollouts(small, tmp_path):
    bare = tmp_path / "run"
    shutil.copytree(small.run, bare, ignore=shutil.ignore_patterns("rollouts"))
    inputs = replace(small, run=bare, methods=("screened",), output=tmp_path / "set")
    with pytest.raises(DataError, match="has no rollouts that avoid a token"):
        run_extract(inputs)
    assert not inputs.output.exists()
