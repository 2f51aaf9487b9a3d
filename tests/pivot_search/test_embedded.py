"""Sentences compared by the model's own embeddings."""

import numpy as np
import pytest

import pts
from pts.errors import ConfigError
from pts.pivot_search import SearchConfig, search_problems
from pts.pivot_search.embedded import EmbeddedSentences
from pts.policies.open import policy_of
from pts.policies.protocol import SteerablePolicy
from pts.policies.tabular import Node, TabularPolicy
from pts.records import Problem

OWN = "5 + 3 = 8."
OTHERS = ["5 + 3 = 8.", "5 + 3 = 9.", "5 + 4 = 9.", "Wait, 7 - 2 = 5."]


@pytest.fixture(scope="module")
def policy() -> SteerablePolicy:
    loaded = pts.load_model("demo")
    return policy_of(loaded)


def test_half_of_the_unequal_pairs_are_different_and_an_equal_one_never_is(policy: SteerablePolicy) -> None:
    measure = EmbeddedSentences(policy, [(OWN, OTHERS)])
    differs = measure(OWN, OTHERS)
    assert not differs[0]
    cosines = np.array(measure.cosines(OWN, OTHERS))
    assert cosines[0] == pytest.approx(1.0, abs=1e-5)
    assert sum(differs[1:]) == 1
    assert np.argmin(cosines) == differs.index(True)


def test_without_another_sentence_nothing_is_different(policy: SteerablePolicy) -> None:
    assert EmbeddedSentences(policy, [(OWN, [OWN, OWN])])(OWN, [OWN]) == [False]
    assert EmbeddedSentences(policy, [])(OWN, []) == []


def test_a_policy_without_a_residual_stream_is_refused() -> None:
    config = SearchConfig(unit="both", different="embedding")
    searched = search_problems([Problem("p", "q", "a")], TabularPolicy(Node()), lambda *_: True, config)
    with pytest.raises(ConfigError, match="no residual stream"):
        next(searched)
