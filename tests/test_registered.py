"""A registered data set, grader and model are used like any other; the demo is one of them."""

import pytest

import pts.graders.registered as registered_graders
import pts.registered as registered
from pts.errors import ConfigError
from pts.graders import make_grader
from pts.graders.exact import ExactGrader
from pts.graders.readable import is_readable
from pts.graders.registered import RegisteredGrader
from pts.models.options import ModelOptions
from pts.models.source import find_source
from pts.problems import ProblemSource, load_problems
from pts.records import Problem
from pts.registered import RegisteredDataset, RegisteredModel
from pts.stages.search.inputs import SearchInputs


def draw(split, count, seed, levels):
    level = (levels or (1,))[0]
    return [Problem(f"{split}-{n}", f"{n} + {seed} + {level}", str(n + seed + level)) for n in range(count)]


DATASET = RegisteredDataset(draw, "first", "second", "third", count=7, grader="sums")
GRADER = RegisteredGrader(ExactGrader, "</hm>", lambda text: "=" in text)


@pytest.fixture
def sums(monkeypatch, tmp_path):
    (tmp_path / "sums").mkdir()
    monkeypatch.setattr(f"{__name__}.MODEL", RegisteredModel(lambda: tmp_path / "sums", 33), raising=False)
    monkeypatch.setitem(registered._MODELS, "sums", f"{__name__}:MODEL")
    monkeypatch.setitem(registered._DATASETS, "sums", f"{__name__}:DATASET")
    monkeypatch.setitem(registered_graders._GRADERS, "sums", f"{__name__}:GRADER")
    monkeypatch.setattr("pts.graders.GRADER_NAMES", ("exact", "sums"))


def test_problems_come_from_a_registered_data_set(sums):
    loaded = load_problems(ProblemSource("sums", seed=3))
    assert (len(loaded.problems), loaded.name, loaded.schema, loaded.grader) == (7, "sums", "sums", "sums")
    assert loaded.problems[2] == Problem("first-2", "2 + 3 + 1", "6")
    chosen = SearchInputs(model="sums", dataset="sums", levels=(5,), problems=2, split="third", seed=1)
    assert [problem.answer for problem in load_problems(chosen.source()).problems] == ["6", "7"]
    with pytest.raises(ConfigError, match="The sums data set has no answer field"):
        ProblemSource("sums", answer_field="a")


def test_levels_are_for_registered_data_sets_alone():
    with pytest.raises(ConfigError, match="has no levels; leave levels= out"):
        SearchInputs(dataset="data.jsonl", levels=(1,))


def test_a_registered_model_has_its_own_place_and_budget(sums, tmp_path):
    assert find_source(ModelOptions("sums")).path == tmp_path / "sums"
    assert SearchInputs(model="sums").sampling().budget == 33
    assert SearchInputs(model="owner/other").sampling().budget == 512
    assert SearchInputs(model="demo").sampling().budget == 96


def test_a_registered_grader_skips_the_thinking_of_its_own_tag(sums):
    grade = make_grader("sums")
    assert grade("4</hm> 5", "5")
    assert not grade("5</hm> 4", "5")
    assert is_readable("sums", "x = 3")
    assert not is_readable("sums", "x is 3")


@pytest.mark.parametrize(
    ("searched", "unused", "fitting"),
    [
        (None, ("second", "third"), "second"),
        ("first", ("second", "third"), "second"),
        ("second", ("third", "first"), "first"),
        ("third", ("second", "first"), "second"),
    ],
)
def test_what_is_fitted_and_tested_on_was_not_searched(searched, unused, fitting):
    assert DATASET.unused_splits(searched) == unused
    assert DATASET.fitting_split(searched) == fitting
