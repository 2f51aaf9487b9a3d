"""Vectors trained on policy raise the demo model's success on problems that they were not trained on."""

import pytest

from pts.calibration.online import OnlineFit, train_online
from pts.demo.problems import demo_problems
from pts.errors import DataError
from pts.evaluation.decoder import Decoder
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.records import Sampling
from pts.steering.outcome import OutcomeFit
from pts.steering.vector_set import Gate

pytestmark = pytest.mark.slow
SMALL = OnlineFit(rounds=2, problems=6, samples=4, fit=OutcomeFit(steps=2, step_tokens=512))


def decoder(grade):
    return Decoder(load_model(ModelOptions("demo")), Sampling(budget=40), PromptFormat(thinking=True), grade)


def test_rounds_are_counted_and_the_same_seed_gives_the_same_vector():
    problems = demo_problems("train", 12, 0, (2,))
    found = [
        train_online(decoder(lambda text, _: "Wait" in text), problems, {1: 10.0}, Gate(), 0, SMALL)
        for _ in range(2)
    ]
    assert found[0].vectors.keys() == {1}
    assert found[0].vectors[1].equal(found[1].vectors[1])
    assert 0 < float(found[0].vectors[1].norm()) <= 8.0 + 1e-3
    assert len(found[0].success) == 2
    assert 2 * 6 * 4 < found[0].tokens <= 2 * 6 * 4 * 40


def test_one_outcome_teaches_nothing():
    with pytest.raises(DataError, match="no problem was both solved and failed"):
        train_online(decoder(lambda *_: False), demo_problems("train", 6, 0, (2,)), {1: 10.0}, Gate(), 0, SMALL)
