"""Measurements in a journal belong to a direction and a gate, not to a setting's name."""

import json
import logging

import pytest
import torch

from pts.calibration.evaluator import Evaluator, intervention_digest
from pts.calibration.settings import Setting
from pts.demo.problems import demo_problems
from pts.evaluation.decoder import Decoder
from pts.graders import make_grader
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.records import Sampling
from pts.steering.hooks import Intervention
from pts.steering.vector_set import Gate

SETTING = Setting("all", "gradient", 2, 0.4, "always")


@pytest.fixture(scope="module")
def decoder():
    return Decoder(load_model(ModelOptions()), Sampling(budget=12), PromptFormat(), make_grader("demo"))


class Given:
    """Directions that give the same interventions for every setting."""

    def __init__(self, *interventions):
        self.given = interventions

    def interventions(self, setting):
        return self.given


def vector(decoder, scale=1.0, first=0.0):
    width = decoder.loaded.model.config.hidden_size
    values = torch.linspace(-1, 1, width) * scale
    values[0] += first
    return values


def measure(decoder, journal, *interventions):
    """What one more session with this direction measures anew."""
    before = len(journal.read_bytes().splitlines()) if journal.exists() else 0
    evaluator = Evaluator(decoder, Given(*interventions), demo_problems("test", 3, 0), 2, 0, journal)
    evaluator.unsteered()
    outcomes = evaluator([SETTING], 0, 3)[SETTING]
    return outcomes, [json.loads(line) for line in journal.read_bytes().splitlines()[before:]]


def test_the_same_direction_is_not_measured_again(decoder, tmp_path, caplog):
    first, new = measure(decoder, tmp_path / "j", Intervention(2, vector(decoder)))
    assert [entry["setting"] for entry in new] == ["unsteered", SETTING.key]
    again, none = measure(decoder, tmp_path / "j", Intervention(2, vector(decoder)))
    assert none == []
    assert caplog.text == ""
    assert again.tokens.tolist() == first.tokens.tolist()


@pytest.mark.parametrize(
    "changed",
    [
        lambda decoder: Intervention(2, vector(decoder, first=1e-6)),
        lambda decoder: Intervention(1, vector(decoder)),
        lambda decoder: Intervention(2, vector(decoder), Gate("entropy", 0.5)),
        lambda decoder: Intervention(2, vector(decoder), Gate("probe", 0.0, weight=vector(decoder))),
    ],
    ids=["direction", "layer", "gate", "probe"],
)
def test_another_direction_or_gate_under_the_same_name_is_measured(decoder, tmp_path, caplog, changed):
    measure(decoder, tmp_path / "j", Intervention(2, vector(decoder)))
    with caplog.at_level(logging.WARNING):
        _, new = measure(decoder, tmp_path / "j", changed(decoder))
    assert [entry["setting"] for entry in new] == [SETTING.key]
    assert "another direction or gate" in caplog.text


def test_vectors_at_several_layers_are_known_again(decoder, tmp_path):
    both = Intervention(1, vector(decoder, 20.0)), Intervention(2, vector(decoder, 20.0))
    assert len(measure(decoder, tmp_path / "j", *both)[1]) == 2
    assert measure(decoder, tmp_path / "j", *both)[1] == []
    assert len(measure(decoder, tmp_path / "j", both[0])[1]) == 1


def test_a_journal_that_does_not_say_what_was_measured_counts_for_the_model_as_it_is_alone(decoder, tmp_path):
    intervention = Intervention(2, vector(decoder, 40.0))
    measure(decoder, tmp_path / "j", intervention)
    entries = [json.loads(line) for line in (tmp_path / "j").read_bytes().splitlines()]
    old = [{key: value for key, value in entry.items() if key != "digest"} for entry in entries]
    (tmp_path / "j").write_text("".join(json.dumps(entry) + "\n" for entry in old))
    _, new = measure(decoder, tmp_path / "j", intervention)
    assert [entry["setting"] for entry in new] == [SETTING.key]


def test_a_digest_is_of_all_that_decides_what_is_added():
    base = Intervention(1, torch.ones(4), Gate("tokens", 0.0, (3,)))
    assert intervention_digest(base) == intervention_digest(Intervention(1, torch.ones(4), base.gate))
    assert intervention_digest(base) != intervention_digest(Intervention(1, torch.ones(4), Gate("tokens")))
