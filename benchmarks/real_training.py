"""A short LoRA training of a real model: memory, seconds a step, and length and success before and after.

    python benchmarks/real_training.py --model Qwen2.5-Coder-0.5B-Instruct.Q4.gguf --dataset svamp.jsonl
    python benchmarks/real_training.py --quick

`pts train length` trains on the first `--problems` of the data set, for `--steps` steps. The model before and
after answers the last `--tested` problems `--answers` times each, at the sampler of answers; the training never
sees these. The differences are paired by problem, with 95% bootstrap intervals, so half an interval's width
says what effect could have been seen. Everything lies in `--directory`, and the same command goes on with what
is missing there. `--quick` is the demo model with three small steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from pts.graders import make_grader
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.policies import policy_of
from pts.problems import ProblemSource, load_problems
from pts.records import Sampling
from pts.stats import bootstrap_mean_interval
from pts.training.samples import Asker, draw

GIB = 2**30
TOGETHER = 8
"""Problems whose answers are drawn together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dataset", type=Path, help="a JSONL file; without one demo problems are written")
    parser.add_argument("--directory", type=Path, default=Path("runs/real-training"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--budget", type=int, default=192)
    parser.add_argument("--suffix")
    parser.add_argument("--dtype", default="float32", help="of the model; an adapter is in float32")
    parser.add_argument("--tested", type=int, default=32)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        options.steps, options.problems, options.tested, options.answers = 3, 8, 8, 2
        options.directory = options.directory / "quick"
    options.directory.mkdir(parents=True, exist_ok=True)
    train, test = split(options)
    trained = options.directory / "model"
    before = answers(options, options.model, test, "before")
    training = trained_with(options, train, trained)
    after = answers(options, str(trained), test, "after")
    report(options, before, training, after)


def split(options: argparse.Namespace) -> tuple[Path, Path]:
    """The files of the problems trained on and of those tested, which have none in common."""
    if options.dataset is None:
        from pts.demo.problems import demo_problems

        count = options.problems + options.tested
        lines = [
            json.dumps({"id": one.id, "question": one.query, "answer": one.answer})
            for one in demo_problems("train", count, 0)
        ]
    else:
        lines = options.dataset.read_text(encoding="utf-8").splitlines()
    if len(lines) < options.problems + options.tested:
        raise SystemExit(f"{len(lines)} problems are fewer than --problems and --tested together.")
    files = options.directory / "train.jsonl", options.directory / "test.jsonl"
    for file, part in zip(files, (lines[: options.problems], lines[-options.tested :]), strict=True):
        file.write_text("\n".join(part) + "\n", encoding="utf-8")
    return files


def answers(options: argparse.Namespace, model: str, test: Path, name: str) -> dict:
    """Each test problem's success and tokens by a model, and the time; read where they are there already."""
    file = options.directory / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    problem_set = load_problems(ProblemSource(str(test)))
    loaded = load_model(ModelOptions(model, dtype=options.dtype))
    policy = policy_of(loaded, PromptFormat(suffix=options.suffix))
    grade = make_grader("demo" if options.dataset is None else problem_set.grader)
    asker = Asker(None, Sampling(budget=options.budget), options.budget, grade)
    problems = list(problem_set.problems)
    started = time.perf_counter()
    groups = []
    for first in range(0, len(problems), TOGETHER):
        part = problems[first : first + TOGETHER]
        groups += draw(policy, asker, [(one, ["free"] * options.answers) for one in part], 1)
        print(name, len(groups), "problems", round(time.perf_counter() - started), "s", flush=True)
    found = {
        "seconds": round(time.perf_counter() - started),
        "success": [float(np.mean([one.success for one in group])) for group in groups],
        "tokens": [float(np.mean([one.tokens for one in group])) for group in groups],
        "cut": float(np.mean([one.cut for group in groups for one in group])),
    }
    file.write_text(json.dumps(found), encoding="utf-8")
    return found


def trained_with(options: argparse.Namespace, train: Path, output: Path) -> dict:
    """Train by the command, or what is left of it: its curve, its command and the peak of its memory."""
    file = options.directory / "training.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    command = [
        *("pts", "train", "length", "--model", options.model, "--dataset", str(train), "--lora"),
        *("--steps", str(options.steps), "--prompts", str(options.prompts), "--samples", str(options.samples)),
        *("--micro-batch", str(options.micro_batch), "--alpha", str(options.alpha), "--warmup", "2"),
        *("--learning-rate", str(options.learning_rate), "--budget", str(options.budget), "--save-every", "2"),
        *("--dtype", options.dtype, "--output", str(output), "--json"),
        *([] if options.suffix is None else ["--suffix", options.suffix]),
        *(["--grader", "demo"] if options.dataset is None else []),
    ]
    done = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"the training ended with code {done.returncode}; the same command goes on.")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / GIB
    curve = [json.loads(line) for line in (output / "curves.jsonl").read_text(encoding="utf-8").splitlines()]
    names = ("step", "success", "tokens", "cut", "reward", "grad_norm", "seconds")
    points = [{name: point[name] for name in names} for point in curve]
    found = {"command": command, "peak_gib": round(peak, 2), "points": points}
    file.write_text(json.dumps(found), encoding="utf-8")
    return found


def report(options: argparse.Namespace, before: dict, training: dict, after: dict) -> None:
    """Print what it took, the curve, and what changed on the test problems."""
    print(" ".join(Path(word).name if "/" in word else word for word in training["command"]))
    seconds = [point["seconds"] for point in training["points"]]
    print(f"{len(seconds)} steps, median {np.median(seconds):.1f} s a step ({min(seconds):.1f} to", end=" ")
    print(f"{max(seconds):.1f}); peak memory of the training {training['peak_gib']:.2f} GiB")
    print("steps        success   tokens   (at the sampler of training, on the problems trained on)")
    for first in range(0, len(seconds), 5):
        part = training["points"][first : first + 5]
        means = [np.mean([point[name] for point in part]) for name in ("success", "tokens")]
        print(f"{first + 1:>2d} to {first + len(part):<2d}      {means[0]:7.3f}  {means[1]:7.1f}")
    print(f"{options.tested} test problems, {options.answers} answers each (mean, 95% interval)")
    for name in ("success", "tokens"):
        rows = {"before": np.array(before[name]), "after": np.array(after[name])}
        rows["difference"] = rows["after"] - rows["before"]
        for label, values in rows.items():
            low, high = bootstrap_mean_interval(values, 0.95, 0)
            print(f"{name:8s} {label:10s} {values.mean():8.3f}  {low:8.3f} to {high:8.3f}")
        print(f"{name:8s} an effect of {(high - low) / 2:.3f} or more would have been seen")
    print(f"cut by the limit: {before['cut']:.3f} before, {after['cut']:.3f} after")


if __name__ == "__main__":
    main()
