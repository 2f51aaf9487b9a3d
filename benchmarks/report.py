"""A search's report: its size, the time to build it and to draw it, and frames while a long completion scrolls.

    python benchmarks/report.py [--quick] [--problems 200] [--tokens 400] [--long 8000]

The run is the demo model's, made large: its problems are repeated under new names, and each trace goes on with
random tokens and noisy values, which compress worse than a model's. Needs playwright and Chromium. The last
line of the output is one line of JSON: `mb, build_s, interactive_s, frame_ms`, to reach 5, 10, 2 and 16 (of 60
frames a second each takes 16.7 ms). Beside other work `build_cpu_s`, the processor's time, says more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pts.report.write_report import write_report
from pts.runs.rollout_parts import read_parts, schema, write_part
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search

SEARCHED = 10
SCROLL = """async () => {
    const reading = document.querySelector(".reading");
    const steps = 240, times = [];
    const end = reading.scrollHeight - reading.clientHeight;
    let last = null;
    for (let i = 0; i <= steps; i++) {
        const now = await new Promise(requestAnimationFrame);
        if (last !== null) times.push(now - last);
        last = now;
        reading.scrollTop = (end * i) / steps;
    }
    return times;
}"""


def enlarge(run: Path, problems: int, tokens: int, long: int) -> None:
    """Repeat a run's problems up to `problems`, with traces of `tokens` tokens, the first of `long`."""
    rng = np.random.default_rng(0)
    lines = [json.loads(line) for line in (run / "problems.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["result"]["traces"]]
    made, names = [], []
    for number in range(problems):
        line = json.loads(json.dumps(lines[number % len(lines)]))
        names.append((line["result"]["problem_id"], f"problem-{number}"))
        line["result"]["problem_id"] = f"problem-{number}"
        line["result"]["query"] += f" ({number})"
        for index, trace in enumerate(line["result"]["traces"]):
            lengthen(trace, long if number == 0 and index == 0 else tokens, rng)
        made.append(line)
    (run / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["problems"]["count"] = problems
    (run / "manifest.json").write_text(json.dumps(manifest))
    repeat_rollouts(run / "rollouts", names)


def lengthen(trace: dict[str, Any], tokens: int, rng: np.random.Generator) -> None:
    """Let a trace go on to so many tokens: most of them certain, some of them forks, values that wander."""
    from pts.demo.registration import demo_model_dir
    from pts.models.options import ModelOptions
    from pts.models.tokenizer import load_detokenizer

    decode = lengthen.__dict__.setdefault("decode", load_detokenizer(ModelOptions(str(demo_model_dir()))))
    here = len(trace["completion"])
    more = max(0, tokens - here)
    ids = rng.integers(10, 60, more).tolist()
    details = trace["details"]
    trace["completion"] += ids
    trace["tokens"] += [decode((token,)) for token in ids]
    trace["token_probs"] += np.where(rng.random(more) < 0.75, 1.0, rng.random(more).round(3)).tolist()
    details["fates"] += "".join(rng.choice(list("eeeesv"), more))
    values = np.clip(details["values"][-1] + 0.003 * rng.standard_normal(more).cumsum(), 0, 1)
    details["values"] += values.round(3).tolist()
    details["values_low"] += np.clip(values - 0.1 * rng.random(more), 0, 1).round(3).tolist()
    details["values_high"] += np.clip(values + 0.1 * rng.random(more), 0, 1).round(3).tolist()
    text = decode(tuple(trace["completion"][:here]))
    offset = len(text)
    for start in range(here, tokens):
        details["offsets"].append(offset)
        offset += len(trace["tokens"][start]) + 1
    trace["excluded_exact"] += more


def repeat_rollouts(folder: Path, names: list[tuple[str, str]]) -> None:
    """The journal with each problem's rollouts under all of its new names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pa.concat_tables(list(read_parts(folder, schema().names)))
    tables = []
    for old, new in names:
        rows = whole.filter(pc.equal(whole["problem"], old))
        column = pa.array([new] * rows.num_rows, pa.string())
        tables.append(rows.set_column(0, schema().field("problem"), column))
    shutil.rmtree(folder)
    folder.mkdir()
    write_part(folder / "00000.parquet", pa.concat_tables(tables).cast(schema()).combine_chunks().to_batches())


def look(report: Path) -> tuple[float, list[float]]:
    """Seconds until the page has been drawn, and milliseconds of each frame while the longest trace scrolls."""
    from playwright.sync_api import sync_playwright

    browser = next(
        found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found
    )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
        page.goto(f"{report.as_uri()}#problem-0/0")
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        ready = page.evaluate("performance.now()") / 1000
        fold = page.get_by_label("Fold calm stretches")
        if fold.count():
            fold.first.uncheck()
        page.wait_for_timeout(500)
        frames = page.evaluate(SCROLL)
        started.close()
    return ready, frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--long", type=int, default=8000)
    parser.add_argument("--quick", action="store_true", help="20 problems")
    options = parser.parse_args()
    problems = 20 if options.quick else options.problems
    with tempfile.TemporaryDirectory() as folder:
        run, output = Path(folder) / "run", Path(folder) / "report.html"
        run_search(SearchInputs(output=run, problems=SEARCHED, levels=(2, 3)))
        enlarge(run, problems, options.tokens, options.long)
        begun, cpu = time.perf_counter(), time.process_time()
        write_report(run, output=output)
        build, cpu = time.perf_counter() - begun, time.process_time() - cpu
        ready, frames = look(output)
        figures = {
            "problems": problems,
            "mb": round(output.stat().st_size / 1e6, 2),
            "build_s": round(build, 2),
            "build_cpu_s": round(cpu, 2),
            "interactive_s": round(ready, 2),
            "frame_ms": round(statistics.median(frames), 1),
            "frame_ms_p95": round(float(np.quantile(frames, 0.95)), 1),
        }
    print(f"{problems} problems, two completions of {options.tokens} tokens each, one of {options.long}")
    built = f"built in {figures['build_s']} s ({figures['build_cpu_s']} s of processor time)"
    print(f"size {figures['mb']} MB, {built}, drawn in {figures['interactive_s']} s")
    print(f"a frame while {options.long} tokens scroll: {figures['frame_ms']} ms (median)")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
