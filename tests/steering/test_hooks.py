"""Steering adds what it says, where it says, to the rows it says, and leaves nothing on the model."""

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicCache

from pts.errors import ConfigError
from pts.models.decoder_layers import decoder_layers, residual_of
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling
from pts.steering.hooks import Intervention, steer
from pts.steering.vector_set import Gate, VectorError
from tests.policies.tiny import ARCHITECTURES, tiny_model

PROMPT = (5, 9, 12, 7)
LAYER = 1


@pytest.fixture(scope="module")
def loaded():
    return tiny_model("qwen3")


@pytest.fixture
def vector():
    return 2 * torch.randn(32, generator=torch.Generator().manual_seed(3))


def hooks_left(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def added_by_hand(model, layer, vector, where):
    """A plain hook that adds at given columns: what the context manager must agree with."""

    def hook(_module, _args, output):
        hidden = residual_of(output)
        hidden = hidden + where[..., None] * vector
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return decoder_layers(model)[layer].register_forward_hook(hook)


def generated(model, ids, mask=None, **options):
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(
        ids, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None, **options
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_generate_equals_steering_every_token_but_the_prompt_by_hand(name, vector):
    model = tiny_model(name).model
    ids = torch.tensor([PROMPT])
    with steer(model, [[Intervention(LAYER, vector)]]):
        steered = generated(model, ids)
    longer = ids
    for _ in range(6):
        where = torch.zeros(1, longer.shape[1])
        where[:, len(PROMPT) :] = 1
        handle = added_by_hand(model, LAYER, vector, where)
        logits = model(longer, use_cache=False).logits[:, -1]
        handle.remove()
        longer = torch.cat([longer, logits.argmax(-1, keepdim=True)], dim=1)
    assert steered.tolist() == longer.tolist()


def test_the_vector_changes_what_is_generated_and_nothing_is_left(loaded, vector):
    model, ids = loaded.model, torch.tensor([PROMPT])
    before = hooks_left(model)
    plain = generated(model, ids)
    with steer(model, [[Intervention(LAYER, vector)]]):
        assert generated(model, ids).tolist() != plain.tolist()
    assert hooks_left(model) == before
    assert generated(model, ids).tolist() == plain.tolist()


def test_nothing_is_left_after_an_error(loaded, vector):
    before = hooks_left(loaded.model)
    with pytest.raises(RuntimeError, match="boom"), steer(loaded.model, [[Intervention(LAYER, vector)]]):
        raise RuntimeError("boom")
    assert hooks_left(loaded.model) == before


def test_rows_of_one_batch_have_variants_of_their_own(loaded, vector):
    model = loaded.model
    ids = torch.tensor([PROMPT] * 3)
    with steer(model, [[Intervention(LAYER, vector)], [Intervention(0, -vector)]]) as steering:
        steering.rows = [0, 1, 2]
        together = generated(model, ids).tolist()
    alone = [generated(model, ids[:1]).tolist()[0]]
    for intervention in (Intervention(LAYER, vector), Intervention(0, -vector)):
        with steer(model, [[intervention]]):
            alone.append(generated(model, ids[:1]).tolist()[0])
    assert together == alone
    assert len({tuple(row) for row in together}) == 3


def test_left_padding_changes_nothing(loaded, vector):
    model = loaded.model
    padded = torch.tensor([(0, 0, *PROMPT), (3, 8, *PROMPT)])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    with steer(model, [[Intervention(LAYER, vector)]]):
        together = generated(model, padded, mask)[0, 2:]
        alone = generated(model, torch.tensor([PROMPT]))[0]
    assert together.tolist() == alone.tolist()


def test_rows_of_different_gates_share_a_pass(loaded, vector, plain_stream):
    """Each row gets what it gets alone, whatever the gates of the others."""
    weight = torch.randn(32, generator=torch.Generator().manual_seed(8))
    gates = [Gate(), Gate("probe", weight=weight), Gate("tokens", token_ids=(PROMPT[1],)), Gate("entropy", 2.0)]
    variants = [[Intervention(LAYER, vector, gate)] for gate in gates]
    with steer(loaded.model, variants, engine_driven=True) as steering:
        together = passed(loaded.model, steering, [PROMPT] * 5, [0, 1, 2, 3, 4])
        alone = [passed(loaded.model, steering, [PROMPT], [row])[0] for row in range(5)]
    for row in range(5):
        torch.testing.assert_close(together[row], alone[row])
    torch.testing.assert_close(together[0], plain_stream)
    torch.testing.assert_close(together[1], plain_stream + vector)
    opened = (together - plain_stream).abs().sum(-1) > 1e-3
    assert opened[2].tolist() == (plain_stream @ weight > 0).tolist()
    assert opened[3].tolist() == [False, True, False, False]


def test_a_set_steers_by_its_patterns(loaded, make_set):
    model, ids = loaded.model, torch.tensor([PROMPT])
    vectors = make_set(self_correction=1, exploration=0, hidden=32, layers=2)
    added = vectors.added("self_correction")
    with steer(model, [[Intervention(1, 1.5 * added)]]):
        expected = generated(model, ids).tolist()
    with steer(model, vectors, {"self_correction": 1.5}):
        assert generated(model, ids).tolist() == expected
    with pytest.raises(ConfigError, match="no pattern nonsense"), steer(model, vectors, {"nonsense": 1.0}):
        pass
    with pytest.raises(ConfigError, match="need a vector set"), steer(model, [[]], {"self_correction": 1.0}):
        pass
    with pytest.raises(VectorError, match="do not fit"), steer(model, make_set(self_correction=1, layers=5)):
        pass


def test_two_interventions_at_one_layer_add_up(loaded, vector):
    model, ids = loaded.model, torch.tensor([PROMPT])
    with steer(model, [[Intervention(LAYER, 0.25 * vector), Intervention(LAYER, 0.75 * vector)]]):
        parts = generated(model, ids)
    with steer(model, [[Intervention(LAYER, vector)]]):
        assert generated(model, ids).tolist() == parts.tolist()


def passed(model, steering, rows, variants):
    """Residual streams after the layer [rows, tokens, hidden] in a pass whose positions are all steered."""
    seen = []
    handle = decoder_layers(model)[LAYER].register_forward_hook(
        lambda _m, _a, out: seen.append(residual_of(out))
    )
    ids = torch.tensor(rows)
    steering.begin_pass(torch.tensor(variants), ids)
    model(ids)
    handle.remove()
    return seen[0]


def one_pass(model, steering, tokens):
    return passed(model, steering, [tokens], [1])[0]


@pytest.fixture(scope="module")
def plain_stream(loaded):
    seen = []
    handle = decoder_layers(loaded.model)[LAYER].register_forward_hook(
        lambda _m, _a, out: seen.append(residual_of(out))
    )
    loaded.model(torch.tensor([PROMPT]))
    handle.remove()
    return seen[0][0]


def test_a_probe_gate_opens_where_its_score_passes_the_threshold(loaded, vector, plain_stream):
    weight = torch.randn(32, generator=torch.Generator().manual_seed(8))
    scores = plain_stream @ weight
    threshold = float(scores.sort().values[1:3].mean())
    gate = Gate("probe", threshold=threshold, weight=weight)
    with steer(loaded.model, [[Intervention(LAYER, vector, gate)]], engine_driven=True) as steering:
        stream = one_pass(loaded.model, steering, PROMPT)
    expected = plain_stream + (scores > threshold)[:, None] * vector
    assert (scores > threshold).sum() == 2
    torch.testing.assert_close(stream, expected)


def test_a_token_gate_opens_after_its_tokens(loaded, vector, plain_stream):
    gate = Gate("tokens", token_ids=(PROMPT[1], 30))
    with steer(loaded.model, [[Intervention(LAYER, vector, gate)]], engine_driven=True) as steering:
        stream = one_pass(loaded.model, steering, PROMPT)
    opened = torch.tensor([False, True, False, False])
    torch.testing.assert_close(stream, plain_stream + opened[:, None] * vector)


def test_an_entropy_gate_opens_where_the_lens_is_uncertain(loaded, vector, plain_stream):
    model = loaded.model
    log_probs = torch.log_softmax(model.lm_head(model.model.norm(plain_stream)), -1)
    entropies = -(log_probs.exp() * log_probs).sum(-1)
    threshold = float(entropies.sort().values[1:3].mean())
    gate = Gate("entropy", threshold=threshold)
    with steer(model, [[Intervention(LAYER, vector, gate)]], engine_driven=True) as steering:
        stream = one_pass(model, steering, PROMPT)
    torch.testing.assert_close(stream, plain_stream + (entropies > threshold)[:, None] * vector)


def test_a_pass_that_was_not_announced_is_not_steered(loaded, vector):
    ids = torch.tensor([PROMPT])
    plain = loaded.model(ids).logits
    with steer(loaded.model, [[Intervention(LAYER, vector)]], engine_driven=True) as steering:
        assert torch.equal(loaded.model(ids).logits, plain)
        steering.begin_pass(torch.tensor([1]), ids)
        assert not torch.equal(loaded.model(ids).logits, plain)
        assert torch.equal(loaded.model(ids).logits, plain)


def test_wrong_width_layer_vocabulary_and_rows_are_refused(loaded, vector):
    model = loaded.model
    with pytest.raises(VectorError, match=r"shape \[31\]"), steer(model, [[Intervention(0, vector[:31])]]):
        pass
    with pytest.raises(VectorError, match="layer 2 is out of range"), steer(model, [[Intervention(2, vector)]]):
        pass
    size = model.config.vocab_size
    foreign = [[Intervention(0, vector, Gate("tokens", token_ids=(3, size)))]]
    with pytest.raises(VectorError, match=f"token id {size}, and the model's vocabulary has {size}: use the"):
        steer(model, foreign).__enter__()
    with steer(model, [[Intervention(0, vector)]]) as steering:
        steering.rows = [1, 1, 1]
        with pytest.raises(ConfigError, match="3 rows; the batch has 1"):
            generated(model, torch.tensor([PROMPT]))
    assert hooks_left(model) == 0


def test_rollouts_of_a_variant_equal_generate_and_share_their_random_numbers(loaded, vector):
    sampling = Sampling(temperature=0.0, top_k=0, top_p=1.0, budget=7)
    interventions = [[Intervention(LAYER, vector)], [Intervention(0, -vector)]]
    plain = TransformersPolicy(loaded)
    with steer(loaded.model, interventions, engine_driven=True) as on, plain.steered(on) as policy:
        requests = [RolloutRequest(PROMPT, variant=variant, sampling=sampling) for variant in (0, 1, 2, 0)]
        rolled = {rollout.request.variant: rollout.completion for rollout in policy.rollouts(requests)}
    for variant in (0, 1, 2):
        chosen = [interventions[variant - 1]] if variant else [[]]
        with steer(loaded.model, chosen):
            expected = loaded.model.generate(
                torch.tensor([PROMPT]), max_new_tokens=7, do_sample=False, pad_token_id=0
            )[0, len(PROMPT) :]
        assert rolled[variant] == tuple(expected.tolist())


def test_a_variant_that_changes_nothing_draws_the_very_same(loaded, vector):
    plain, nothing = TransformersPolicy(loaded), [[Intervention(LAYER, 0 * vector)]]
    with steer(loaded.model, nothing, engine_driven=True) as on, plain.steered(on) as policy:
        sampling = Sampling(budget=12)
        requests = [
            RolloutRequest(PROMPT, n=20, seed=4, variant=variant, sampling=sampling) for variant in (0, 1)
        ]
        drawn = {0: [], 1: []}
        for rollout in policy.rollouts(requests):
            drawn[rollout.request.variant].append((rollout.completion, rollout.count))
    assert sorted(drawn[0]) == sorted(drawn[1])
    assert len(drawn[0]) > 1


def test_a_policy_without_steering_refuses_a_variant(loaded):
    policy = TransformersPolicy(loaded)
    with pytest.raises(ValueError, match="variant 1"):
        list(policy.rollouts([RolloutRequest(PROMPT, variant=1)]))


def test_steps_equal_one_pass_over_the_whole(loaded, vector):
    """Steering token by token under a cache is steering the same positions at once."""
    weight = torch.randn(32, generator=torch.Generator().manual_seed(5))
    variant = [Intervention(LAYER, vector, Gate("probe", weight=weight))]
    ids = torch.tensor([(*PROMPT, 4, 6, 11)])
    with steer(loaded.model, [variant], engine_driven=True) as steering:
        steering.begin_pass(torch.tensor([1]), ids, torch.arange(7)[None] >= len(PROMPT))
        whole = loaded.model(ids).logits[0, -1]
        cache = DynamicCache()
        loaded.model(ids[:, : len(PROMPT)], past_key_values=cache)
        for column in range(len(PROMPT), 7):
            steering.begin_step(np.array([1]), ids[:, column].numpy())
            last = loaded.model(ids[:, column : column + 1], past_key_values=cache).logits[0, -1]
    torch.testing.assert_close(last, whole, rtol=1e-4, atol=1e-4)


def test_a_policy_is_steered_anew_and_is_itself_between(loaded, vector):
    """A variant's number means what it means in the context: nothing that another steering read is used."""
    sampling = Sampling(temperature=0.0, budget=12)
    policy = TransformersPolicy(loaded)

    def drawn(policy, variant):
        requests = [RolloutRequest(PROMPT, PROMPT[:4], variant=variant, sampling=sampling)]
        (finished,) = policy.finished(requests)
        return finished.rollout.completion, [round(prob, 4) for prob in finished.new_probs]

    def with_steering(policy, direction):
        variants = [[Intervention(LAYER, direction)]]
        with steer(loaded.model, variants, engine_driven=True) as on, policy.steered(on):
            with pytest.raises(ValueError, match="steered already"), policy.steered(on):
                pass
            return drawn(policy, 1)

    plain = drawn(policy, 0)
    for direction in (vector, -vector, vector):
        assert with_steering(policy, direction) == with_steering(TransformersPolicy(loaded), direction)
        assert drawn(policy, 0) == plain
        with pytest.raises(ValueError, match="variant 1"):
            drawn(policy, 1)
    assert with_steering(policy, vector) != with_steering(policy, -vector)
