"""A vector trained on graded rollouts raises success; rollouts that are not the policy's are refused."""

from dataclasses import replace

import pytest
import torch

from pts.errors import ConfigError, DataError
from pts.models.decoder_layers import adding, decoder_layers
from pts.models.prompt import PromptFormat
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling
from pts.steering.graded_rollouts import Graded, RolloutSample, Start
from pts.steering.hooks import Intervention
from pts.steering.outcome import OutcomeFit, trained
from pts.steering.reading_memory import ReadingMemory
from pts.steering.rollout_batches import Steered, batches, policy_logs, read_rollouts
from pts.steering.steered_policy import steered_policy
from tests.policies.tiny import tiny_model

LAYER, WANTED = 0, 11
SAMPLING = Sampling(temperature=1.0, top_k=12, top_p=0.95, budget=10)
PROMPTS = [tuple(range(8 + place, 13 + place)) for place in range(12)]
FIT = OutcomeFit(steps=40, step_tokens=1500, cap=1.5)


def solved(completion):
    """The grade of the tests: whether one token was written."""
    return WANTED in completion


def requests(n, seed, variant=0):
    return [
        RolloutRequest(prompt, n=n, seed=seed + place, sampling=SAMPLING, key=str(place), variant=variant)
        for place, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def loaded():
    return tiny_model("qwen3")


@pytest.fixture(scope="module")
def sample(loaded):
    """What the search would have drawn: free rollouts, and both sides of a fork after two tokens."""
    policy = TransformersPolicy(loaded)
    asked = requests(40, 0)
    forks = []
    for request in asked:
        trace = next(iter(policy.rollouts([replace(request, n=1, seed=99)]))).completion
        if len(trace) > 3:
            at = replace(request, prefix=trace[:2], n=20)
            forks += [
                replace(at, force=trace[2], key=f"f{request.key}"),
                replace(at, avoid=trace[2], key=f"a{request.key}"),
            ]
    starts, rows = {}, []
    for rollout in policy.rollouts([*asked, *forks]):
        request = rollout.request
        token = request.force if request.force is not None else request.avoid
        start = Start(str(request.prompt[0]), request.prompt, request.prefix, token)
        arm = "forced" if request.force is not None else "avoided" if request.avoid is not None else "free"
        place = starts.setdefault(start, len(starts))
        new = rollout.completion[len(request.prefix) :]
        rows.append(Graded(place, arm, new, rollout.count, solved(rollout.completion)))
    return RolloutSample(tuple(starts), tuple(rows), SAMPLING)


@pytest.fixture(scope="module")
def memory(loaded):
    return ReadingMemory.of(loaded.model, 1 << 28)


@pytest.fixture(scope="module")
def read(loaded, sample, memory):
    return read_rollouts(loaded.model, sample, memory, "the run")


def norm(loaded):
    return float(TransformersPolicy(loaded).residuals(PROMPTS, [LAYER]).norm(dim=-1).mean())


def fitted(loaded, read, memory, fit=FIT, seed=0):
    begin = Steered(decoder_layers(loaded.model), {LAYER: torch.zeros(32)})
    return trained(loaded.model, read, begin, {LAYER: norm(loaded)}, 1.0, memory, seed, fit)[LAYER]


def success(loaded, vector, n=150):
    variants = [[Intervention(LAYER, vector)]]
    with steered_policy(loaded, PromptFormat(), variants) as policy:
        found = list(policy.rollouts(requests(n, 1000, variant=1)))
    return sum(each.count * solved(each.completion) for each in found) / (n * len(PROMPTS))


def test_the_policy_succeeds_more_often(loaded, sample, read, memory):
    vector = fitted(loaded, read, memory)
    before, after = success(loaded, torch.zeros(32)), success(loaded, vector)
    # 1,800 completions each: the standard error of the difference is at most 0.017.
    assert after > before + 0.1
    shuffled = read_rollouts(loaded.model, sample.shuffled(0), memory, "the run")
    assert success(loaded, fitted(loaded, shuffled, memory)) < after - 0.05
    assert float(vector.norm()) <= FIT.cap * norm(loaded) * (1 + 1e-5)
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_the_same_seed_gives_the_same_vector(loaded, read, memory):
    few = replace(FIT, steps=3)
    assert torch.equal(fitted(loaded, read, memory, few), fitted(loaded, read, memory, few))
    assert not torch.equal(fitted(loaded, read, memory, few), fitted(loaded, read, memory, few, seed=1))


def test_little_memory_gives_the_same_vector(loaded, sample, read, memory):
    small = ReadingMemory.of(loaded.model, 1 << 19)
    again = read_rollouts(loaded.model, sample, small, "the run")
    assert len(list(batches(loaded.model, again, small))) > len(list(batches(loaded.model, read, memory)))
    few = replace(FIT, steps=3)
    torch.testing.assert_close(fitted(loaded, again, small, few), fitted(loaded, read, memory, few))


def test_an_unsteered_model_is_its_own_policy(loaded, read, memory):
    nothing = Steered(decoder_layers(loaded.model), {LAYER: torch.zeros(32)})
    for batch in batches(loaded.model, read, memory):
        log_ratio, kl = policy_logs(loaded.model, batch, nothing, SAMPLING.temperature)
        assert log_ratio.abs().max() < 1e-4
        assert kl.abs().max() < 1e-4


def test_the_ratio_is_that_of_the_steered_policy(loaded, sample, read, memory):
    """Beside the sampler's own probabilities of one text at a time, where both keep the same tokens."""
    vector = 0.02 * torch.ones(32)
    steered = Steered(decoder_layers(loaded.model), {LAYER: vector})
    one = next(each for each in read if len(each.column) == len(each.ids) - each.prompt)
    (batch,) = batches(loaded.model, [one], memory)
    with torch.no_grad():
        log_ratio, _ = policy_logs(loaded.model, batch, steered, SAMPLING.temperature)
    prompt, completion = one.ids[: one.prompt], one.ids[one.prompt :]
    free = Sampling(temperature=SAMPLING.temperature, top_k=0, top_p=1.0, budget=10)
    plain = TransformersPolicy(loaded).next_token_probs(prompt, completion, free)
    ids = torch.tensor([one.ids])
    where = (torch.arange(len(one.ids)) >= one.prompt)[None, :, None]
    with torch.no_grad(), adding(decoder_layers(loaded.model)[LAYER], where * vector):
        logits = loaded.model(ids).logits[0, one.prompt - 1 : -1]
    for place, token in enumerate(completion):
        kept = one.kept[place][one.kept[place] >= 0].long()
        after = logits[place, kept].log_softmax(-1)[kept == token]
        own = torch.tensor([plain[place].prob(int(each)) for each in kept])
        before = (own / own.sum()).log()[kept == token]
        assert float(log_ratio[0, place]) == pytest.approx(float(after - before), abs=1e-3)


def test_an_untruncated_sampler_counts_the_whole_vocabulary(loaded):
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=6)
    rows = tuple(Graded(0, "free", (9, 10 + number, 1), 20, number % 2 == 0) for number in range(6))
    sample = RolloutSample((Start("p", (8, 9), ()),), rows, sampling)
    read = read_rollouts(loaded.model, sample, ReadingMemory.of(loaded.model, 1 << 28), "the run")
    assert all(bool(each.whole.all()) and bool((each.column >= 0).all()) for each in read)


def test_rollouts_of_another_sampler_model_or_none_are_refused(loaded, sample, memory):
    narrow = replace(sample, sampling=replace(SAMPLING, top_k=2))
    with pytest.raises(DataError, match="the run: the model and sampler of the search would not draw"):
        read_rollouts(loaded.model, narrow, memory, "the run")
    with pytest.raises(ConfigError, match="drawn greedily"):
        read_rollouts(loaded.model, replace(sample, sampling=Sampling(temperature=0.0)), memory, "the run")
    strange = replace(sample, rollouts=(replace(sample.rollouts[0], new=(36, 40)), *sample.rollouts[1:]))
    with pytest.raises(DataError, match="token id 40, and the model's vocabulary has 37"):
        read_rollouts(loaded.model, strange, memory, "the run")
