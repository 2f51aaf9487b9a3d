"""The example package of docs/extending.md, installed for real: each of its four parts is used by name."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pts.cli import run
from pts.errors import ConfigError
from pts.graders import make_grader
from pts.pivot_search import SearchConfig, find_pivotal_tokens
from pts.policies import open_policy
from pts.records import Problem, Sampling

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example package in a folder of its own."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for path in EXAMPLE.iterdir():
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def example(installed, monkeypatch, tmp_path):
    """The package on the path, in an empty working folder."""
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield
    sys.modules.pop("pts_example", None)


def decoded(capsys, *arguments):
    assert run(("decode", "--json", "What is 27 + 8 - 9 ?", *arguments)) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("example")
def test_the_grader_judges_a_search_that_names_it(tmp_path):
    file = tmp_path / "own.jsonl"
    rows = ({"id": name, "question": "What is 1 + 2 ?", "answer": answer} for name, answer in ("a3", "b4"))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = (
        "--dataset",
        str(file),
        "--grader",
        "last-line",
        "--budget",
        "24",
        "--output",
        "run",
        "--quiet",
    )
    assert run(("search", *arguments)) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["resolved"]["grader"] == "last-line"
    assert manifest["versions"]["pts-example"] == "0.1"
    assert make_grader("last-line")("The sum is\n3", "3")
    assert not make_grader("last-line")("3\nis the sum", "3")


@pytest.mark.usefixtures("example")
def test_the_router_decides_for_auto(capsys):
    short = decoded(capsys, "--strategy", "auto", "--router", "words:20")
    long = decoded(capsys, "--strategy", "auto", "--router", "words:3")
    assert (short["route"], long["route"]) == ("easy", "hard")
    assert run(("decode", "1 + 1 ?", "--strategy", "auto", "--router", "words:many")) == 2
    assert "words needs a number" in capsys.readouterr().err


@pytest.mark.usefixtures("example")
def test_the_strategy_answers_and_is_listed(capsys):
    one, three = decoded(capsys, "--strategy", "shortest:1"), decoded(capsys, "--strategy", "shortest:3")
    assert three["strategy"] == "shortest:3"
    written = [found["ledger"]["thinking"] + found["ledger"]["answer"] for found in (one, three)]
    assert written[1] <= written[0]
    assert three["ledger"]["rejected"] > 0
    assert run(("decode", "--list-strategies")) == 0
    assert "shortest:N   N completions, and the shortest of them (an example)" in capsys.readouterr().out
    assert run(("decode", "1 + 1 ?", "--strategy", "shortest:3", "--exit-threshold", "0.5")) == 2
    assert "early-exit" in capsys.readouterr().err


@pytest.mark.usefixtures("example")
def test_the_policy_is_searched():
    policy = open_policy("my coin", engine="coins", bias=0.4)
    config = SearchConfig(sampling=Sampling(budget=2), seed=2)
    problem = Problem("toss", "Heads or tails?", "heads")
    result = find_pivotal_tokens(problem, policy, lambda text, answer: text == answer, config)
    assert policy.identity.model_id == "my coin"
    assert result.problem.prompt_value == pytest.approx(0.4, abs=0.2)
    assert {finding.candidate.token for finding in result.findings} <= {"heads", "tails"}
    assert result.findings


@pytest.mark.usefixtures("example")
def test_the_page_shows_the_package_as_it_is():
    page = (ROOT / "docs" / "extending.md").read_text().partition("## A stage of pts itself")[0]
    source = (EXAMPLE / "pts_example.py").read_text()
    *shown, used = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 6
    assert [block for block in shown if block not in source] == []
    (points,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    assert tomllib.loads(points)["project"]["entry-points"] == project["entry-points"]
    names: dict = {}
    exec(used, names)
    assert names["result"].problem.status == "searched"


def without_the_package():
    with pytest.raises(ConfigError, match="there is no engine 'coins': there are transformers"):
        open_policy("x", engine="coins")


def test_names_are_unknown_without_the_package(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    without_the_package()
    for arguments in (("--strategy", "shortest:2"), ("--strategy", "auto", "--router", "words:2")):
        assert run(("decode", "1 + 1 ?", *arguments)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "there is no" in line


def registered(folder, name, group, point, module=""):
    """A distribution made by hand in `folder`, with one entry point."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{point}\n")
    (folder / f"{name.replace('-', '_')}.py").write_text(module)


@pytest.mark.parametrize(
    ("group", "point", "arguments"),
    [
        ("pts.strategies", "full = taken:X", ("--strategy", "full")),
        ("pts.routers", "length = taken:X", ("--strategy", "auto", "--router", "length")),
    ],
)
def test_a_name_of_our_own_is_refused(tmp_path, monkeypatch, capsys, group, point, arguments):
    registered(tmp_path, "taken", group, point)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(("decode", "1 + 1 ?", *arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the package taken registers the" in line
    assert "a name that pts itself has" in line


def test_a_bundled_grader_and_engine_cannot_be_replaced(tmp_path, monkeypatch):
    registered(tmp_path, "taken", "pts.graders", "math = taken:X")
    registered(tmp_path, "other", "pts.policies", "transformers = other:X")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="the package taken registers the grader math"):
        make_grader("math")
    with pytest.raises(ConfigError, match="the package other registers the policy transformers"):
        open_policy("demo")


def test_one_name_in_two_packages_is_refused(tmp_path, monkeypatch):
    registered(tmp_path, "first", "pts.graders", "mine = first:X")
    registered(tmp_path, "second", "pts.graders", "mine = second:X")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="both register the grader mine"):
        make_grader("mine")


def test_a_package_that_cannot_be_imported_is_named_in_one_line(tmp_path, monkeypatch, capsys):
    registered(tmp_path, "broken-one", "pts.strategies", "odd = broken_one:X", 'raise OSError("no\\ndisk")')
    registered(tmp_path, "wrong-kind", "pts.strategies", "list = wrong_kind:X", "X = [1]")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(("decode", "1 + 1 ?", "--strategy", "odd")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the strategy odd of the package broken-one cannot be imported (no disk)" in line
    assert run(("decode", "1 + 1 ?", "--strategy", "list")) == 2
    assert "is a list; it must be a StrategyEntry" in capsys.readouterr().err
