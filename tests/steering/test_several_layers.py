"""A vector of several layers: saved, added, summed and named as what it is."""

from dataclasses import replace

import pytest
import torch

from pts.errors import ConfigError
from pts.stages.extract.inputs import ExtractInputs
from pts.steering.hooks import interventions, steer
from pts.steering.vector_algebra import added
from pts.steering.vector_files import load_vectors, save_vectors, vectors_digest
from pts.steering.vector_set import Gate, VectorError

NAME, LAYERS = "self_correction", (0, 1, 3)


@pytest.fixture
def vectors(make_set, several_layers):
    return several_layers(make_set(), LAYERS)


def test_each_layer_gets_its_share_of_the_strength(vectors):
    found = interventions(vectors, {NAME: 2.0})
    assert [entry.layer for entry in found] == list(LAYERS)
    for entry, share in zip(found, (1 / 6, 2 / 6, 3 / 6), strict=True):
        wanted = 2.0 * 0.4 * share * vectors.residual_norms[entry.layer]
        assert float(entry.vector.norm()) == pytest.approx(wanted, rel=1e-5)


def test_what_is_saved_is_loaded(vectors, make_set, tmp_path):
    save_vectors(vectors, tmp_path)
    back = load_vectors(tmp_path)
    assert back.vectors[NAME].places == pytest.approx(vectors.vectors[NAME].places)
    for one, other in zip(interventions(back), interventions(vectors), strict=True):
        torch.testing.assert_close(one.vector, other.vector)
    assert vectors_digest(back) == vectors_digest(vectors)
    others = dict.fromkeys(LAYERS, 1 / 3)
    changed = replace(vectors, vectors={NAME: replace(vectors.vectors[NAME], shares=others)})
    assert vectors_digest(changed) != vectors_digest(vectors)


def test_all_layers_steer(vectors, tiny_llama, block_outputs):
    before = block_outputs()
    alone = replace(vectors, vectors={NAME: replace(vectors.vectors[NAME], shares={}, layer=3)})
    with steer(tiny_llama, vectors) as steering:
        steering.prompt_tokens = 0
        everywhere = block_outputs()
    with steer(tiny_llama, alone) as steering:
        steering.prompt_tokens = 0
        late = block_outputs()
    assert not torch.allclose(everywhere[0], before[0])
    assert torch.allclose(late[0], before[0])
    assert not torch.allclose(late[3], before[3])
    moved = everywhere[0] - before[0]
    torch.testing.assert_close(moved, vectors.added(NAME, 0).expand_as(moved), rtol=1e-4, atol=1e-4)


def test_sums_are_layer_by_layer(vectors, several_layers, make_set):
    total = added(vectors, vectors)
    for layer in LAYERS:
        torch.testing.assert_close(total.added(NAME, layer), 2 * vectors.added(NAME, layer))
    with pytest.raises(VectorError, match=r"at layers 0, 1, 3 .* at layers 0 to 2 "):
        added(vectors, several_layers(make_set(), (0, 1, 2)))
    with pytest.raises(VectorError, match="cancel"):
        added(vectors, vectors.scaled(-1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shares": {0: 0.5, 1: 0.5}}, "not one each that sum to 1"),
        ({"shares": {0: 0.5, 1: 0.5, 3: 0.5}}, "not one each that sum to 1"),
        ({"shares": {0: 1.5, 1: -0.5, 3: 0.0}}, "not one each that sum to 1"),
        ({"gate": Gate("entropy", 0.5)}, "gate entropy, which is fitted to one layer"),
    ],
)
def test_a_set_that_does_not_say_how_it_is_added_is_refused(vectors, change, said, tmp_path):
    broken = replace(vectors, vectors={NAME: replace(vectors.vectors[NAME], **change)})
    with pytest.raises(VectorError, match=said):
        save_vectors(broken, tmp_path)


def test_it_is_named_by_its_layers(vectors, make_set):
    assert "preference, layers 0, 1, 3, strength" in repr(vectors)
    assert "preference, layer 2, strength" in repr(make_set())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ("preference", "pca")}, r"methods has pca, which is of one layer: .* preference, outcome"),
        ({"gates": ("probe", "tokens")}, r"gates has probe, which is of one layer: .* tokens, always"),
    ],
)
def test_what_is_of_one_layer_is_refused_together(change, said, tmp_path):
    assert ExtractInputs(tmp_path, together=True).tried_gates() == ("tokens", "always")
    with pytest.raises(ConfigError, match=said):
        ExtractInputs(tmp_path, together=True, **change)
