"""The harvest holds the residual stream that a plain forward pass has, pair by pair, and streams it."""

import pytest
import torch

from pts.errors import ConfigError, DataError
from pts.models.decoder_layers import adding, decoder_layers
from pts.policies.transformers.recorded import recorded
from pts.steering import harvest as harvesting
from pts.steering.harvest import harvest
from pts.steering.pairs import Choice, Pair
from pts.steering.pivot_vectors import pivot_directions
from tests.policies.tiny import tiny_model
from tests.policies.tiny_families import tiny_family


def pair(index, length, rng):
    tokens = tuple(int(t) for t in torch.randint(2, 37, (length,), generator=rng))
    better, worse = (Choice(t, str(t), 0.5, v, 20) for t, v in ((3 + index % 5, 0.8), (20 + index % 7, 0.2)))
    return Pair(index, f"p{index % 3}", tokens[:3], tokens[3:], better, worse, index % 2 == 0, 0.4, 0.3, "", "")


@pytest.fixture(scope="module")
def pairs():
    rng = torch.Generator().manual_seed(0)
    return [pair(index, 4 + (7 * index) % 11, rng) for index in range(9)]


def hidden_states(model, ids):
    """Outputs of the blocks but the last, whose hidden state transformers gives after the norm."""
    return torch.stack(model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1:-1])[:, 0]


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gemma3", "opt", "falcon"])
def test_activations_are_those_of_a_plain_pass(name, pairs, tmp_path):
    model = tiny_model(name).model
    harvested = harvest(model, pairs, tmp_path)
    for layer in harvested.layers[:-1]:
        here = harvested.layer(layer)
        for index, one in enumerate(pairs):
            for got, ids in (
                (here.before, one.ids),
                (here.better, (*one.ids, one.better.token_id)),
                (here.worse, (*one.ids, one.worse.token_id)),
            ):
                torch.testing.assert_close(
                    got[index], hidden_states(model, ids)[layer, -1], rtol=1e-4, atol=1e-4
                )


def outputs(model, ids):
    """What the decoder blocks put out at the last of `ids`, in a pass without a cache [layers, hidden]."""
    with recorded(decoder_layers(model)) as record:
        record.ends = [-1]
        with torch.inference_mode():
            model(torch.tensor([ids]), use_cache=False)
        return record.states()[0]


@pytest.mark.parametrize("name", ["lfm2", "qwen3_5", "falcon_h1", "mamba2", "mamba", "minimax"])
def test_recurrent_states_are_read_as_by_a_plain_pass(name, pairs, tmp_path):
    """Over a few columns of left-padded rows at a time; and gradients at the choice are those of one pass."""
    model = tiny_family(name).model
    memory = 200_000
    harvested = harvest(model, pairs, tmp_path, memory_bytes=memory)
    for index, one in enumerate(pairs[:4]):
        whole = [
            outputs(model, ids) for ids in (one.ids, *((*one.ids, c.token_id) for c in (one.better, one.worse)))
        ]
        for layer in harvested.layers:
            here = harvested.layer(layer)
            for got, expected in zip((here.before, here.better, here.worse), whole, strict=True):
                torch.testing.assert_close(got[index], expected[layer], rtol=1e-4, atol=1e-4)
    directions = pivot_directions(model, pairs, 1)
    for one, found in zip(pairs[:2], directions[:2], strict=True):
        added = torch.zeros(1, len(one.ids), 32, requires_grad=True)
        with adding(decoder_layers(model)[1], added):
            logs = model(torch.tensor([one.ids]), use_cache=False).logits[0, -1].float()
        (gradient,) = torch.autograd.grad(logs[one.better.token_id] - logs[one.worse.token_id], added)
        expected = torch.nn.functional.normalize(gradient[0, -1], dim=0)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_ordinary_positions_are_in_the_completion_and_no_pair_s_own(pairs, tmp_path):
    model = tiny_model("qwen3").model
    harvested = harvest(model, pairs, tmp_path, layers=[0])
    here = harvested.layer(0)
    assert len(here.ordinary) > len(pairs)
    for activation, owner in zip(here.ordinary, here.ordinary_pair.tolist(), strict=True):
        states = hidden_states(model, pairs[owner].ids)[0]
        found = [i for i, state in enumerate(states) if torch.allclose(state, activation, atol=1e-4)]
        assert found
        assert len(pairs[owner].prompt) - 1 <= found[0] < len(pairs[owner].ids) - 1


def test_shards_and_batches_change_nothing(pairs, tmp_path, monkeypatch):
    model = tiny_model("qwen3").model
    for name in "ab":
        (tmp_path / name).mkdir()
    whole = harvest(model, pairs, tmp_path / "a").layer(1)
    monkeypatch.setattr(harvesting, "SHARD_BYTES", 1)
    original = harvesting.prefix_batches

    def of_two(model, pairs, **more):
        return original(model, pairs, **more | {"most_rows": 2})

    monkeypatch.setattr(harvesting, "prefix_batches", of_two)
    split = harvest(model, pairs, tmp_path / "b")
    assert len(split.shards) == 5
    for name in ("before", "better", "worse"):
        torch.testing.assert_close(getattr(split.layer(1), name), getattr(whole, name), rtol=1e-4, atol=1e-4)
    chosen = split.of(1, [4, 2])
    torch.testing.assert_close(chosen.before, whole.before[[4, 2]], rtol=1e-4, atol=1e-4)
    assert set(chosen.ordinary_pair.tolist()) == {2, 4}


def test_pairs_are_found_by_their_index_where_some_findings_have_none(pairs, tmp_path):
    """A finding without another side leaves a gap in the indices: the rows after it must not slip."""
    model = tiny_model("qwen3").model
    some = [pairs[index] for index in (1, 4, 5, 8)]
    harvested = harvest(model, some, tmp_path)
    here = harvested.of(0, [8, 4])
    for row, index in enumerate((8, 4)):
        expected = hidden_states(model, pairs[index].ids)[0, -1]
        torch.testing.assert_close(here.before[row], expected, rtol=1e-4, atol=1e-4)
        assert here.before_token[row] == pairs[index].ids[-1]
    assert set(here.ordinary_pair.tolist()) == {4, 8}
    with pytest.raises(KeyError):
        harvested.of(0, [2])


def test_a_layer_out_of_range_and_a_bad_activation_are_errors(pairs, tmp_path):
    model = tiny_model("qwen3").model
    with pytest.raises(ConfigError, match=r"layer 2 is out of range.*0 to 1"):
        harvest(model, pairs, tmp_path, layers=[0, 2])
    model.model.layers[1].mlp.down_proj.weight[0, 0] = float("inf")
    with pytest.raises(DataError, match=r"pivot .* of problem p.* not finite at layer 1"):
        harvest(model, pairs, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
