"""A vector fitted to pairs of one's own does what it was fitted to do, and bad pairs are refused by name."""

import pytest
import torch

import pts
from pts.steering.given_pairs import given_pairs

SUMS = [
    (27, 8),
    (12, 9),
    (33, 8),
    (45, 7),
    (16, 6),
    (58, 3),
    (21, 9),
    (37, 5),
    (14, 8),
    (66, 5),
    (23, 9),
    (41, 9),
]
PAIRS = [(f"First , {a} + {b} = {a + b + 1} .", " Wait", " Then") for a, b in SUMS]


@pytest.fixture(scope="module")
def model():
    return pts.load_model("demo")


def shift(model, vectors):
    """Mean change of log p(Wait) − log p(Then) after the contexts that steering causes."""
    found = []
    for context, better, worse in PAIRS:
        (pair,) = given_pairs(model.tokenizer, [(context, better, worse)])
        ids = torch.tensor([pair.ids])
        plain = model.model(ids).logits[0, -1].log_softmax(-1)
        with pts.steer(model, vectors) as steering:
            steering.prompt_tokens = len(pair.ids) - 1
            steered = model.model(ids).logits[0, -1].log_softmax(-1)
        gaps = [row[pair.better.token_id] - row[pair.worse.token_id] for row in (plain, steered)]
        found.append(float(gaps[1] - gaps[0]))
    return sum(found) / len(found)


@pytest.mark.parametrize("method", ["preference", "gradient"])
def test_the_better_token_becomes_likelier(model, method):
    vectors = pts.fit_vector(model, PAIRS, method=method)
    assert shift(model, vectors) > 0.1
    assert shift(model, vectors.scaled(-1.0)) < 0
    evidence = vectors.vectors["all"].evidence
    assert evidence["held_out_pairs"] == 3
    assert evidence["pairs"] == 9
    assert vectors.effects == {}
    assert "effect not measured" in repr(vectors)


def test_a_set_is_saved_and_loaded(model, tmp_path):
    vectors = pts.fit_vector(model, PAIRS[:3], layer=1, name="doubt")
    pts.save_vectors(vectors, tmp_path / "set")
    again = pts.load_vectors(tmp_path / "set")
    assert torch.equal(again.added("doubt", 1), vectors.added("doubt", 1))
    assert list(again.to_pandas()["pattern"]) == ["doubt"]


def test_pairs_come_as_tuples_dictionaries_ids_and_messages(model):
    tokenizer = model.tokenizer
    context, better, worse = PAIRS[0]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in PAIRS[0]]
    made = given_pairs(
        tokenizer,
        [
            PAIRS[0],
            {"prompt": context, "chosen": better, "rejected": worse},
            {"prompt": ids[0], "chosen": ids[1], "rejected": ids[2]},
            ([{"role": "user", "content": "What is 2 + 5 ?"}], better, worse),
            (context, " Wait , that", " Wait , then"),
        ],
    )
    assert made[0].ids == made[1].ids == made[2].ids
    assert {pair.better.token_id for pair in made[:4]} == {made[0].better.token_id}
    assert len(made[4].ids) == len(made[0].ids) + 2
    assert [pair.problem_id for pair in made[:3]] == ["context 0"] * 3


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "no pairs"),
        ([("a", "b")], "pair 0"),
        ([PAIRS[0], {"prompt": "x", "chosen": "y"}], "pair 1 has no rejected"),
        ([(PAIRS[0][0], " Wait", " Wait")], "do not differ"),
        ([(PAIRS[0][0], " Wait", " Wait ,")], "begins the other"),
        ([("", " Wait", " Then")], "empty context"),
        ([("First", " ,", " 27")], "single token"),
    ],
)
def test_bad_pairs_are_named(model, pairs, said):
    with pytest.raises(pts.DataError, match=said):
        pts.fit_vector(model, pairs)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"method": "magic"}, "choose from preference"),
        ({"layer": 99}, "decoder layers 0 to 4"),
        ({"strength": -1.0}, "above 0"),
        ({"gate": "door"}, "choose from probe"),
    ],
)
def test_settings_out_of_range_are_named(model, setting, said):
    with pytest.raises(pts.ConfigError, match=said):
        pts.fit_vector(model, PAIRS, **setting)
