"""Reading prefixes takes the bytes that it may: the same numbers in small pieces, and no tensor beyond them."""

from math import prod

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pts.steering import directions
from pts.steering.directions import METHODS, preference_shift
from pts.steering.fitting_data import FittingData
from pts.steering.harvest import Activations, harvest
from pts.steering.lens import LogitLens
from pts.steering.pairs import Choice, Pair
from pts.steering.prefixes import prefix_batches
from pts.steering.reading_memory import OwnersCache, ReadingMemory
from tests.policies.tiny import tiny_model

SMALL = 150_000
"""Bytes with which no batch has more than a row or two, and a prefix is read in several passes."""


def pair(index, length, vocab=37):
    rng = torch.Generator().manual_seed(index)
    tokens = tuple(int(t) for t in torch.randint(2, vocab, (length,), generator=rng))
    better, worse = Choice(3, "b", 0.5, 0.8, 20), Choice(5, "w", 0.5, 0.2, 20)
    return Pair(index, f"p{index % 7}", tokens[:3], tokens[3:], better, worse, index % 2 == 0, 0.4, 0.3, "", "")


@pytest.fixture(scope="module")
def pairs():
    return [pair(index, 8 + (11 * index) % 60) for index in range(20)]


@pytest.fixture(scope="module")
def model():
    return tiny_model("qwen3").model


@pytest.fixture(scope="module")
def harvested(model, pairs, tmp_path_factory):
    return harvest(model, pairs, tmp_path_factory.mktemp("harvest"))


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gemma3"])
def test_a_harvest_in_little_memory_is_the_same(name, pairs, tmp_path):
    model = tiny_model(name).model
    (tmp_path / "large").mkdir()
    large = harvest(model, pairs, tmp_path / "large")
    memory = ReadingMemory.of(model, SMALL)
    batches = list(prefix_batches(model, pairs, memory=memory))
    assert len(batches) > 4
    assert memory.columns(*batches[-1].ids.shape) < batches[-1].ids.shape[1] / 2
    small = harvest(model, pairs, tmp_path, memory_bytes=SMALL)
    assert len(small.shards) > len(large.shards) == 1
    for layer in large.layers:
        for slot in Activations.__slots__:
            ours, theirs = (_by_pair(found.layer(layer), slot) for found in (small, large))
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
        assert small.residual_norms[layer] == pytest.approx(large.residual_norms[layer], rel=1e-4)


def _by_pair(found, slot):
    """Ordinary positions come in the order of the batches."""
    values = getattr(found, slot)
    return values[torch.argsort(found.ordinary_pair, stable=True)] if slot.startswith("ordinary") else values


@pytest.mark.parametrize("method", ["preference", "gradient"])
def test_a_direction_in_little_memory_is_the_same(method, model, pairs, harvested, monkeypatch):
    # Few: Adam goes by signs, and a rounded gradient near zero has either.
    monkeypatch.setattr(directions, "STEPS", 8)
    large, small = (
        FittingData(model, pairs, harvested),
        FittingData(model, pairs, harvested, memory_bytes=SMALL),
    )
    assert [len(step) for step in large.steps()] == [1]
    assert len(small.steps()[0]) > 4
    wanted, got = (METHODS[method](data, 0) for data in (large, small))
    assert float(wanted @ got) > 0.99999
    shifts = [preference_shift(data, {0: wanted}) for data in (large, small)]
    torch.testing.assert_close(*shifts, rtol=1e-3, atol=1e-4)


def test_what_is_kept_of_all_fitting_data_together_is_bounded(model, pairs, harvested):
    whole = FittingData(model, pairs, harvested, memory_bytes=10 * SMALL)
    others = [whole.of(pairs[third::3]) for third in range(3)]
    for _ in range(2):
        for data in (whole, *others):
            data.activations(0)
            for step in data.steps():
                for batch in step:
                    data.read(batch)
            assert data.cache is whole.cache
            assert 0 < whole.cache.nbytes <= whole.memory.cache_bytes
    batch = others[2].steps()[0][0]
    assert others[2].read(batch) is others[2].read(batch)


def test_kept_drops_others_things_and_never_those_of_the_owner_at_work():
    kept, made = OwnersCache(10), []

    def get(owner, key, size=4):
        return kept.get(owner, key, lambda: made.append((owner, key)) or (owner, key), lambda _: size)

    for key in (1, 2, 3, 1, 2):
        assert get("a", key) == ("a", key)
    assert made == [("a", 1), ("a", 2), ("a", 3)]  # the third does not fit, and pushes out neither
    get("a", 3)
    assert made[3:] == [("a", 3)]
    get("b", 1)
    assert kept.nbytes == 4
    get("a", 1)
    assert made[4:] == [("b", 1), ("a", 1)]
    assert kept.nbytes == 8
    get("c", 1, size=11)
    assert kept.nbytes == 0


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation gives, parameters left out."""

    def __init__(self, model):
        super().__init__()
        self.known = {parameter.data_ptr() for parameter in model.parameters()}
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor) and value.data_ptr() not in self.known:
                self.bytes = max(self.bytes, prod(value.shape) * value.dtype.itemsize)
        return out


def test_no_tensor_is_larger_than_its_part_at_a_large_vocabulary(tmp_path):
    model = tiny_model("qwen3", vocab=20_000).model
    some = [pair(index, 100, 20_000) for index in range(12)]
    granted = 16 << 20
    part = ReadingMemory.of(model, granted).part
    with Largest(model) as largest:
        found = harvest(model, some, tmp_path, memory_bytes=granted)
        data = FittingData(model, some, found, memory_bytes=granted)
        METHODS["gradient"](data, 0)
        preference_shift(data, {0: torch.ones(32)})
    assert largest.bytes <= part
    # A batch of all of them would be larger in its logits alone, of which a step holds several.
    assert ReadingMemory.of(model, granted).batch_rows < 12


def test_the_lens_is_bounded_by_the_vocabulary_not_by_positions(model):
    wide = tiny_model("qwen3", vocab=20_000).model
    hidden = torch.randn(2000, 32, generator=torch.Generator().manual_seed(0))
    with Largest(wide) as largest:
        found = LogitLens(wide).entropy(hidden)
    assert largest.bytes <= 64 << 20
    one_by_one = torch.stack([LogitLens(wide).entropy(row) for row in hidden[:5]])
    torch.testing.assert_close(found[:5], one_by_one)
