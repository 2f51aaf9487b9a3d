"""Stages on a real Ray: results of one process whatever dies, and one line where there is no Ray.

All are in this file, so that they share one Ray.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec

import psutil
import pytest
import torch

from pts.calibration.evaluator import Evaluator
from pts.calibration.settings import Setting
from pts.demo.problems import demo_problems
from pts.errors import ConfigError, DataError
from pts.records import Problem
from pts.runs.search_run import read_search
from pts.runs.search_summary import search_summary
from pts.setting_names import named_as, on_command_line
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import run_evaluation
from pts.stages.extract.calibration import loaded_decoder
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.extract.ray_measure import MeasureOnRay, open_pool
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import to_load_again
from pts.stages.search.run import run_search
from pts.stages.shared.ray_cluster import Placement, joined, place
from pts.stages.shared.ray_worker import Feed
from pts.steering.hooks import Intervention
from tests.stages.evaluate.test_evaluate_stage import items, untimed, with_controls
from tests.stages.search.test_search_stage import counted

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
SEARCH = SearchInputs(problems=8, levels=(2, 3), threshold=0.4, traces=1, verify=False)
EVALUATION = EvaluateInputs(
    problems=2,
    levels=(1, 2),
    strategies=("full", "auto", "early-exit", "reject:2", "escalate"),
    second_model="demo",
    escalate_threshold=0.9,
    router="length:0-8",
    fit_problems=2,
    seeds=1,
    sweep=(0.25,),
    device="cpu",
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    """A Ray of one machine with two cores, with a token of its own: its address and its first process."""
    # Workers are as urgent as the tests beside them, or they wait for those.
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    where = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={where.rpartition(':')[2]}", "--object-store-memory=100000000"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", int(where.rpartition(":")[2]))) == 0:
                    break
            assert head.poll() is None
            time.sleep(0.1)
        yield where, psutil.Process(head.pid)
    finally:
        below = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        head.wait(60)
        for process in psutil.wait_procs(below, timeout=10)[1]:
            process.kill()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@pytest.fixture
def address(cluster):
    """The address of the Ray, to be joined by."""
    return cluster[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = replace(SEARCH, output=tmp_path_factory.mktemp("alone") / "run")
    run_search(run)
    return run.output


def answers(run):
    """An evaluation's answers but for times, and the last digits of probabilities that other batches round."""
    found = {key: untimed(item) for key, item in items(run).items()}
    return {
        key: replace(
            item,
            ledger=replace(item.ledger, router_seconds=0.0),
            confidence=None if item.confidence is None else round(item.confidence, 5),
        )
        for key, item in found.items()
    }


def engines(cluster):
    """The processes of this Ray's workers that hold an engine."""
    found = []
    for process in cluster[1].children(recursive=True):
        with suppress(psutil.Error):  # It has just ended.
            found += [process] if "EngineWorker" in "".join(process.cmdline()[:1]) else []
    return found


@needs_ray
@pytest.mark.slow
def test_what_a_worker_leaves_that_dies_with_its_place_is_found_by_the_other(cluster, alone, tmp_path, caplog):
    import ray

    run = replace(SEARCH, ray=cluster[0], workers=2, output=tmp_path / "run")
    seen, killed, others, after = [], [], [], []

    class Other:
        """Waits for a core, and gets the one that becomes free: for a new worker there is none."""

    def observe(progress):
        seen.append(progress)
        if killed:
            after.append(len(engines(cluster)))
        elif progress.tokens_generated > 1000:
            others.append(ray.remote(num_cpus=1)(Other).remote())
            killed.extend(engines(cluster))
            assert len(killed) == 2
            killed[0].send_signal(signal.SIGKILL)
            killed[0].wait(30)

    summary = run_search(run, observe)
    assert killed
    assert set(after) == {1}
    assert "a new one is begun, and its work goes on" in caplog.text
    assert summary == search_summary(read_search(alone))
    assert counted(run.output) == counted(alone)
    # No rollout was drawn twice for want of its record: the summary's tokens are those of one process.
    assert summary.tokens_generated == sum(result.tokens_generated for result in read_search(alone).results)
    assert [progress.problems for progress in seen] == [8] * len(seen)
    assert psutil.wait_procs(engines(cluster), timeout=30)[1] == []


@needs_ray
@pytest.mark.slow
def test_a_search_that_is_stopped_killed_and_ended_by_its_limit_goes_on(address, alone, tmp_path):
    run = replace(SEARCH, ray=address, workers=1, output=tmp_path / "run")
    command = [
        sys.executable,
        "-m",
        "pts",
        "search",
        "--problems",
        "8",
        "--levels",
        "2,3",
        "--threshold",
        "0.4",
    ]
    command += ["--traces", "1", "--no-verify", "--ray", address, "--workers", "1", "--output", str(run.output)]

    def ended_by(number, reached):
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(6000):
            if reached():
                break
            assert driver.poll() is None
            time.sleep(0.05)
        driver.send_signal(number)
        return driver.communicate(timeout=120)[1], driver.returncode

    said, code = ended_by(signal.SIGINT, (run.output / "rollouts" / "00000.tail").exists)
    assert code == 128 + signal.SIGINT
    assert "generated tokens kept" in said.splitlines()[-1]
    lines = run.output / "problems.jsonl"
    ended_by(signal.SIGKILL, lambda: lines.exists() and lines.read_bytes().count(b"\n"))
    before = search_summary(read_search(run.output))
    assert 0 < before.done < 8
    limit = before.tokens_generated + 200
    # Two workers count what both draw against one limit.
    limited = run_search(replace(run, workers=2, max_tokens=limit))
    assert limited.status == "spent"
    assert limit <= limited.tokens_generated < search_summary(read_search(alone)).tokens_generated
    # What they drew is used by one process that goes on without Ray and without a limit.
    assert run_search(replace(run, ray=None, workers=None)).status == "complete"
    assert counted(run.output) == counted(alone)


@needs_ray
@pytest.mark.slow
def test_an_evaluation_that_began_here_ends_on_ray_with_the_same_answers(cluster, tmp_path):
    vectors = with_controls(tmp_path / "set", 1)
    here = replace(EVALUATION, vectors=vectors, output=tmp_path / "here")
    summary = run_evaluation(here)

    def stop(progress):
        if progress.done == 9 and progress.line is not None:
            raise KeyboardInterrupt

    run = replace(here, output=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(run, stop)
    killed = []

    def kill(progress):
        if progress.done > 3 and not killed:
            killed.extend(engines(cluster))
            assert len(killed) == 2
            killed[0].send_signal(signal.SIGKILL)

    again = run_evaluation(replace(run, ray=cluster[0], workers=2), kill)
    assert killed
    assert answers(run) == answers(here)
    # No answer was kept twice.
    assert len((run.output / "items.jsonl").read_bytes().splitlines()) == len(items(here))
    assert again == summary


@needs_ray
@pytest.mark.slow
def test_a_calibration_on_ray_measures_what_one_process_does(cluster, alone, tmp_path):
    inputs = ExtractInputs(run=alone, ray=cluster[0], workers=2)
    again = to_load_again(read_search(alone), "cpu")
    search = again.load()
    decoder = loaded_decoder(inputs, search)
    problems = demo_problems("test", 6, 0, (1, 2))
    settings = [Setting("all", f"random-{k}", layer, 0.4, "always") for k in range(2) for layer in (2, 3)]
    width = search.loaded.model.config.hidden_size

    class Random:
        def interventions(self, setting):
            seed = torch.Generator().manual_seed(int(setting.method[-1]))
            return (Intervention(setting.layer, torch.randn(width, generator=seed)),)

    def measured(journal, measurer=None):
        counted = []
        evaluator = Evaluator(
            *(decoder, Random(), problems, 3, 0, journal), lambda *told: counted.append(told), measurer=measurer
        )
        found = evaluator(settings, 0, 4)
        outcomes = [found[each].sums for each in settings] + [evaluator.unsteered().sums]
        return outcomes, sum(tokens for tokens, _ in counted), evaluator.done

    pool = open_pool(inputs, again, search)
    try:
        engines(cluster)[0].send_signal(signal.SIGKILL)
        on_ray = measured(tmp_path / "ray.jsonl", MeasureOnRay(pool))
    finally:
        pool.close()
    assert on_ray == measured(tmp_path / "here.jsonl")
    lines = [sorted((tmp_path / f"{name}.jsonl").read_text().splitlines()) for name in ("ray", "here")]
    assert lines[0] == lines[1]


@needs_ray
@pytest.mark.slow
def test_what_the_cluster_lacks_or_a_worker_refuses_is_said_in_one_line(address, tmp_path):
    run = replace(SEARCH, ray=address, output=tmp_path / "run")
    with pytest.raises(ConfigError, match="room for 2 workers with a core each, and 3 are wanted"):
        run_search(replace(run, workers=3))
    with pytest.raises(ConfigError, match="room for 0 workers with 1 of a GPU"):
        run_search(replace(run, workers=1, gpus_per_worker=1.0))
    with pytest.raises(ConfigError, match="or lower --budget"), named_as(on_command_line):
        run_search(replace(run, workers=1, budget=10**6))
    assert not run.output.exists()


@needs_ray
def test_an_address_that_is_not_there_is_said_at_once():
    with (
        pytest.raises(ConfigError, match=r"there is no Ray at 127.0.0.1:\d+"),
        joined(f"127.0.0.1:{free_port()}", 1),
    ):
        pass
    for bad in ("nowhere", "ray://host:10001", "host:x"):
        with pytest.raises(ConfigError, match="write it as HOST:PORT"), joined(bad, 1):
            pass


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="Ray, which is not installed here: pip install"), joined("local", 1):
        pass


def test_settings_that_contradict_each_other_are_refused(tmp_path):
    for given, said in [
        ({"workers": 2}, "workers= has no effect without ray="),
        ({"ray": "local", "workers": 9}, "9 workers are more than the 8 problems"),
        ({"ray": "local", "workers": 0}, "workers is 0"),
        ({"ray": "local", "gpus_per_worker": 2.0}, "from 0 to 1"),
        ({"ray": "local", "device": "cuda:1"}, "gives each worker its GPU"),
        ({"ray": "local", "model": "memory:mine"}, "the model mine is in this program's memory alone"),
    ]:
        with pytest.raises(ConfigError, match=said):
            replace(SEARCH, **given)
    divided = replace(SEARCH, engine="vllm", tensor_parallel=2)
    for given, said in [
        ({"engine": "transformers"}, "divides a model of vLLM: give engine='vllm', too"),
        ({"tensor_parallel": 0}, "tensor-parallel is 0"),
        ({"endpoint": "http://localhost:8000"}, "leave tensor_parallel= out"),
        ({"ray": "local", "gpus_per_worker": 1.0}, "leave gpus_per_worker= out"),
    ]:
        with pytest.raises(ConfigError, match=said):
            replace(divided, **given)
    few = replace(SEARCH, problems=None, shard="1/2", ray="local", workers=10**6, output=tmp_path / "x")
    with pytest.raises(DataError, match="1000000 workers are more than the"):
        run_search(few)


def test_workers_are_placed_where_there_is_room():
    nodes = [{"CPU": 8.0, "GPU": 4.0}, {"CPU": 2.0, "GPU": 4.0}, {"CPU": 3.0}]
    assert place(nodes, None, None, "auto", 100).workers == 6
    assert place(nodes, None, None, "auto", 5).workers == 5
    assert place(nodes, None, 0.5, "auto", 100).workers == 10
    assert place(nodes, None, None, "cpu", 100).workers == 13
    assert place(nodes, 4, None, "auto", 2) == place(nodes, 2, 1.0, "auto", 9)
    with pytest.raises(ConfigError, match="room for 6 workers"):
        place(nodes, 7, None, "auto", 100)
    # Two GPUs and two cores of one machine for each.
    assert place(nodes, None, None, "auto", 100, 2) == Placement(3, 2.0, 2)
    assert place(nodes, None, None, "cpu", 100, 2) == Placement(6, 0.0, 2)
    with pytest.raises(ConfigError, match="room for 3 workers with 2 GPUs of one machine and 2 cores each"):
        place(nodes, 4, None, "auto", 100, 2)
    with pytest.raises(ConfigError, match="a worker without a GPU cannot use device='cuda'"):
        place(nodes[2:], 1, None, "cuda", 100)


def test_a_feed_is_dry_while_others_are_under_way():
    feed = Feed()
    problems = [Problem(str(i), "", "") for i in range(3)]
    feed.add(problems[0])
    feed.add(problems[1])
    assert next(feed) is problems[0]
    assert not feed.wants
    assert next(feed) is problems[1]
    assert next(feed, None) is None
    assert feed.wants
    feed.add(problems[2])
    assert not feed.wants
    assert next(feed) is problems[2]
