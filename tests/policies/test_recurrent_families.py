"""Families whose layers keep a state: what is drawn and read of them is what plain passes give."""

from functools import cache

import pytest
import torch
from one_sampling import OneSampling
from test_transformers_rollouts import exact_completions, generated, outcome, plain_probs, prompt_of
from tiny_families import tiny_family

from pts.errors import ModelError
from pts.models.decoder_layers import decoder_layers
from pts.policies.transformers.cache import CacheLayout, RowStore, StateShape
from pts.policies.transformers.forks import KeptStates
from pts.policies.transformers.recorded import recorded
from pts.policies.transformers.rows import Branch, RowTable
from pts.records import RolloutRequest, Sampling
from pts.steering.hooks import Intervention, steer

RECURRENT = ("lfm2", "qwen3_5", "qwen3_next", "granitemoehybrid", "falcon_h1", "mamba2", "minimax")
SERVED = (*RECURRENT, "llama4")
LIKE_THEM = ("qwen3_5_moe", "bamba", "olmo_hybrid", "mamba", "falcon_mamba", "jamba")
"""Families whose layers are of kinds that are tried above, or that only steps go on from."""
KINDS = ("lfm2", "falcon_h1", "mamba2")
"""One of each kind of layer: a convolution, attention and a scan side by side, a scan alone."""

loaded_family = cache(tiny_family)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [*SERVED, *LIKE_THEM])
def test_greedy_rollouts_equal_generate(name):
    loaded = loaded_family(name)
    policy = OneSampling(loaded, Sampling(temperature=0.0, budget=12), batch_rows=4)
    trace = prompt_of(11, 5)
    requests = [RolloutRequest(prompt_of(length, length)) for length in (1, 5, 19)]
    requests += [RolloutRequest(prompt_of(6), trace[:k], n=2) for k in (11, 4, 8)]
    requests += [RolloutRequest(prompt_of(6), trace[:4], force=5)]
    found = {rollout.request: rollout for rollout in policy.rollouts(requests)}
    for request in requests:
        given = request.prefix if request.force is None else (*request.prefix, request.force)
        written = generated(loaded, request.prompt + given, 12 - len(given))
        assert found[request].completion == given + written
        assert found[request].count == request.n


@pytest.mark.parametrize("name", SERVED)
def test_next_token_probs_equal_passes_without_cache(name):
    loaded = loaded_family(name)
    sampling = Sampling(temperature=0.8, top_k=12, top_p=0.9, budget=30)
    policy = OneSampling(loaded, sampling)
    prompt, completion = prompt_of(7), prompt_of(20, 4)
    before = policy.next_token_probs(prompt, completion)
    # What the store holds of a rollout's prefix, with the states in its midst.
    list(policy.rollouts([RolloutRequest(prompt, completion[:k], n=1) for k in (3, 9, 12)]))
    after = list(policy._read_distributions(prompt, completion, sampling, 10, 20))
    for position in (0, 1, 7, 13, 19):
        expected = plain_probs(loaded, prompt + completion[:position], sampling)
        for found in [before[position], *([after[position - 10]] if position >= 10 else [])]:
            assert dict(zip(found.ids.tolist(), found.probs, strict=True)) == pytest.approx(expected, abs=1e-4)


def crossing_requests():
    """Requests that begin inside one another, and fork at once."""
    trace = prompt_of(9, 5)
    requests = [RolloutRequest(prompt_of(6), trace[:k], n=4, seed=k) for k in (0, 2, 9)]
    requests += [RolloutRequest(prompt_of(6), trace[:2], avoid=trace[2], n=3, seed=3)]
    return [*requests, *(RolloutRequest(prompt_of(k, k), n=3, seed=k) for k in (1, 17))]


@pytest.mark.parametrize("name", ["qwen3_5", "granitemoehybrid", "minimax"])
def test_batch_size_and_company_change_nothing(name):
    loaded = loaded_family(name)
    sampling = Sampling(temperature=1.0, top_k=4, top_p=1.0, budget=11)
    requests = crossing_requests()
    wide = outcome(OneSampling(loaded, sampling, batch_rows=64), requests)
    assert all(sum(counts.values()) == request.n for request, counts in wide.items())
    # Branches wait in a few rows, their states in slots.
    assert outcome(OneSampling(loaded, sampling, batch_rows=3), requests[::-1]) == wide


@pytest.mark.parametrize("name", KINDS)
def test_alone_and_without_room_for_states_the_results_are_the_same(name):
    loaded = loaded_family(name)
    sampling = Sampling(temperature=1.0, top_k=4, top_p=1.0, budget=11)
    requests = crossing_requests()
    wide = outcome(OneSampling(loaded, sampling), requests)
    for place in (1, 5):
        assert outcome(OneSampling(loaded, sampling), [requests[place]]) == {
            requests[place]: wide[requests[place]]
        }
    # No slot at all, so what cannot go on at once is read again; and no room for prefixes either.
    policy = OneSampling(loaded, sampling, batch_rows=3)
    policy._allowance.granted_to_kept = 0
    policy._prefixes.kept.max_bytes = 1
    assert outcome(policy, requests) == wide


@pytest.mark.parametrize(("name", "rows"), [("lfm2", 1), ("mamba2", 3)])
def test_a_step_that_runs_out_of_memory_is_not_read_twice(name, rows, monkeypatch):
    """The failed step has changed the states: all rows go on from what is read again."""
    loaded = loaded_family(name)
    sampling = Sampling(temperature=1.0, top_k=6, top_p=1.0, budget=9)
    requests = crossing_requests()
    undisturbed = outcome(OneSampling(loaded, sampling), requests)
    policy = OneSampling(loaded, sampling)
    policy.check_length(20)
    forward, failed = loaded.model.forward, []

    def limited(*args, **kwargs):
        found = forward(*args, **kwargs)
        if len(kwargs["input_ids"]) > rows:
            failed.append(len(kwargs["input_ids"]))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return found

    monkeypatch.setattr(loaded.model, "forward", limited)
    assert outcome(policy, requests) == undisturbed
    assert failed
    assert policy.work.row_limit <= rows


def test_completions_are_drawn_with_their_exact_probabilities():
    # Chi-square with a false alarm rate of 1e-4; cells of at least 5 expected, the rest pooled.
    from scipy.stats import chisquare

    loaded = tiny_family("lfm2", vocab=6, spread=0.2)
    sampling = Sampling(temperature=1.0, top_k=4, top_p=0.97, budget=4)
    prompt = (2, 4, 3, 5, 2, 3, 4)
    request = RolloutRequest(prompt, n=4000, seed=5)
    exact = exact_completions(loaded, prompt, sampling)
    found = outcome(OneSampling(loaded, sampling, batch_rows=4), [request])[request]
    counts = {completion: count for (completion, _), count in found.items()}
    assert set(counts) <= set(exact)
    large = [completion for completion, prob in exact.items() if 4000 * prob >= 5]
    seen = [counts.get(completion, 0) for completion in large]
    expected = [4000 * exact[completion] for completion in large]
    assert len(large) > 20
    assert chisquare([*seen, 4000 - sum(seen)], [*expected, 4000 - sum(expected)]).pvalue > 1e-4


def plain_trace(counts):
    ((completion, _),) = counts
    return completion


@pytest.mark.parametrize("name", [*KINDS, "qwen3_5", "minimax", "llama4"])
def test_steering_acts_on_its_rows_and_leaves_no_trace(name):
    loaded = loaded_family(name)
    policy = OneSampling(loaded, Sampling(temperature=0.0, budget=10), batch_rows=8)
    prompts = [prompt_of(length, length) for length in (3, 8, 13)]
    plain = {request.prompt: outcome(policy, [request])[request] for request in map(RolloutRequest, prompts)}
    vector = torch.randn(32, generator=torch.Generator().manual_seed(3)) * 5
    hooks = sum(len(module._forward_hooks) for module in loaded.model.modules())
    requests = [RolloutRequest(prompt, variant=variant) for prompt in prompts for variant in (0, 1)]
    requests += [RolloutRequest(prompts[1], plain_trace(plain[prompts[1]])[:3], variant=1)]
    with steer(loaded.model, [[Intervention(1, vector)]], engine_driven=True) as on, policy.steered(on):
        found = outcome(policy, requests)
    for request in requests:
        (completion, _) = next(iter(found[request]))
        if not request.variant:
            assert found[request] == plain[request.prompt]
        elif len(request.prompt) == 8 and not request.prefix:
            with steer(loaded.model, [[Intervention(1, vector)]]):
                assert completion == generated(loaded, request.prompt, 10)
        elif request.prefix:
            with steer(loaded.model, [[Intervention(1, vector)]]) as steering:
                steering.prompt_tokens = len(request.prompt)
                written = generated(loaded, request.prompt + request.prefix, 10 - len(request.prefix))
            assert completion == request.prefix + written
    assert any(found[RolloutRequest(prompt, variant=1)] != plain[prompt] for prompt in prompts)
    assert sum(len(module._forward_hooks) for module in loaded.model.modules()) == hooks
    assert outcome(policy, [RolloutRequest(prompts[1])]) == {RolloutRequest(prompts[1]): plain[prompts[1]]}


@pytest.mark.parametrize("name", SERVED)
def test_residual_streams_equal_those_of_a_pass_without_cache(name):
    loaded = loaded_family(name)
    policy = OneSampling(loaded, Sampling(budget=8))
    # Lengths that come twice share a pass; the last one is stored already.
    prompts = [prompt_of(length, salt) for salt, length in enumerate((4, 7, 7, 4, 7, 9, 12))]
    list(policy.rollouts([RolloutRequest(prompts[-1])]))
    found = policy.residuals(prompts, (0, 2))
    blocks = decoder_layers(loaded.model)
    for prompt, states in zip(prompts, found, strict=True):
        with recorded([blocks[0], blocks[2]]) as record:
            record.ends = [-1]
            loaded.model(input_ids=torch.tensor([prompt[:-1]]), use_cache=False)
            torch.testing.assert_close(states, record.states()[0], rtol=1e-4, atol=1e-4)


def test_a_trace_is_read_in_one_sweep_for_all_positions_that_something_begins_at():
    policy = OneSampling(loaded_family("lfm2"), Sampling(budget=40), batch_rows=16)
    prompt, trace = prompt_of(6), prompt_of(20, 3)
    requests = [RolloutRequest(prompt, trace[:k], n=1, seed=k) for k in range(0, 20, 3)]
    before = policy.work.tokens_prefilled
    list(policy.rollouts(requests))
    assert policy.work.tokens_prefilled - before == len(prompt) + 18 - 1
    # Again from the states that are kept; one position more is read from the state before it.
    list(policy.rollouts([*requests, RolloutRequest(prompt, trace[:11], n=1)]))
    assert policy.work.tokens_prefilled - before == len(prompt) + 18 - 1 + 2


def test_states_in_the_store_stay_within_what_it_may_take():
    policy = OneSampling(loaded_family("mamba2"), Sampling(budget=60), batch_rows=16)
    store, prompt, trace = policy._prefixes, prompt_of(6), prompt_of(59, 3)
    store.kept.max_bytes = 8 * store.layout.sequence_bytes(60)
    for start in range(45, 57, 3):
        list(policy.rollouts([RolloutRequest(prompt, trace[: start + k], n=1) for k in range(3)]))
        held = sum(entry.nbytes for entry in store.kept.entries)
        assert store.kept.nbytes == held <= store.kept.max_bytes
    assert sum(len(entry.states) for entry in store.kept.entries) >= 3


LAYOUT = CacheLayout((), (StateShape((2, 3), torch.float32, torch.device("cpu")),))


def waiting(kept, table, row, n, made):
    fork = kept.fork()
    branches = [Branch(token, 0.5, token, 1, made, None, fork) for token in range(n)]
    for branch in branches:
        table.branches[row].append(branch)
        kept.hold(branch)
    return branches


@torch.inference_mode()
def test_states_of_branches_are_kept_until_the_last_has_gone_on():
    store, table = RowStore(LAYOUT), RowTable()
    store.reserve(3, 1)
    table.reserve(3)
    table.active = 3
    # Two slots: growing copies one tensor, so each counts twice here.
    kept = KeptStates(LAYOUT, 2 * 2 * LAYOUT.state_bytes)
    store.states[0][:] = torch.arange(3.0)[:, None, None]
    for row in range(3):
        waiting(kept, table, row, 2, made=1)
    assert kept.keep(table, store) == [2]
    store.states[0][:] = -1
    entering = table.branches[0].popleft()
    kept.enter(2, entering)
    kept.move(2, 1)
    kept.repay(store)
    assert store.states[0][:, 0, 0].tolist() == [-1, 0, -1]
    # The fork's slot is free only when its other branch has gone too.
    assert kept.keep(table, store) == [2]
    kept.leave(table.branches[0])
    table.branches[0].clear()
    assert kept.keep(table, store) == []


@torch.inference_mode()
def test_rows_states_are_counted():
    store = RowStore(LAYOUT)
    store.reserve(4, 9)
    assert (store.rows, store.columns) == (4, 9)
    assert store.nbytes == 4 * LAYOUT.state_bytes
    store.states[0][:] = 7
    store.resize(2, 12)
    assert (store.rows, store.columns, float(store.states[0].min())) == (2, 12, 7.0)
    store.release()
    assert store.nbytes == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("recurrent_gemma", "in its modules, outside the cache"),
        ("rwkv", "rwkv keeps a state other than keys and values"),
        ("nemotron_h", r"nemotron_h bounds the time step of its scan to \(0.001, inf\)"),
        ("zamba2", "zamba2 bounds the time step"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_reason(name, reason):
    with pytest.raises(ModelError, match=rf"{reason}.*not supported\.$") as refused:
        OneSampling(tiny_family(name), Sampling(budget=8))
    assert "\n" not in str(refused.value)
