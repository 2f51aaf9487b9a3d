"""A vector set comes back as it was saved, and a broken one is refused in a line."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from pts.steering.set_location import JSON_NAME, TENSORS_NAME
from pts.steering.vector_algebra import added, cosines, require_fits
from pts.steering.vector_files import controls_digest, load_vectors, save_vectors, vectors_digest
from pts.steering.vector_set import Effect, Gate, SteeredModel, SteeringVector, VectorError, VectorSet
from tests.policies.tiny import tiny_model

WIDTH = 32


def unit(seed):
    return torch.nn.functional.normalize(
        torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)), dim=0
    )


def make(model=None, seed=0, layer=1, gate=None):
    effect = Effect("all", 10, 4, 0.5, 0.7, 0.2, 0.1, 0.3, 0.95, (0.01, -0.02) * 10, 30.0, 31.5, 0.02)
    gate = Gate("probe", threshold=0.25, weight=unit(9)) if gate is None else gate
    vectors = {
        "all": SteeringVector(
            "all", "preference", {0: unit(seed), 1: unit(seed + 1)}, layer, 0.4, gate, {"pairs": 7}
        ),
        "organization": SteeringVector(
            "organization", "gradient", {1: unit(seed + 2)}, 1, 0.8, Gate("tokens", token_ids=(3, 4))
        ),
    }
    controls = (
        SteeringVector("random-0", "random", {0: unit(seed + 3)}, 0, 0.2, Gate("probe", 0.5, weight=unit(8))),
        SteeringVector("random-1", "random", {1: unit(seed + 4)}, 1, 0.8, Gate()),
    )
    return VectorSet(
        model or SteeredModel("qwen3", None, WIDTH, 2),
        (2.0, 3.0),
        vectors,
        {"all": effect},
        {"seed": 0},
        controls=controls,
    )


@pytest.fixture
def saved(tmp_path):
    save_vectors(make(), tmp_path)
    return tmp_path


def test_what_is_saved_is_loaded(saved):
    loaded, vectors = load_vectors(saved), make()
    assert (loaded.model, loaded.residual_norms, loaded.effects) == (
        vectors.model,
        vectors.residual_norms,
        vectors.effects,
    )
    assert loaded.provenance == {"seed": 0}
    assert loaded.vectors["all"].evidence == {"pairs": 7}
    for name, vector in vectors.vectors.items():
        other = loaded.vectors[name]
        assert (other.method, other.layer, other.strength) == (vector.method, vector.layer, vector.strength)
        assert (other.gate.kind, other.gate.threshold, other.gate.token_ids) == (
            vector.gate.kind,
            vector.gate.threshold,
            vector.gate.token_ids,
        )
        assert other.directions.keys() == vector.directions.keys()
        assert all(
            torch.equal(other.directions[layer], vector.directions[layer]) for layer in vector.directions
        )
    assert torch.equal(loaded.vectors["all"].gate.weight, unit(9))
    assert loaded.effects["all"].found
    assert len(loaded.controls) == 2
    for other, control in zip(loaded.controls, vectors.controls, strict=True):
        assert (other.pattern, other.method, other.layer) == (control.pattern, "random", control.layer)
        assert (other.strength, other.gate.kind) == (control.strength, control.gate.kind)
        assert torch.equal(other.direction, control.direction)
    assert torch.equal(loaded.controls[0].gate.weight, unit(8))


def test_a_set_of_the_first_version_loads_without_controls(saved):
    """The shape before controls were stored: the provenance alone says how many methods were raced."""

    def as_before(data):
        data["schema_version"] = 1
        del data["controls"], data["effects"]["all"]["methods"]
        data["provenance"]["calibration_by_way"] = {"preference": {}, "gradient": {}}

    break_json(saved, as_before)
    tensors = load_file(saved / TENSORS_NAME)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("control")}
    assert len(kept) < len(tensors)
    save_file(kept, saved / TENSORS_NAME)
    loaded = load_vectors(saved)
    assert loaded.controls == ()
    assert loaded.schema_version == 1
    effect = loaded.effects["all"]
    assert (effect.methods, effect.rank, effect.found) == (2, 1, False)


def test_controls_have_a_digest_of_their_own(saved, tmp_path):
    loaded = load_vectors(saved)
    other = replace(loaded, controls=loaded.controls[:1])
    assert vectors_digest(other) == vectors_digest(loaded)
    assert controls_digest(other) != controls_digest(loaded)
    assert controls_digest(replace(loaded, controls=())) is None
    assert loaded.scaled(2).controls == ()


def test_what_is_added_is_strength_times_norm(saved):
    loaded = load_vectors(saved)
    torch.testing.assert_close(loaded.added("all"), unit(1) * 0.4 * 3.0)
    torch.testing.assert_close(loaded.scaled(-0.5).added("all", layer=0), unit(0) * -0.2 * 2.0)
    assert loaded.scaled(2).effects == {}


def break_json(path, change):
    data = json.loads((path / JSON_NAME).read_text())
    change(data)
    (path / JSON_NAME).write_text(json.dumps(data))


def drop_tensor(path):
    tensors = load_file(path / TENSORS_NAME)
    tensors.pop("all/layer_0")
    save_file(tensors, path / TENSORS_NAME)


def spoil_tensor(path):
    tensors = load_file(path / TENSORS_NAME)
    tensors["all/layer_0"][3] = float("nan")
    save_file(tensors, path / TENSORS_NAME)


def narrow_tensor(path):
    tensors = load_file(path / TENSORS_NAME)
    tensors["all/layer_0"] = tensors["all/layer_0"][:5].clone()
    save_file(tensors, path / TENSORS_NAME)


BROKEN = {
    "no json": (lambda path: (path / JSON_NAME).unlink(), "not a vector set"),
    "json cut short": (lambda path: (path / JSON_NAME).write_text('{"model":'), "cannot be read"),
    "tensors cut short": (
        lambda path: (path / TENSORS_NAME).write_bytes((path / TENSORS_NAME).read_bytes()[:100]),
        "cut short",
    ),
    "no tensors": (lambda path: (path / TENSORS_NAME).unlink(), "cut short"),
    "tensor missing": (drop_tensor, "disagree: all/layer_0 is in vectors.json alone"),
    "not finite": (spoil_tensor, "all/layer_0 holds values that are not finite"),
    "another width": (narrow_tensor, r"all/layer_0 has shape \[5\], not \[32\]"),
    "layer without direction": (
        lambda path: break_json(path, lambda data: data["vectors"]["organization"].update(layer=0)),
        "steers at layer 0, which has no direction",
    ),
    "control's tensor missing": (
        lambda path: break_json(path, lambda data: data["controls"].append(data["controls"][1])),
        "control//2/layer_1 is in vectors.json alone",
    ),
    "control's layer outside": (
        lambda path: break_json(path, lambda data: data["controls"][0].update(layer=1)),
        "steers at layer 1, which has no direction",
    ),
    "norms missing": (
        lambda path: break_json(path, lambda data: data["residual_norms"].pop()),
        "1 residual norms",
    ),
    "unknown key": (
        lambda path: break_json(path, lambda data: data.update(surprise=1)),
        "no such key: surprise",
    ),
    "newer": (lambda path: break_json(path, lambda data: data.update(schema_version=99)), "newer pts"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_set_is_refused_in_one_line(name, saved):
    spoil, message = BROKEN[name]
    spoil(saved)
    with pytest.raises(VectorError, match=message) as caught:
        load_vectors(saved)
    assert "\n" not in str(caught.value)


def test_a_set_that_could_not_be_loaded_is_not_written(tmp_path):
    broken = make(gate=Gate("probe"))
    with pytest.raises(VectorError, match="gate of pattern all"):
        save_vectors(broken, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_source_that_is_no_set(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(VectorError, match="is a file"):
        load_vectors(tmp_path / "file")
    with pytest.raises(VectorError, match="does not exist"):
        load_vectors("nowhere/at/all")


def test_a_set_refuses_another_model_unless_told():
    loaded = tiny_model("qwen3")
    require_fits(make(), loaded)
    renamed = make(SteeredModel("another", None, WIDTH, 2))
    with pytest.raises(VectorError, match="the vectors were made for another"):
        require_fits(renamed, loaded)
    require_fits(renamed, loaded, same_shape=True)
    with pytest.raises(VectorError, match="do not fit"):
        require_fits(make(SteeredModel("qwen3", None, WIDTH, 3)), loaded, same_shape=True)


def test_sums_and_cosines():
    first, second = make(seed=0), make(seed=20)
    total = added(first, second)
    torch.testing.assert_close(total.added("all"), first.added("all") + second.added("all"))
    assert total.effects == {}
    table = cosines(first, second)
    assert table["all", "organization", 1] == pytest.approx(float(unit(1) @ unit(22)), abs=1e-6)
    assert cosines(first, first)["all", "all", 0] == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(VectorError, match="cannot be added"):
        added(first, make(layer=0))
    with pytest.raises(VectorError, match="cancel"):
        added(first, first.scaled(-1))
