"""Rollouts of the transformers policy against `generate`, exact probabilities, and themselves."""

import gc
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from one_sampling import OneSampling
from scipy.stats import chisquare
from tiny import ARCHITECTURES, END, VOCAB, tiny_model

from pts.errors import ConfigError
from pts.models.load import LoadedModel
from pts.policies.transformers.distribution import truncate
from pts.records import RolloutRequest, Sampling


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prompt_of(length: int, salt: int = 0) -> tuple[int, ...]:
    return tuple((salt * 7 + 3 + step * 5) % (VOCAB - 2) + 2 for step in range(length))


def generated(loaded: LoadedModel, ids: tuple[int, ...], new: int) -> tuple[int, ...]:
    inputs = torch.tensor([ids])
    output = loaded.model.generate(
        inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=new
    )
    return tuple(output[0, len(ids) :].tolist())


def plain_probs(loaded: LoadedModel, ids: tuple[int, ...], sampling: Sampling) -> dict[int, float]:
    """The next-token distribution after `ids` from a pass without any cache."""
    logits = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1]
    row = truncate(logits, sampling).row(0)
    return dict(zip(row.ids.tolist(), row.probs.tolist(), strict=True))


def outcome(policy: OneSampling, requests) -> dict:
    """For each request its completions with their counts and ends."""
    result: dict = {request: Counter() for request in requests}
    for rollout in policy.rollouts(requests):
        result[rollout.request][rollout.completion, rollout.finish] += rollout.count
    return result


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_rollouts_equal_generate(name):
    loaded = tiny_model(name)
    policy = OneSampling(loaded, Sampling(temperature=0.0, budget=24), batch_rows=5)
    requests = []
    for index, length in enumerate((1, 3, 6, 9, 14)):
        prompt = prompt_of(length, index)
        requests += [RolloutRequest(prompt, n=2), RolloutRequest(prompt, prompt_of(4, index + 9), n=3)]
        requests += [RolloutRequest(prompt, prompt_of(2, index), force=5, n=1)]
    found = {rollout.request: rollout for rollout in policy.rollouts(requests)}
    for request in requests:
        given = request.prefix if request.force is None else (*request.prefix, request.force)
        expected = given + generated(loaded, request.prompt + given, 24 - len(given))
        assert found[request].completion == expected
        assert found[request].count == request.n


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_next_token_probs_equal_passes_without_cache(name):
    loaded = tiny_model(name)
    sampling = Sampling(temperature=0.8, top_k=12, top_p=0.9, budget=30)
    policy = OneSampling(loaded, sampling)
    prompt, completion = prompt_of(7), prompt_of(20, 4)
    for _ in range(2):  # the second time from the prefix that the first one stored
        distributions = policy.next_token_probs(prompt, completion)
        assert len(distributions) == len(completion)
        for position in range(0, 20, 3):
            expected = plain_probs(loaded, prompt + completion[:position], sampling)
            got = distributions[position]
            assert dict(zip(got.ids.tolist(), got.probs, strict=True)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt2", "mistral"])
def test_batch_size_order_and_company_change_nothing(name):
    loaded = tiny_model(name)
    sampling = Sampling(temperature=1.0, top_k=6, top_p=0.9, budget=11)
    shared = prompt_of(6)
    requests = [RolloutRequest(shared, prompt_of(k), n=4, seed=k) for k in (0, 5, 9, 10)]
    requests += [RolloutRequest(prompt_of(3 + k, k), n=4, seed=1) for k in range(2)]
    requests += [RolloutRequest(shared, prompt_of(5), avoid=prompt_of(6)[5], n=4, seed=2)]
    wide = outcome(OneSampling(loaded, sampling, batch_rows=64), requests)
    for rows in (1, 3):
        assert outcome(OneSampling(loaded, sampling, batch_rows=rows), requests) == wide
    assert outcome(OneSampling(loaded, sampling, batch_rows=7), requests[::-1]) == wide
    alone: dict = {}
    for request in requests:
        alone |= outcome(OneSampling(loaded, sampling), [request])
    assert alone == wide
    assert all(sum(counts.values()) == request.n for request, counts in wide.items())


def exact_completions(loaded: LoadedModel, prompt, sampling: Sampling, given=(), avoid=None) -> dict:
    """Exact probability of every completion, by enumeration without a cache."""
    probs = plain_probs(loaded, prompt + given, sampling)
    if avoid is not None:
        probs.pop(avoid)
        total = sum(probs.values())
        probs = {token: prob / total for token, prob in probs.items()}
    result: dict = {}
    for token, prob in probs.items():
        completion = (*given, token)
        if token == END or len(completion) == sampling.budget:
            result[completion] = prob
        else:
            tails = exact_completions(loaded, prompt, sampling, completion)
            result |= {tail: prob * below for tail, below in tails.items()}
    return result


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma3", "gpt2", "mistral"])
def test_completions_are_drawn_with_their_exact_probabilities(name):
    # Chi-square with a false alarm rate of 1e-4 a test (three kinds of request, five models); cells of at least
    # 5 expected, the rest pooled.
    loaded = tiny_model(name, vocab=6, sharpness=0.6)
    sampling = Sampling(temperature=1.2, top_k=4, top_p=0.97, budget=4)
    policy = OneSampling(loaded, sampling, batch_rows=16)
    prompt = (2, 4, 3, 5, 2, 3, 4)
    first = max(
        plain_probs(loaded, prompt, sampling), key=lambda token: plain_probs(loaded, prompt, sampling)[token]
    )
    cases = [
        (RolloutRequest(prompt, n=4000, seed=5), exact_completions(loaded, prompt, sampling)),
        (RolloutRequest(prompt, force=3, n=4000, seed=6), exact_completions(loaded, prompt, sampling, (3,))),
        (
            RolloutRequest(prompt, avoid=first, n=4000, seed=7),
            exact_completions(loaded, prompt, sampling, avoid=first),
        ),
    ]
    for request, exact in cases:
        counts = Counter({key: n for (key, _), n in outcome(policy, [request])[request].items()})
        assert set(counts) <= set(exact)
        large = [key for key, prob in exact.items() if prob * 4000 >= 5]
        observed = [counts[key] for key in large]
        expected = [exact[key] * 4000 for key in large]
        rest = 4000 - sum(expected)
        if rest > 5:
            observed.append(4000 - sum(observed))
            expected.append(rest)
        assert len(observed) >= 3
        assert chisquare(observed, np.array(expected) * sum(observed) / sum(expected)).pvalue > 1e-4 / 15


def test_rows_replaced_one_by_one_match_many_single_draws():
    # Requests of n = 1 with seeds of their own: all together they follow the exact distribution.
    loaded = tiny_model("qwen3", vocab=6, sharpness=0.6)
    sampling = Sampling(temperature=1.2, top_k=4, top_p=0.97, budget=3)
    policy = OneSampling(loaded, sampling, batch_rows=48)
    prompt = (2, 4, 3)
    exact = exact_completions(loaded, prompt, sampling)
    counts: Counter = Counter()
    for rollout in policy.rollouts(RolloutRequest(prompt, n=1, seed=seed) for seed in range(2000)):
        counts[rollout.completion] += rollout.count
    keys = [key for key in exact if exact[key] * 2000 >= 5]
    observed = np.array([counts[key] for key in keys])
    expected = np.array([exact[key] for key in keys])
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


def test_an_end_token_ends_and_belongs_to_the_completion():
    loaded = tiny_model("llama", vocab=8, sharpness=0.3)
    policy = OneSampling(loaded, Sampling(temperature=1.5, top_k=0, top_p=1.0, budget=12))
    ends = Counter()
    for rollout in policy.rollouts([RolloutRequest((3, 4), n=300)]):
        ends[rollout.finish] += rollout.count
        assert END not in rollout.completion[:-1]
        assert (rollout.completion[-1] == END) == (rollout.finish == "end")
        assert rollout.finish == "end" or len(rollout.completion) == 12
        assert len(rollout.completion) <= 12
    assert ends["end"] > 0
    assert ends["budget"] > 0


def test_several_end_tokens_all_end():
    tiny = tiny_model("llama", vocab=8, sharpness=0.3)
    loaded = LoadedModel(
        tiny.model, None, "two ends", None, tiny.device, tiny.dtype, end_token_ids=frozenset({1, 6})
    )
    policy = OneSampling(loaded, Sampling(temperature=1.5, top_k=0, top_p=1.0, budget=12))
    rollouts = list(policy.rollouts([RolloutRequest((3, 4), n=300)]))
    assert {r.completion[-1] for r in rollouts if r.finish == "end"} == {1, 6}
    assert all(not {1, 6} & set(r.completion[:-1]) for r in rollouts)


@pytest.mark.parametrize(
    ("prefix", "force", "completion", "finish"),
    [
        ((3, 4, 5, 6), None, (3, 4, 5, 6), "budget"),
        ((3, 4, END), None, (3, 4, END), "end"),
        ((3, 4, 5, END), None, (3, 4, 5, END), "end"),
        ((3, END), 5, (3, END), "end"),
        ((3,), END, (3, END), "end"),
        ((3, 4, 5), 6, (3, 4, 5, 6), "budget"),
        ((3, 4, 5), END, (3, 4, 5, END), "end"),
    ],
)
def test_what_is_complete_is_never_continued(prefix, force, completion, finish):
    policy = OneSampling(tiny_model("qwen3"), Sampling(budget=4))
    before = policy.work.forward_passes
    (rollout,) = policy.rollouts([RolloutRequest((7, 8), prefix, force=force, n=5)])
    assert (rollout.completion, rollout.finish, rollout.count) == (completion, finish, 5)
    assert policy.work.forward_passes == before
    assert policy.work.tokens_delivered == 0


def test_requests_that_make_no_sense_are_refused():
    policy = OneSampling(tiny_model("qwen3"), Sampling(budget=4))
    bad = [
        RolloutRequest((7, 8), force=3, avoid=4),
        RolloutRequest((7, 8), (3, 4, 5, 6, 7)),
        RolloutRequest((), (3,)),
        RolloutRequest((7, 8), n=-1),
    ]
    for request in bad:
        with pytest.raises(ValueError):
            list(policy.rollouts([request]))
    assert list(policy.rollouts([RolloutRequest((7, 8), n=0)])) == []


def test_avoiding_all_that_truncation_left_gives_the_likeliest_other_token():
    loaded = tiny_model("qwen3")
    narrow = OneSampling(loaded, Sampling(top_p=1e-6, budget=4))
    ranked = OneSampling(loaded, Sampling(top_k=2, top_p=1.0, budget=4)).next_token_probs((7, 8), (3,))
    (only,), (best, second) = narrow.next_token_probs((7, 8), (3,))[0].ids, ranked[0].ids
    assert only == best
    requests = [RolloutRequest((7, 8), avoid=int(only), n=3), RolloutRequest((7, 8), n=2, seed=1)]
    avoided, free = sorted(narrow.rollouts(requests), key=lambda rollout: rollout.request.seed)
    assert (avoided.completion[0], avoided.count) == (second, 3)
    assert (free.completion[0], free.count) == (best, 2)


def test_a_prompt_beyond_the_models_positions_is_refused():
    policy = OneSampling(tiny_model("gpt2"), Sampling(budget=100))
    with pytest.raises(ConfigError, match="128 positions"):
        list(policy.rollouts([RolloutRequest(prompt_of(40))]))


def test_requests_are_read_lazily():
    policy = OneSampling(tiny_model("qwen3"), Sampling(budget=3), batch_rows=2)
    read = itertools.count()
    requests = (RolloutRequest((7, 8), seed=next(read)) for _ in range(100))
    next(policy.rollouts(requests))
    assert next(read) <= 8


def test_traces_carry_the_probabilities_of_their_tokens():
    sampling = Sampling(temperature=1.0, top_k=6, top_p=0.9, budget=12)
    policy = OneSampling(tiny_model("gemma3"), sampling)
    traces = policy.sample_traces(prompt_of(9), 6, seed=3)
    assert len(traces) == 6
    for trace in traces:
        read = policy.next_token_probs(trace.prompt, trace.completion)
        expected = [row.prob(token) for row, token in zip(read, trace.completion, strict=True)]
        assert trace.token_probs == pytest.approx(expected, abs=1e-4)
        assert min(trace.token_probs) > 0
    narrow = OneSampling(tiny_model("gemma3"), sampling, batch_rows=1)
    again = narrow.sample_traces(prompt_of(9), 6, seed=3)
    assert [trace.completion for trace in again] == [trace.completion for trace in traces]
    assert policy.sample_traces(prompt_of(9), 6, seed=4) != traces


def test_a_trace_is_prefilled_once_for_all_positions():
    policy = OneSampling(tiny_model("qwen3"), Sampling(budget=30))
    prompt, completion = prompt_of(10), prompt_of(30, 3)
    policy.next_token_probs(prompt, completion)
    before = policy.work.tokens_prefilled
    list(policy.rollouts(RolloutRequest(prompt, completion[:position], n=2) for position in range(29)))
    assert policy.work.tokens_prefilled == before


def test_equal_prefixes_share_a_row():
    policy = OneSampling(tiny_model("qwen3"), Sampling(temperature=0.0, budget=20))
    before = policy.work
    (rollout,) = policy.rollouts([RolloutRequest(prompt_of(5), n=50)])
    new = len(rollout.completion)
    assert rollout.count == 50
    assert policy.work.rows_forwarded - before.rows_forwarded == new
    assert policy.work.tokens_delivered - before.tokens_delivered == 50 * new


def test_no_row_memory_outlives_a_call():
    policy = OneSampling(tiny_model("qwen3"), Sampling(budget=40))
    list(policy.rollouts([RolloutRequest((7, 8), n=64)]))
    gc.collect()
    gc.disable()
    try:
        before = tensor_bytes()
        for seed in range(3):
            list(policy.rollouts([RolloutRequest((7, 8), n=64, seed=seed)]))
        kept = tensor_bytes() - before
        assert kept < 10_000
    finally:
        gc.enable()


def tensor_bytes():
    return sum(held.nbytes for held in gc.get_objects() if type(held) is torch.Tensor)


@pytest.mark.parametrize("batch_rows", [3, 64])
def test_expansion_follows_every_completion_with_its_exact_probability(batch_rows):
    loaded = tiny_model("qwen3")
    policy = OneSampling(loaded, Sampling(top_k=3, top_p=1.0, budget=5), batch_rows=batch_rows)
    requests = [RolloutRequest((7, 8), n=10**12), RolloutRequest((7, 8), (3,), avoid=4, n=10**12)]
    found = {request: Counter() for request in requests}
    for rollout in policy.expand(requests, least=1):
        found[rollout.request][rollout.completion] += rollout.count
    for request, counts in found.items():
        assert sum(counts.values()) == pytest.approx(10**12, rel=1e-9)
        assert len(counts) == len(set(counts))
        for completion, count in counts.items():
            start = len(request.prefix)
            distributions = policy.next_token_probs(request.prompt, completion)[start:]
            probs = [d.prob(t) for d, t in zip(distributions, completion[start:], strict=True)]
            if request.avoid is not None:
                assert completion[start] != request.avoid
                probs[0] /= 1.0 - distributions[0].prob(request.avoid)
            assert count / 10**12 == pytest.approx(np.prod(probs), rel=1e-4, abs=1e-9)


def test_expansion_leaves_out_what_is_too_unlikely():
    policy = OneSampling(tiny_model("qwen3"), Sampling(top_k=3, top_p=1.0, budget=5))
    request = RolloutRequest((7, 8), n=10**6)
    every = {r.completion: r.count for r in policy.expand([request], least=1)}
    likely = {r.completion: r.count for r in policy.expand([request], least=20_000)}
    assert 0 < len(likely) < len(every)
    assert likely == {completion: count for completion, count in every.items() if count >= 20_000}
