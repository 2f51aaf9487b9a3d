"""A hub that does not answer: said in one line, at once, and no obstacle where the cache has what is wanted."""

import shutil
import socket

import pytest

from pts.demo.registration import demo_model_dir
from pts.errors import ModelError
from pts.hub import why_unreachable
from pts.models.adapters import apply_adapter
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.steering.vector_files import load_vectors
from pts.steering.vector_set import VectorError


@pytest.fixture
def no_hub(monkeypatch):
    """A hub at a port where nothing listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{reserved.getsockname()[1]}"
        )
        yield


def test_what_is_not_to_be_had_is_one_line(no_hub):
    assert why_unreachable()
    for error, load in (
        (ModelError, lambda: load_model(ModelOptions("nobody/no-such-model"))),
        (ModelError, lambda: apply_adapter(None, "nobody/no-such-adapter")),
        (VectorError, lambda: load_vectors("nobody/no-such-set")),
    ):
        with pytest.raises(error, match=r"[Hh]ub cannot be reached for the .* nobody/no-such") as raised:
            load()
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 300


def test_a_model_in_the_cache_loads_without_the_hub(no_hub, monkeypatch, tmp_path):
    commit = "0" * 40
    kept = tmp_path / "models--someone--small"
    shutil.copytree(demo_model_dir(), kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("transformers.utils.hub.HF_HUB_CACHE", str(tmp_path), raising=False)
    assert load_model(ModelOptions("someone/small")).model_id == "someone/small"


def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert why_unreachable() is None
