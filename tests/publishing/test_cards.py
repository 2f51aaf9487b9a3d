"""The cards say what was measured, plainly, and their headers are what the Hub reads."""

from dataclasses import fields

import pytest
import yaml

from pts.publishing.card import vector_set_card
from pts.publishing.card_text import base_model, cell, is_untouched, size_category
from pts.publishing.search_card import FIELDS, search_card
from pts.runs.finding_records import PivotalToken
from pts.runs.search_run import read_search
from tests.publishing.artifacts import effect, vector_set, write_search_run


def header(card):
    return yaml.safe_load(card.split("---\n")[1])


def line_with(card, *parts):
    lines = [line for line in card.splitlines() if all(part in line for part in parts)]
    assert lines, parts
    return lines[0]


def test_header_of_a_data_set():
    card = vector_set_card(vector_set(), "set", "me/set", 1200)
    assert header(card) == {
        "license": "apache-2.0",
        "base_model": "Qwen/Qwen3-0.6B",
        "tags": ["pts", "steering-vectors", "pivotal-token-search"],
        "size_categories": ["1K<n<10K"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "records.parquet"}]}],
    }


def test_header_of_a_model_repository_names_the_library_and_no_data():
    found = header(vector_set_card(vector_set(), "set", "me/set", 1200, repo_type="model"))
    assert found["library_name"] == "pts"
    assert "configs" not in found


def test_without_records_nothing_is_promised():
    card = vector_set_card(vector_set(), "set", "me/set", 0)
    assert {"configs", "size_categories"}.isdisjoint(header(card))
    assert "load_dataset" not in card


@pytest.mark.parametrize(
    ("model_id", "revision", "linked"),
    [
        ("Qwen/Qwen3-0.6B", "a" * 40, True),
        ("Qwen/Qwen3-0.6B", None, True),
        ("demo", "sha256:0e", False),
        ("models/mine", "sha256:0e", False),
        ("/data/models/mine", None, False),
        ("./models", None, False),
    ],
)
def test_only_a_model_of_the_hub_is_linked(model_id, revision, linked):
    assert base_model(model_id, revision) == (model_id if linked else None)


def test_a_found_effect_stands_with_interval_and_controls():
    card = vector_set_card(vector_set([effect("self_correction", 0.08, 0.04, 0.12)]), "set", None, 0)
    said = line_with(card, "- `self_correction`")
    assert "0.500 → 0.580, +0.080 [+0.040, +0.120]" in said
    assert "no effect" not in said
    row = line_with(card, "| `self_correction`", "200 × 16")
    assert "20: mean -0.005, max +0.010; rank 1 of 21" in row
    assert "rank 1 of 21 beside 20 random directions calibrated alike: p 0.048" in said
    assert "at 95%" in row
    assert "`unlabelled`: no effect measured" in card
    assert "success rose with `self_correction`" in card


@pytest.mark.parametrize(
    ("difference", "low", "high", "random", "said"),
    [
        (0.02, -0.01, 0.05, (0.0,), "the interval contains zero"),
        (0.05, 0.01, 0.09, (0.06,), "a random direction, calibrated alike, did as well"),
        (-0.1, -0.13, -0.07, (0.0,), "success fell"),
    ],
)
def test_no_effect_is_said_plainly(difference, low, high, random, said):
    one = effect("self_correction", difference, low, high, random)
    card = vector_set_card(vector_set([one]), "set", None, 0)
    line = line_with(card, "- `self_correction`")
    assert "no effect found" in line
    assert said in line
    assert "**No effect was found" in card


def test_too_few_controls_prove_nothing():
    card = vector_set_card(
        vector_set([effect("self_correction", 0.08, 0.04, 0.12, (0.01,) * 8)]), "set", None, 0
    )
    said = line_with(card, "- `self_correction`")
    assert "**not proved**" in said
    assert "rank 1 of 9" in said
    assert "proves nothing: a claim needs at least 19" in said
    assert "**Nothing is proved" in card
    assert "success rose with" not in card


def test_patterns_are_corrected_for_their_number():
    """With 19 controls the vector of all pairs can be claimed; one of two patterns needs 39."""
    random = (0.01,) * 19
    effects = [effect(name, 0.08, 0.04, 0.12, random) for name in ("all", "self_correction", "organization")]
    card = vector_set_card(vector_set(effects), "set", None, 0)
    assert "success rose with `all`, and" in card
    assert "that was not shown" in card
    assert "p 0.050." in line_with(card, "- `all`")
    said = line_with(card, "- `self_correction`")
    assert "**not proved**" in said
    assert "a claim for one of 2 patterns needs at least 39" in said


def test_no_measurement_is_said_plainly():
    card = vector_set_card(vector_set(), "set", None, 0)
    assert "**No effect was measured" in card
    assert "| unsteered |" not in card


def test_what_a_pattern_is_and_where_it_comes_from():
    card = vector_set_card(vector_set(), "set", None, 0)
    row = line_with(card, "| `self_correction`")
    for part in ("preference", "| 1 |", "0.4", "linear probe", "pairs 812", "halves cosine not measured"):
        assert part in row
    assert "a" * 40 in line_with(card, "model revision")
    assert "400" in line_with(card, "search / problems")
    assert "GGUF control vector has no gate" in card


def test_a_licence_is_never_made_up():
    made = vector_set()
    made.provenance.pop("license")
    card = vector_set_card(made, "set", None, 0)
    assert "license" not in header(card)
    assert "none stated" in line_with(card, "licence")
    assert header(vector_set_card(made, "set", None, 0, license_id="mit"))["license"] == "mit"


def test_the_card_is_a_function_of_the_set():
    assert vector_set_card(vector_set(), "set", None, 3) == vector_set_card(vector_set(), "set", None, 3)


def test_an_edited_card_is_told_from_an_untouched_one():
    card = vector_set_card(vector_set(), "set", None, 0)
    assert is_untouched(card)
    assert not is_untouched(card.replace("## Use", "## How to use"))


def test_card_of_a_search_run(tmp_path):
    card = search_card(read_search(write_search_run(tmp_path / "run")), "found", "me/found")
    found = header(card)
    assert found["configs"][0]["data_files"] == [{"split": "train", "path": "pivotal_tokens.parquet"}]
    assert found["base_model"] == "Qwen/Qwen3-0.6B"
    assert "temperature 0.6, budget 96" in line_with(card, "sampler")
    assert "2: 2 help, 0 harm" in line_with(card, "| pivotal tokens")
    assert "recall unknown, without an audit" in line_with(card, "| audit")
    assert "at most 0.1, half the threshold" in " ".join(card.split())
    # Text of the model's cannot break the table, and stays visible.
    row = line_with(card, "`line one⏎then`")
    assert "`` w\\|0` ``" in row


def test_a_search_that_found_nothing_says_so(tmp_path):
    card = search_card(read_search(write_search_run(tmp_path / "run", findings=0)), "found", None)
    assert "**No pivotal tokens were found.**" in card
    assert header(card)["size_categories"] == ["n<1K"]
    assert "load_dataset" not in card
    assert "configs" not in header(card)


def test_a_search_that_was_cut_says_so(tmp_path):
    card = search_card(read_search(write_search_run(tmp_path / "run", done=False)), "found", None)
    assert "not complete (partial)" in card


def test_every_field_is_explained():
    assert list(FIELDS) == [entry.name for entry in fields(PivotalToken)]


def test_sizes_and_cells():
    assert [size_category(n) for n in (0, 999, 1000, 10**5, 10**7)] == [
        "n<1K",
        "n<1K",
        "1K<n<10K",
        "100K<n<1M",
        "n>1M",
    ]
    assert cell("x|y\nz") == "x\\|y z"
