"""What is above the policies asks the protocol alone, and both policies answer all that it asks."""

from pathlib import Path

import pytest
from tiny import tiny_model

import pts
from pts.policies import Policy, SteerablePolicy, policy_of
from pts.policies.tabular import Node, TabularPolicy

PACKAGE = Path(pts.__file__).parent


def test_nothing_above_names_an_engine_or_reaches_through_a_policy():
    above = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "policies"]
    assert len(above) > 200
    found = [
        (path.relative_to(PACKAGE), word)
        for path in above
        for word in ("TransformersPolicy", "policy.loaded", "policy().loaded")
        if word in path.read_text()
    ]
    assert found == []


def members(protocol):
    return {name for name in dir(protocol) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("policy", "protocol"),
    [(TabularPolicy(Node()), Policy), (policy_of(tiny_model("qwen3")), SteerablePolicy)],
    ids=["tabular", "transformers"],
)
def test_a_policy_has_all_that_its_protocol_names(policy, protocol):
    assert members(protocol) <= set(dir(policy))


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "opt"])
def test_the_identity_is_that_of_the_loaded_model(name):
    loaded = tiny_model(name)
    identity = policy_of(loaded).identity
    layers = loaded.model.config.num_hidden_layers
    assert (identity.model_id, identity.dtype, identity.device) == (name, "float32", "cpu")
    assert (identity.layers, identity.hidden_size) == (layers, 32)
    assert policy_of(loaded).vocabulary_size == 37
    assert policy_of(loaded).end_token_ids == (1,)


def test_the_vocabulary_of_a_tree_that_shares_its_nodes():
    shared = Node({7: (1.0, Node())})
    assert TabularPolicy(Node({3: (0.5, shared), 12: (0.5, shared)})).vocabulary_size == 13
    assert TabularPolicy(Node()).vocabulary_size == 0
