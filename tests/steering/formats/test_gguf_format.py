"""GGUF control vectors: what is written, what is read back, what is refused, and repeng as a reader."""

import logging
import struct

import numpy as np
import pytest
import torch

from pts.errors import ConfigError
from pts.steering.formats.gguf import read_gguf, write_gguf
from pts.steering.vector_set import Gate, SteeredModel, VectorError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vector.gguf"


def write_tensors(path, tensors, architecture="controlvector"):
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_what_comes_back_adds_the_same(make_set, path):
    vectors = make_set(self_correction=3)
    write_gguf(vectors, "self_correction", path)
    back = read_gguf(path, vectors.model, "self_correction")
    torch.testing.assert_close(back.added("self_correction"), vectors.added("self_correction"))
    (vector,) = back.vectors.values()
    assert (vector.layer, list(vector.directions), vector.gate.kind) == (3, [3], "always")
    assert vector.strength == pytest.approx(0.4 * 40.0)
    torch.testing.assert_close(vector.direction.norm(), torch.tensor(1.0))


def test_a_vector_of_several_layers_comes_back(make_set, several_layers, path):
    vectors = several_layers(make_set(), (1, 3, 4))
    write_gguf(vectors, "self_correction", path)
    back = read_gguf(path, vectors.model, "self_correction")
    assert list(back.vectors["self_correction"].places) == [1, 3, 4]
    for layer in (1, 3, 4):
        torch.testing.assert_close(
            back.added("self_correction", layer), vectors.added("self_correction", layer)
        )
    with pytest.raises(VectorError, match=r"steers at layer 0, .* calibrate other layers"):
        write_gguf(several_layers(make_set(), (0, 1)), "self_correction", path)


def test_the_file_holds_every_layer_but_the_first_and_one_is_not_zero(make_set, path):
    from gguf import GGUFReader

    vectors = make_set(self_correction=3)
    write_gguf(vectors, "self_correction", path, model_hint="llama")
    reader = GGUFReader(path)
    contents = {name: field.contents() for name, field in reader.fields.items()}
    assert contents["general.architecture"] == "controlvector"
    assert contents["controlvector.model_hint"] == "llama"
    assert contents["controlvector.layer_count"] == 4
    directions = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert list(directions) == ["direction.1", "direction.2", "direction.3", "direction.4"]
    assert all(data.dtype == np.float32 for data in directions.values())
    assert [name for name, data in directions.items() if data.any()] == ["direction.3"]
    np.testing.assert_array_equal(directions["direction.3"], vectors.added("self_correction").numpy())


def test_a_file_with_many_directions_keeps_the_norm_of_each(path):
    model = SteeredModel("some/model", None, 4, 4)
    write_tensors(path, {f"direction.{i}": np.full(4, float(i), np.float32) for i in (1, 2, 3)})
    for vectors in (read_gguf(path, model, "calm"), read_gguf(path, model, "calm", layer=2)):
        for layer in (1, 2, 3):
            torch.testing.assert_close(vectors.added("calm", layer), torch.full((4,), float(layer)))
    assert list(read_gguf(path, model, "calm").vectors["calm"].places) == [1, 2, 3]
    assert list(vectors.vectors["calm"].places) == [2]
    with pytest.raises(VectorError, match="no direction at layer 0"):
        read_gguf(path, model, layer=0)


def test_a_gate_that_a_gguf_cannot_hold_is_said(make_set, path, caplog):
    with caplog.at_level(logging.WARNING):
        write_gguf(make_set(), "self_correction", path)
        assert caplog.messages == []
        write_gguf(make_set(gate=Gate("entropy", 0.5)), "self_correction", path)
    assert "has a gate (entropy)" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"self_correction": 0}, "steers at layer 0.*begins at layer 1"),
        ({"strength": 0.0}, "adds nothing"),
        ({"strength": float("nan")}, "not finite"),
    ],
)
def test_what_a_control_vector_cannot_hold_is_refused_and_nothing_is_written(make_set, path, change, said):
    with pytest.raises(VectorError, match=said):
        write_gguf(make_set(**change), "self_correction", path)
    assert list(path.parent.iterdir()) == []


def test_an_unknown_pattern_lists_those_there_are(make_set, path):
    with pytest.raises(ConfigError, match="self_correction"):
        write_gguf(make_set(), "joy", path)


def test_a_file_cut_anywhere_is_refused(make_set, path):
    vectors = make_set()
    write_gguf(vectors, "self_correction", path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(VectorError, match=r"cannot be read|no control vector|no direction"):
            read_gguf(path, vectors.model)


@pytest.mark.parametrize(
    ("tensors", "architecture", "said"),
    [
        ({"direction.1": np.full(8, np.nan, np.float32)}, "controlvector", "not finite"),
        ({"direction.0": np.ones(8, np.float32)}, "controlvector", "direction.0"),
        ({"blk.1": np.ones(8, np.float32)}, "controlvector", "blk.1"),
        ({"direction.1": np.ones((2, 4), np.float32)}, "controlvector", "one dimension"),
        ({"direction.1": np.ones(8, np.int32)}, "controlvector", "int32"),
        ({"direction.1": np.ones(6, np.float32)}, "controlvector", "8 wide"),
        ({"direction.9": np.ones(8, np.float32)}, "controlvector", "layers 0 to 4"),
        ({"direction.1": np.zeros(8, np.float32)}, "controlvector", "steers nowhere"),
        ({}, "controlvector", "steers nowhere"),
        ({"direction.1": np.ones(8, np.float32)}, "llama", "general.architecture is llama"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(make_set, path, tensors, architecture, said):
    write_tensors(path, tensors, architecture)
    with pytest.raises(VectorError, match=said) as raised:
        read_gguf(path, make_set().model)
    assert "\n" not in str(raised.value)


def test_other_files_are_refused(make_set, path):
    with pytest.raises(VectorError, match="does not exist"):
        read_gguf(path, make_set().model)
    for data in (b"", b"words, not tensors", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)):
        path.write_bytes(data)
        with pytest.raises(VectorError, match="cannot be read as GGUF"):
            read_gguf(path, make_set().model)


def test_repeng_adds_it_after_the_block_of_that_number(make_set, path, monkeypatch, tiny_llama, block_outputs):
    # repeng 0.4 names np.float_, which numpy 2 took away; nothing else in it needs an older numpy.
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    repeng = pytest.importorskip("repeng")
    vectors = make_set(self_correction=3)
    write_gguf(vectors, "self_correction", path)
    control = repeng.ControlVector.import_gguf(path)
    before = block_outputs()
    # Every layer that a file of repeng's own holds, as its examples steer a range of layers.
    wrapped = repeng.ControlModel(tiny_llama, [1, 2, 3, 4])
    wrapped.set_control(control, 1.0)
    after = block_outputs()
    for block in range(3):
        torch.testing.assert_close(after[block], before[block])
    torch.testing.assert_close(after[3] - before[3], vectors.added("self_correction").expand(1, 4, 8))


def test_what_repeng_exports_is_read(make_set, path, monkeypatch):
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    repeng = pytest.importorskip("repeng")
    directions = {layer: np.full(8, float(layer), np.float32) for layer in (1, 2, 3, 4)}
    repeng.ControlVector("llama", directions).export_gguf(path)
    vectors = read_gguf(path, make_set().model, "calm", layer=3)
    torch.testing.assert_close(vectors.added("calm"), torch.full((8,), 3.0))
