"""The stage that fits a router, on the demo model: measured, stored with the set, continued, refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from pts.cli.commands import cli
from pts.decoding import Question, SteeredDecoder, ThinkingBudget
from pts.decoding.routers import ProbeRouter, load_router
from pts.errors import ConfigError, RunError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.publishing.contents import read_contents
from pts.publishing.target import Target
from pts.records import Sampling
from pts.runs.search_run import read_search
from pts.stages.fit_router.inputs import FitRouterInputs
from pts.stages.fit_router.run import run_fit_router
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import fitting_problems
from pts.stages.search.run import run_search
from pts.steering.hooks import interventions
from pts.steering.vector_files import load_vectors

pytestmark = pytest.mark.slow


class Spent:
    """Tokens that a stage said it generated; `limit` stops it there, as Ctrl-C does."""

    def __init__(self, limit=None):
        self.tokens = 0
        self.limit = limit

    def __call__(self, _phase, tokens, share):
        assert 0 <= share <= 1
        self.tokens += tokens
        if self.limit is not None and self.tokens > self.limit:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output = tmp_path_factory.mktemp("searched") / "run"
    run_search(SearchInputs(problems=1, levels=(2,), thinking=True, max_tokens=200, output=output))
    return output


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A copy of the set that comes with pts, without a router."""
    folder = tmp_path_factory.mktemp("vectors") / "set"
    source = load_vectors("demo").directory
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("router*", ".lock*"))
    return folder


@pytest.fixture(scope="module")
def small(run, vectors):
    return FitRouterInputs(
        run, str(vectors), problems=20, samples=1, short=16, levels=(1, 2, 3), layer=3, token_price=0.002
    )


@pytest.fixture(scope="module")
def spent():
    return Spent()


@pytest.fixture(scope="module")
def made(small, spent):
    return run_fit_router(small, spent)


def test_it_measures_every_budget_for_the_model_as_it_is_and_steered(made, spent):
    assert spent.tokens > 0
    assert made.total == 96
    for probe in (made.unsteered, made.steered):
        assert probe.layer == 3
        assert [each.name for each in probe.classes] == ["none", "easy", "hard"]
        assert [each.budget for each in probe.classes] == [
            ThinkingBudget(thinking=0),
            ThinkingBudget(thinking=16),
            ThinkingBudget(),
        ]
        # One token closes the thinking; a number, a period and the end are the answer.
        assert probe.classes[0].quality.tokens < probe.classes[2].quality.tokens
        assert all(torch.isfinite(each.success).all() for each in probe.classes)
    assert made.unsteered.patterns == {}
    assert list(made.steered.patterns) == ["all"]


def test_it_is_stored_with_the_set_which_takes_it_along(made, small, vectors):
    stored = load_router(vectors)
    assert stored.unsteered.classes[0].success.tolist() == made.unsteered.classes[0].success.tolist()
    assert load_vectors(vectors).vectors
    contents = read_contents(vectors, Target("me/set"))
    assert {"router.json", "router.safetensors"} <= set(contents.files)
    (vectors / "router.json").rename(vectors / "away.json")
    try:
        assert "router.json" not in read_contents(vectors, Target("me/set")).files
    finally:
        (vectors / "away.json").rename(vectors / "router.json")


def test_auto_uses_the_router_of_the_set(made, vectors, caplog):
    decoder = SteeredDecoder(
        load_model(ModelOptions(spec="demo")), load_vectors(vectors), "auto", sampling=Sampling(budget=96)
    )
    assert isinstance(decoder.strategy.router, ProbeRouter)
    assert not caplog.records
    with decoder.session([interventions(load_vectors(vectors))]) as session:
        questions = [Question("0", "What is 2 + 3 ?", seed=0, variant=variant) for variant in (0, 1)]
        prompts = [session.encode(question.prompt) for question in questions]
        plain, steered = decoder.strategy.router.route(session, questions, prompts)
    assert steered.probabilities["hard"] != plain.probabilities["hard"]  # each by its own probe


def test_again_it_measures_nothing(made, small):
    spent = Spent()
    again = run_fit_router(small, spent)
    assert spent.tokens == 0
    assert again.unsteered.classes[1].success.tolist() == made.unsteered.classes[1].success.tolist()


def test_stopped_it_goes_on_and_ends_the_same(made, small, spent, tmp_path):
    inputs = replace(small, output=tmp_path / "router")
    stopped = Spent(limit=spent.tokens // 2)
    with pytest.raises(KeyboardInterrupt):
        run_fit_router(inputs, stopped)
    with open(tmp_path / "router" / "router.jsonl", "ab") as journal:
        journal.write(b'{"steered":fal')
    rest = Spent()
    finished = run_fit_router(inputs, rest)
    assert 0 < rest.tokens < spent.tokens
    for ours, theirs in zip(finished.steered.classes, made.steered.classes, strict=True):
        assert ours.quality == theirs.quality
        assert ours.success.tolist() == theirs.success.tolist()


def test_other_settings_are_refused_unless_all_is_to_be_made_anew(made, small, tmp_path):
    inputs = replace(small, output=tmp_path, vectors=None, problems=10)
    run_fit_router(inputs)
    with pytest.raises(RunError, match=r"other settings.*fresh=True"):
        run_fit_router(replace(inputs, seed=1))
    journal = tmp_path / "router.jsonl"
    journal.write_text(journal.read_text().replace('"arm"', '"leg"', 1))
    with pytest.raises(RunError, match="line 2 cannot be read"):
        run_fit_router(inputs)
    assert run_fit_router(replace(inputs, seed=1, fresh=True)).steered is None


def test_problems_are_neither_the_searched_nor_of_the_test(run):
    fresh = fitting_problems(read_search(run), 10, 0, (1, 4))
    assert {problem.id.rsplit("-", 1)[0] for problem in fresh} == {"demo-calibrate-1"}
    assert {problem.metadata["level"] for problem in fresh} == {1, 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems": 0}, "problems is 0"),
        ({"short": 20, "long": 20}, "not below the long one"),
        ({"token_price": -1.0}, "token-price is -1.0"),
        ({"layer": 9}, "decoder layers 0 to 4"),
        ({"vectors": "demo", "output": None}, "give output="),
    ],
)
def test_bad_settings_are_said(run, tmp_path, changes, message):
    given = {"output": tmp_path / "out", "problems": 10, "samples": 1, **changes}
    with pytest.raises(ConfigError, match=message):
        run_fit_router(FitRouterInputs(run, **given))


def test_the_command_prints_a_table_or_json(run, made, small):
    again = [
        *("fit-router", str(run), "--vectors", small.vectors, "--problems", "20", "--samples", "1"),
        *("--short", "16", "--levels", "1,2,3", "--layer", "3", "--token-price", "0.002", "--quiet"),
    ]
    shown = CliRunner().invoke(cli, again, catch_exceptions=False)
    assert "steered     none" in shown.output
    assert "stored in" in shown.output
    printed = json.loads(CliRunner().invoke(cli, [*again, "--json"], catch_exceptions=False).output)
    assert printed["unsteered"]["arms"][1]["budget"]["thinking"] == 16
