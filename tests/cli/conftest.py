import pytest


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, without the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
