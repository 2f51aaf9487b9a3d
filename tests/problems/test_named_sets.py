"""The names of data sets that `pts eval` knows, where a search and a measurement take them."""

import pytest

from pts.cli import run
from pts.problems import ProblemSource
from pts.problems.benchmarks import BENCHMARKS, benchmark_source, meaning_of_name, search_source
from tests.cli.one_line import complaint

NAMES = [name for name in BENCHMARKS if name != "demo"]


@pytest.mark.parametrize("name", NAMES)
def test_a_search_draws_from_another_split_than_an_evaluation_where_there_is_one(name):
    benchmark = BENCHMARKS[name]
    given = ProblemSource(name, limit=3)
    searched, evaluated = search_source(benchmark, given), benchmark_source(benchmark, None, given)
    assert (searched.dataset, searched.config, searched.limit) == (benchmark.dataset, benchmark.config, 3)
    same = name in ("math500", "aime24", "gpqa-diamond")  # of one split
    assert (searched.split == evaluated.split) is same
    said = meaning_of_name(given)
    assert f"{name} is {benchmark.dataset}" in said
    assert f"split {searched.split}, graded by {benchmark.grader}" in said
    assert ("uses this split too" in said) is same
    assert search_source(benchmark, ProblemSource(name, split="mine", config="c")).split == "mine"


def test_other_data_sets_stand_for_themselves():
    assert meaning_of_name(ProblemSource("demo")) is None
    assert meaning_of_name(ProblemSource("owner/gsm8k")) is None
    assert meaning_of_name(ProblemSource("./gsm8k.jsonl")) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_search_by_name_asks_the_hub_for_the_data_set(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = complaint(capsys, "search", "--dataset", name, "--output", "out", "--quiet")
    assert BENCHMARKS[name].dataset in said


def test_a_search_by_name_says_what_the_name_stands_for(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(("search", "--dataset", "gsm8k", "--output", "out")) == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("pts: gsm8k is openai/gsm8k, configuration main, split train, graded by math; ")
    assert first.endswith("pts eval uses the split test.")
