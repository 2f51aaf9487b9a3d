"""`kill -9` at random moments over search, extraction, evaluation and decoding: what is lost.

    python benchmarks/kill.py [--quick] [--moments N] [--minutes N] [--seed N]

Each stage runs by the command line on the demo model, in a process of its own with one thread, first
undisturbed. Then runs are killed, up to six times each, and resumed to their end. A quarter of the moments is
drawn evenly from an undisturbed run's duration, counted from the start of the process. The others come after
the process has begun to decode, drawn evenly from a third of what an undisturbed run takes from there. Printed
are, over all moments:

- `identical_share`: runs whose findings, vectors, table or answers equal those of the undisturbed run, to the
  last digit but for the times they state;
- `lost_tokens_share`: of the tokens that a run decodes, how many one kill makes it decode again, in the mean. A
  token is counted for each row of a batch, in the engine itself, those of rollouts under way too;
- `drawn_twice`: requests that stand more than once in a search's journal of rollouts.

The batch is held at 32 rows, so that, as in a real run, it is a small part of all the work.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MOMENTS, QUICK_MOMENTS = 200, 10
KILLS_EACH = 6
FROM_START = 0.25
"""Share of the moments that are counted from the start of the process."""
ROWS = ("--batch-rows", "32")
SEARCH = ("--problems", "64", "--levels", "2,3", "--threshold", "0.3", "--traces", "1", *ROWS)
EXTRACT = (
    *("--layers", "1", "--strengths", "0.4", "--gates", "always", "--calibration-problems", "24"),
    *("--samples", "2", "--test-problems", "24", "--test-samples", "2", "--random", "4", "--no-divergence"),
    *ROWS,
)
EVALUATE = ("--dataset", "demo", "--split", "test", "--problems", "60", "--seeds", "3", "--strategies", "full")
QUESTIONS = 150
TIMES = ("timestamp", "seconds", "router_seconds")
"""Keys whose values are times."""


@dataclass(frozen=True, slots=True)
class Job:
    """A stage: its command but for the output, and what of its output must be equal."""

    name: str
    arguments: tuple[str, ...]
    result: Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A stage's run without a kill: seconds, those of decoding, decoded tokens and result."""

    seconds: float
    decoding: float
    tokens: int
    result: object


def main() -> None:
    """Run all moments and print what came of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--moments", type=int)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no further run begins after these")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = arguments.moments or (QUICK_MOMENTS if arguments.quick else MOMENTS)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), moments, 60 * arguments.minutes, random.Random(arguments.seed))


def measure(folder: Path, moments: int, seconds: float, draws: random.Random) -> None:
    """Every stage in turn until there were so many kills, or the time is over."""
    end = time.monotonic() + seconds
    jobs, whole = stages(folder)
    kills: Counter[str] = Counter()
    runs, identical, lost, twice = 0, 0, 0.0, 0
    while kills.total() < moments and (not runs or time.monotonic() < end):
        job = jobs[runs % len(jobs)]
        output = folder / f"{job.name}-{runs}"
        killed, tokens = disturbed(job, output, whole[job.name], draws, moments - kills.total())
        same = job.result(output) == whole[job.name].result
        share = max(0.0, tokens / whole[job.name].tokens - 1)
        kills[job.name] += killed
        runs, identical, lost = runs + 1, identical + same, lost + share
        twice += recorded_twice(output)
        equal = "equal" if same else "DIFFERENT"
        print(f"{job.name}: {killed} kills, {share:.1%} decoded again, {equal}", flush=True)
    for name, count in kills.items():
        print(
            f"{name}: {count} kills, {whole[name].seconds:.1f} s and {whole[name].tokens:,} tokens undisturbed"
        )
    figures = {
        "moments": kills.total(),
        "runs": runs,
        "identical_share": identical / runs,
        "lost_tokens_share": round(lost / max(1, kills.total()), 4),
        "drawn_twice": twice,
    }
    print(json.dumps(figures))


def stages(folder: Path) -> tuple[list[Job], dict[str, Undisturbed]]:
    """The stages and their undisturbed runs; the extraction is of the undisturbed search."""
    searched = folder / "search-whole"
    questions = folder / "questions.jsonl"
    asked = (f"What is {n % 37} + {n % 11} - {n % 7} ?" for n in range(QUESTIONS))
    questions.write_text("".join(json.dumps({"question": text}) + "\n" for text in asked))
    jobs = [
        Job("search", ("search", *SEARCH), findings),
        Job("extract-vectors", ("extract-vectors", str(searched), *EXTRACT), vectors),
        Job("eval", ("eval", *EVALUATE, "--no-baselines", *ROWS), table),
        Job("decode", ("decode", "--input", str(questions), *ROWS), lines_of),
    ]
    return jobs, {job.name: undisturbed(job, folder / f"{job.name}-whole") for job in jobs}


def undisturbed(job: Job, output: Path) -> Undisturbed:
    """A run to its end."""
    with counted(output) as (counter, tokens):
        started = time.perf_counter()
        process = start(job, output, counter)
        begun = when_it_decodes(process, tokens, 0)
        require_success(job, process)
        ended = time.perf_counter()
        return Undisturbed(ended - started, ended - begun, tokens(), job.result(output))


def disturbed(job: Job, output: Path, whole: Undisturbed, draws: random.Random, left: int) -> tuple[int, int]:
    """Kill a run at random moments and let it come to its end; how many kills, and all tokens decoded."""
    killed = 0
    with counted(output) as (counter, tokens):
        while killed < min(KILLS_EACH, left):
            process, before = start(job, output, counter), tokens()
            if draws.random() < FROM_START:
                wait = draws.uniform(0, whole.seconds)
            else:
                when_it_decodes(process, tokens, before)
                wait = draws.uniform(0, whole.decoding / 3)
            try:
                process.wait(timeout=wait)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
        finish(job, output, counter)
        return killed, tokens()


class counted:
    """A counter of decoded tokens that outlives the processes that add to it."""

    def __init__(self, output: Path) -> None:
        self._path = output.with_name(output.name + ".count")

    def __enter__(self) -> tuple[Path, Callable[[], int]]:
        self._path.write_bytes(bytes(8))
        return self._path, lambda: int(struct.unpack("<Q", self._path.read_bytes())[0])

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


def start(job: Job, output: Path, counter: Path) -> subprocess.Popen[bytes]:
    """The stage's command in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--child",
        str(counter),
        *job.arguments,
        "--output",
        str(output),
        "--quiet",
    ]
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def when_it_decodes(process: subprocess.Popen[bytes], tokens: Callable[[], int], before: int) -> float:
    """The time at which a process has decoded its first tokens, or has ended."""
    while process.poll() is None and tokens() == before:
        time.sleep(0.005)
    return time.perf_counter()


def finish(job: Job, output: Path, counter: Path) -> None:
    """Run the stage to its end; a decoding that had come to it already is left as it is."""
    if not output.is_file():
        require_success(job, start(job, output, counter))


def require_success(job: Job, process: subprocess.Popen[bytes]) -> None:
    """Wait for a process; raise RuntimeError with what it said where it failed."""
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{job.name} failed: {errors.decode()}")


def child(counter: Path, arguments: Sequence[str]) -> None:
    """`pts` with every row of every decoding step counted in a file, which a kill leaves right."""
    from pts.cli import main as pts
    from pts.policies.transformers.engine import Engine

    with counter.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 8)
    step = Engine._step

    def counting(engine: Engine) -> object:
        (before,) = struct.unpack("<Q", memory[:8])
        memory[:8] = struct.pack("<Q", before + len(engine.batch.table.occupied))
        return step(engine)

    Engine._step = counting  # type: ignore[method-assign, assignment]
    sys.argv = ["pts", *arguments]
    pts()


def findings(run: Path) -> object:
    """A search's records, its summary, and each problem's result."""
    from pts.runs.search_run import read_search

    results = {result.problem_id: repr(result) for result in read_search(run).results}
    return lines_of(run / "pivotal_tokens.jsonl"), (run / "summary.json").read_text(), results


def vectors(run: Path) -> object:
    """A vector set's tensors and all that is measured of it."""
    data = json.loads((run / "vectors.json").read_text())
    return (run / "vectors.safetensors").read_bytes(), data["vectors"], data["effects"]


def table(run: Path) -> object:
    """An evaluation's answers, in whatever order they came, and its summary."""
    return sorted(lines_of(run / "items.jsonl")), (run / "summary.json").read_text()


def lines_of(path: Path) -> list[str]:
    """The lines of a file of JSON objects, without what says when something was or how long it took."""
    return [json.dumps(timeless(json.loads(line))) for line in path.read_text().splitlines()]


def timeless(value: object) -> object:
    """A JSON value without its times."""
    if not isinstance(value, dict):
        return value
    return {key: timeless(item) for key, item in value.items() if key not in TIMES}


def recorded_twice(run: Path) -> int:
    """Requests whose rollouts stand in the journal in more than one place."""
    from pts.runs.rollout_parts import read_parts

    seen: set[tuple[str, bytes]] = set()
    twice, last = 0, None
    for part in read_parts(run / "rollouts", ["key", "digest"]):
        # The rows of one request follow each other.
        for request in zip(*part.to_pydict().values(), strict=True):
            if request != last:
                twice += request in seen
                seen.add(request)
            last = request
    return twice


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
