"""The residual stream at a prompt's end is the model's own, and reading it costs the rollouts nothing."""

import pytest
import torch
from one_sampling import OneSampling

from pts.errors import ConfigError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.records import Problem, RolloutRequest, Sampling


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelOptions(spec="demo"))


def prompts(policy):
    queries = ["What is 27 + 8 - 9 ?", "What is 27 + 8 - 12 ?", "What is 2 + 3 ?"]
    return [policy.encode(Problem(query, query, "0")) for query in queries]


def test_it_is_what_the_blocks_put_out_there(loaded):
    policy = OneSampling(loaded, Sampling(budget=96))
    asked = prompts(policy)
    found = policy.residuals(asked, (0, 3))
    assert found.shape == (len(asked), 2, 128)
    for prompt, states in zip(asked, found, strict=True):
        with torch.inference_mode():
            hidden = loaded.model.model(
                input_ids=torch.tensor([prompt[:-1]]), output_hidden_states=True
            ).hidden_states
        # The list begins with the embedding.
        expected = torch.stack([hidden[1][0, -1], hidden[4][0, -1]]).float()
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)


def test_no_prompt_is_read_twice_and_no_hook_stays(loaded):
    def prefilled(read):
        policy = OneSampling(loaded, Sampling(budget=96))
        asked = prompts(policy)
        before = policy.work.tokens_prefilled
        if read:
            for _ in range(2):
                policy.residuals(asked, (3,))
        done = {
            rollout.request.prompt: rollout.completion
            for rollout in policy.rollouts(RolloutRequest(prompt, seed=1) for prompt in asked)
        }
        return policy.work.tokens_prefilled - before, done

    hooks = [len(block._forward_hooks) for block in loaded.model.model.layers]
    assert prefilled(read=True) == prefilled(read=False)
    assert [len(block._forward_hooks) for block in loaded.model.model.layers] == hooks


def test_a_prompt_that_is_stored_already_is_read_from_there(loaded):
    policy = OneSampling(loaded, Sampling(budget=96))
    prompt = prompts(policy)[0]
    list(policy.rollouts([RolloutRequest(prompt, seed=1)]))
    before = policy.work.tokens_prefilled
    stored = policy.residuals([prompt], (3,))
    assert policy.work.tokens_prefilled == before + 1
    fresh = OneSampling(loaded, Sampling(budget=96)).residuals([prompt], (3,))
    torch.testing.assert_close(stored, fresh, rtol=1e-4, atol=1e-4)


def test_a_prompt_of_one_token_and_a_layer_that_is_not_there(loaded):
    policy = OneSampling(loaded, Sampling(budget=96))
    assert policy.residuals([(5,)], (0,)).shape == (1, 1, 128)
    with pytest.raises(ConfigError, match=r"layer 5 is out of range.*0 to 4"):
        policy.residuals([(5,)], (5,))
