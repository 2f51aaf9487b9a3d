"""What rows take stays within what they are granted, and running out of memory changes no result."""

import logging
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from one_sampling import OneSampling
from peak_memory import peak_bytes
from test_transformers_rollouts import outcome, prompt_of
from tiny import tiny_model

from pts.errors import ModelError
from pts.policies.transformers import cache
from pts.policies.transformers.allowance import RowCost
from pts.policies.transformers.cache import CacheLayout, PlaneShape, RowStore
from pts.policies.transformers.distribution import draw, next_tokens
from pts.policies.transformers.memory import is_out_of_memory
from pts.records import RolloutRequest, Sampling
from pts.steering.hooks import Intervention, steer

SAMPLING = Sampling(temperature=1.0, top_k=8, top_p=1.0, budget=12)
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def requests_of(n, sort=0):
    return [RolloutRequest(prompt_of(5 + k % 3, k), n=3, seed=sort + k) for k in range(n)]


def mixed_requests():
    """Of every kind: prompts alone, prefixes of a trace, a token that is forced or avoided, many of one."""
    trace = prompt_of(10, 3)
    found = [RolloutRequest(prompt_of(6), trace[:k], n=3, seed=k) for k in (0, 7)]
    found += [RolloutRequest(prompt_of(3 + k, k), n=2, seed=1) for k in range(6)]
    found += [RolloutRequest(prompt_of(6), trace[:5], avoid=trace[5], n=3, seed=2)]
    return [*found, RolloutRequest(prompt_of(6), trace[:8], force=9, n=2, seed=3)]


@pytest.fixture
def failing(monkeypatch):
    """Make passes over more than so many rows (or tokens) fail as the device does when memory runs out."""

    def install(loaded, rows, tokens=10**9, error=CUDA):
        forward = loaded.model.forward
        failed = []

        def limited(*args, **kwargs):
            ids = kwargs["input_ids"]
            if ids.shape[0] > rows or ids.numel() > tokens:
                forward(*args, **kwargs)  # the caches have been written to when it fails
                failed.append(tuple(ids.shape))
                raise error
            return forward(*args, **kwargs)

        monkeypatch.setattr(loaded.model, "forward", limited)
        return failed

    return install


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=10)])
def test_running_out_of_memory_changes_no_result(failing, caplog, rows, sampling):
    loaded = tiny_model("qwen3")
    requests = mixed_requests()
    undisturbed = outcome(OneSampling(loaded, sampling), requests)
    policy = OneSampling(loaded, sampling)
    failed = failing(loaded, rows)
    with caplog.at_level(logging.WARNING, "pts"):
        assert outcome(policy, requests) == undisturbed
    assert len(failed) >= 2
    assert 1 <= policy.work.row_limit <= rows
    assert policy.work.largest_batch == policy.work.row_limit
    said = [record.getMessage() for record in caplog.records if "rows in a batch" in record.getMessage()]
    said += [record.getMessage() for record in caplog.records if "1 row in a batch" in record.getMessage()]
    assert len(said) == 1
    # What was learnt is kept: the next call does not fail again.
    before = len(failed)
    assert outcome(policy, requests) == undisturbed
    assert not [shape for shape in failed[before:] if shape[1] == 1]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: can't allocate memory: you"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, other allocations: 1.00 GB)"),
        MemoryError(),
    ],
    ids=["cpu", "mps", "host"],
)
def test_every_wording_of_exhausted_memory_is_known(failing, error):
    loaded = tiny_model("gemma3")
    sampling = Sampling(temperature=1.0, top_k=8, top_p=1.0, budget=12)
    undisturbed = outcome(OneSampling(loaded, sampling), mixed_requests()[2:])
    policy = OneSampling(loaded, sampling)
    assert failing(loaded, 3, error=error) == []
    assert outcome(policy, mixed_requests()[2:]) == undisturbed
    assert policy.work.row_limit <= 3


def test_what_the_cpu_says_itself_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(
    "error", [CUDA, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_model_that_memory_does_not_suffice_to_try_is_not_called_unsupported(failing, error):
    loaded = tiny_model("qwen3")
    failing(loaded, 0, error=error)
    with pytest.raises(RuntimeError) as caught:
        OneSampling(loaded, SAMPLING)
    assert caught.value is error


def test_another_error_is_no_reason_to_go_on(failing):
    loaded = tiny_model("qwen3")
    policy = OneSampling(loaded, SAMPLING)
    failing(loaded, 2, error=RuntimeError("index out of range"))
    with pytest.raises(RuntimeError, match="index out of range"):
        outcome(policy, requests_of(5))


def test_where_one_row_does_not_fit_one_line_says_what_to_lower(failing):
    loaded = tiny_model("qwen3")
    policy = OneSampling(loaded, SAMPLING)
    failing(loaded, 0)
    with pytest.raises(ModelError, match=r"not enough memory on cpu for a single.*budget=") as caught:
        list(policy.rollouts([RolloutRequest(prompt_of(5), n=2)]))
    assert "\n" not in str(caught.value)


def test_a_prompt_that_does_not_fit_is_read_in_smaller_parts(failing):
    loaded = tiny_model("qwen3")
    sampling = Sampling(temperature=1.0, top_k=8, top_p=1.0, budget=20)
    requests = [RolloutRequest(prompt_of(100, k), n=2, seed=k) for k in range(6)]
    undisturbed = outcome(OneSampling(loaded, sampling), requests)
    policy = OneSampling(loaded, sampling)
    failed = failing(loaded, 10**9, tokens=40)
    assert outcome(policy, requests) == undisturbed
    assert failed
    probs = policy.next_token_probs(prompt_of(50), prompt_of(60, 2))
    assert len(probs) == 60


@pytest.mark.parametrize("most", [40, 120])
def test_a_cache_that_cannot_grow_changes_no_result(monkeypatch, most):
    loaded = tiny_model("qwen3")
    requests = mixed_requests()
    undisturbed = outcome(OneSampling(loaded, SAMPLING), requests)
    empty, refused = torch.empty, []

    def limited(size, *args, **kwargs):
        # The second plane of a layer fails: the first has grown already.
        if isinstance(size, tuple) and len(size) == 4 and size[0] * size[1] > most and len(refused) < 200:
            refused.append(size)
            if len(refused) % 2 == 0:
                raise CUDA
        return empty(size, *args, **kwargs)

    monkeypatch.setattr(cache.torch, "empty", limited)
    policy = OneSampling(loaded, SAMPLING)
    assert outcome(policy, requests) == undisturbed
    assert len(refused) > 1
    assert policy.work.row_limit < 256


def test_steered_rows_go_on_as_they_were(failing):
    loaded = tiny_model("qwen3")
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    sampling = Sampling(temperature=1.0, top_k=8, top_p=1.0, budget=12)
    requests = [RolloutRequest(prompt_of(6, k), n=4, seed=k, variant=k % 2) for k in range(6)]
    with steer(loaded.model, [[Intervention(0, direction)]], engine_driven=True) as steering:
        with OneSampling(loaded, sampling).steered(steering) as policy:
            undisturbed = outcome(policy, requests)
        failing(loaded, 3)
        with OneSampling(loaded, sampling).steered(steering) as policy:
            assert outcome(policy, requests) == undisturbed
    assert policy.work.row_limit <= 3


def test_rows_take_no_more_than_they_are_granted():
    loaded = tiny_model("qwen3")
    model_alone = peak_bytes(lambda: outcome(OneSampling(loaded, SAMPLING, batch_rows=1), requests_of(1)))
    for granted in (1 << 20, 3 << 20):
        policy = OneSampling(loaded, SAMPLING, memory_bytes=granted)
        peak = peak_bytes(lambda policy=policy: outcome(policy, requests_of(60)))
        assert policy.work.largest_batch >= 10
        assert policy.work.largest_batch == policy.work.row_limit or policy.work.largest_batch < 60 * 3
        assert peak - model_alone <= 1.1 * granted


def test_a_long_prompt_waits_until_there_is_room_for_its_columns():
    loaded = tiny_model("qwen3")
    sampling = Sampling(temperature=1.0, top_k=8, top_p=1.0, budget=20)
    requests = [*requests_of(9), RolloutRequest(prompt_of(90), n=1, seed=3), *requests_of(9, sort=50)]
    alone = outcome(OneSampling(loaded, sampling), requests)
    policy = OneSampling(loaded, sampling, memory_bytes=130_000)
    assert outcome(policy, requests) == alone


def test_growing_has_one_plane_twice_and_not_all():
    layout = CacheLayout((PlaneShape(2, 8, torch.float32, torch.device("cpu")),) * 20)
    small, large = (rows * layout.bytes_per_token for rows in (16 * 64, 32 * 128))
    store = RowStore(layout)

    def grown():
        store.reserve(16, 64)
        store.reserve(32, 128)

    assert peak_bytes(grown) <= large + small / 20 + 1000
    assert store.nbytes == large
    store.load([torch.full((2, 1, 8), 7.0)] * 20, list(range(32)), 1)
    assert peak_bytes(lambda: store.resize(4, 128)) <= large / 8
    assert store.rows == 4
    assert bool((store.planes[3][:, 0] == 7.0).all())


def test_loads_and_copies_hold_little_on_the_way():
    shape = PlaneShape(4, 64, torch.float32, torch.device("cpu"))
    store = RowStore(CacheLayout((shape,) * 4))
    store.reserve(64, 600)
    sequence = [torch.randn(4, 500, 64) for _ in range(4)]
    assert peak_bytes(lambda: store.load(sequence, list(range(0, 64, 2)), 500)) < 1 << 20
    sources, targets = list(range(0, 64, 2)), list(range(1, 64, 2))
    assert peak_bytes(lambda: store.copy(sources, targets, 500)) <= cache._COPY_BYTES + (1 << 20)
    for row in range(64):
        for stored, plane in zip(store.planes, sequence, strict=True):
            assert torch.equal(stored[row, :500].transpose(0, 1), plane)
            assert not stored[row, 500:].any()


def test_one_row_a_batch_is_never_a_secret(caplog):
    loaded = tiny_model("qwen3")
    with caplog.at_level(logging.WARNING, "pts"):
        policy = OneSampling(loaded, SAMPLING, memory_bytes=1000)
        outcome(policy, requests_of(3))
        outcome(policy, requests_of(3))
        (said,) = caplog.messages
        assert "memory allows only 1 row in a batch" in said
        assert "0.0 MiB are granted" in said
        assert "a row of 17 tokens" in said
        caplog.clear()
        # One completion needs no second row, and enough memory no word.
        outcome(OneSampling(loaded, SAMPLING, memory_bytes=1000), [RolloutRequest(prompt_of(4))])
        outcome(OneSampling(loaded, SAMPLING, memory_bytes=100 << 20), requests_of(30))
        assert caplog.messages == []


def test_the_vocabulary_counts_as_memory_of_a_row():
    layout = CacheLayout((PlaneShape(1, 8, torch.float32, torch.device("cpu")),) * 2)
    costs = [
        RowCost.of(tiny_model("qwen3", vocab=vocab).model, layout, False).per_row for vocab in (40, 40_000)
    ]
    assert costs[1] - costs[0] >= 4 * 39_960


@pytest.mark.parametrize("sampling", [Sampling(top_k=0), Sampling(top_k=0, top_p=1.0, min_p=1e-9)])
def test_a_sorted_vocabulary_counts_as_memory_of_a_row(sampling):
    vocab, rows = 20_000, 6
    layout = CacheLayout((PlaneShape(1, 8, torch.float32, torch.device("cpu")),) * 2)
    model = tiny_model("qwen3", vocab=vocab).model
    counted = RowCost.of(model, layout, False, [sampling]).per_row - RowCost.of(model, layout, False).per_row
    logits = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(0)) / 8
    none, ones = np.full(rows, -1), np.ones(rows, dtype=np.int64)

    def step():
        draw(next_tokens(logits, sampling, none), ones.astype(np.uint64), ones)

    step()
    tracemalloc.start()
    step()
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = arrays + peak_bytes(step)
    assert 40 * vocab * rows < held <= counted * rows


def test_counts_add_up_when_rows_wait(failing):
    loaded = tiny_model("llama", vocab=8, sharpness=0.3)
    sampling = Sampling(temperature=1.5, top_k=0, top_p=1.0, budget=9)
    policy = OneSampling(loaded, sampling)
    failing(loaded, 7)
    counts = Counter()
    for rollout in policy.rollouts([RolloutRequest((3, 4), n=60), RolloutRequest((5,), n=40, seed=1)]):
        counts[rollout.request.n] += rollout.count
    assert counts == {60: 60, 40: 40}
