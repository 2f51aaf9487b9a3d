"""`pts verify`, and the check that a search makes first."""

import json
import logging

import pytest

from pts.cli import run
from pts.policies.transformers import policy
from tests.cli.one_line import complaint

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def hot(monkeypatch):
    """Every policy draws from flatter distributions than it says."""
    right = policy.draw

    def flatter(distributions, keys, counts):
        probs = distributions.probs**0.5
        kind = type(distributions)
        return right(kind(distributions.ids, probs / probs.sum(axis=1, keepdims=True)), keys, counts)

    finished = policy.TransformersPolicy.finished
    monkeypatch.setattr(
        policy.TransformersPolicy,
        "finished",
        lambda self, requests, split=flatter, **options: finished(self, requests, split, **options),
    )


def test_a_report_to_paste_and_one_for_programs(capsys):
    assert run(("verify", "--quick", "--quiet")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model demo, revision sha256:")
    assert [line.split()[0] for line in lines[2:-1]] == ["ok"] * 5
    assert run(("verify", "--quick", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert {check["status"] for check in report["checks"]} == {"passed"}
    assert report["versions"]["pts"]


@pytest.mark.usefixtures("hot")
def test_a_sampler_that_is_off_fails_with_exit_code_1(capsys):
    assert run(("verify", "--quick", "--quiet")) == 1
    assert "FAILED   first tokens" in capsys.readouterr().out


@pytest.mark.usefixtures("hot")
def test_a_search_refuses_a_sampler_that_is_off(capsys, tmp_path, caplog):
    arguments = ("search", "--output", "out", "--problems", "1", "--max-tokens", "2000", "--quiet")
    said = complaint(capsys, *arguments)
    assert "'first tokens' failed" in said
    assert "--no-verify" in said
    assert not (tmp_path / "out").exists()
    with caplog.at_level(logging.WARNING, "pts"):
        assert run((*arguments, "--no-verify")) == 0
    assert (tmp_path / "out" / "summary.json").exists()


def test_a_model_that_is_not_there(capsys):
    assert "nowhere" in complaint(capsys, "verify", "--model", "./nowhere")
