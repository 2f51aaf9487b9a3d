"""Coconut's curriculum on the demo model: continuous thoughts in place of the first sentences of thinking.

    python benchmarks/coconut.py [--quick]

The demo model learns its own shortest right completions (of 8, as `pts train shorten` draws them). In stage k
of the curriculum their first k sentences of thinking are left out and `--each` · k thoughts stand there instead
(Hao et al. 2024, section 3; `latent_thoughts.py`). Each stage has equally many updates and an optimizer of its
own. Systems, all trained on the same completions in the same order, for as many updates:

- `latent`: the thoughts are the model's last hidden states;
- `pause`: a fixed token in place of each, so the same compute and nothing carried on;
- `none`: the sentences are left out and nothing stands there;
- `shorten`: nothing is left out in any stage.

The unchanged model stands beside them, with thinking and without (`nothink`). A thought counts as a token.
Success and tokens of every stage on test problems, at the sampler of answers. Differences are paired by
problem; their intervals are bootstraps over problems, for the trained weights at hand. A seed is a training:
each is shown, and `all` is the mean over them. What is done lies in `--directory`: the same command goes on
with what is missing there. `--choose` judges on other problems (calibrate split), to choose settings by.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from latent_thoughts import complete, learning_loss

from pts.demo.problems import demo_problems
from pts.graders import make_grader
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.pivot_search.sentences import sentence_spans
from pts.policies import policy_of
from pts.records import Problem, Sampling, TokenIds
from pts.runs.journal import Journal
from pts.seeds import derive_seed
from pts.stats import bootstrap_mean_interval
from pts.training.fit import Order
from pts.training.modes import find_modes
from pts.training.samples import Asker
from pts.training.solutions import Solution, draw_solutions

SAMPLING = Sampling(budget=96)
SYSTEMS = ("latent", "pause", "none", "shorten")
PAUSE = 1
"""The unknown word's token, which the demo model never reads or writes."""
START = "start"
KEYS = ("success", "tokens")
PER_STEP = 16


@dataclass(frozen=True)
class Example:
    """A completion to learn: its sentences of thinking, and the rest from the tag that closes thinking."""

    prompt: TokenIds
    sentences: tuple[TokenIds, ...]
    rest: TokenIds

    def after(self, dropped: int) -> TokenIds:
        """What is written where the first sentences are left out."""
        return tuple(token for part in self.sentences[dropped:] for token in part) + self.rest


class Bench:
    """The unchanged model, what draws and judges, and the problems."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loaded = load_model(ModelOptions(spec="demo", dtype="float32"))
        self.policy = policy_of(self.loaded, PromptFormat())
        self.modes = find_modes(self.loaded.tokenizer, PromptFormat())
        self.asker = Asker(self.modes, SAMPLING, SAMPLING.budget, make_grader("demo"))
        self.loaded.model.requires_grad_(True)
        self.unchanged = {name: value.clone() for name, value in self.loaded.model.state_dict().items()}
        self.tested = demo_problems("calibrate" if options.choose else "test", options.tested, 0)

    def examples(self) -> list[Example]:
        """What is learnt, drawn where it is not there yet."""
        problems = demo_problems("train", self.options.problems, 0)
        journal = Journal(self.options.directory / "completions.jsonl", Solution)
        digests = {problem.id: "" for problem in problems}
        found = draw_solutions(
            *(problems, digests, journal, self.policy, self.asker, ["thinking"], 8, 0, lambda *_: None)
        )
        return [
            self.parts(problem, one.shortest)
            for problem, one in zip(problems, found, strict=True)
            if one.shortest is not None
        ]

    def parts(self, problem: Problem, completion: TokenIds) -> Example:
        """A completion in sentences of thinking and the rest."""
        thinking, answer = self.modes.split(completion)
        closing = self.modes.no_thinking
        said = thinking[: -len(closing)]
        sentences = tuple(said[start:end] for start, end in sentence_spans(said, self.policy.decode))
        return Example(self.policy.encode(problem) + self.modes.lead, sentences, closing + answer)

    def judge(self, thoughts: int, pause: int | None, opening: TokenIds = ()) -> dict:
        """Success and tokens [problems][answers] of the weights at hand, with that many thoughts."""
        self.loaded.model.eval()
        rng = np.random.default_rng(1)
        answers = self.options.answers
        lead = self.modes.lead + opening
        prompts = [self.policy.encode(problem) + lead for problem in self.tested for _ in range(answers)]
        stops = self.policy.end_token_ids
        found = complete(self.loaded.model, prompts, thoughts, pause, SAMPLING, stops, rng)
        samples = [
            self.asker.judged(
                self.policy.decode,
                self.tested[place // answers],
                opening + tuple(written),
                written[-1] not in stops,
                (),
                forced=False,
            )
            for place, written in enumerate(found)
        ]
        success = np.reshape([sample.success for sample in samples], (-1, answers))
        tokens = np.reshape([sample.tokens + thoughts for sample in samples], (-1, answers))
        return {"success": success.astype(int).tolist(), "tokens": tokens.tolist()}


def thoughts_of(options: argparse.Namespace, system: str, stage: int) -> tuple[int, int, int | None]:
    """The sentences that are left out in a stage, the thoughts in their place, and the token that they are."""
    dropped = 0 if system == "shorten" else stage
    thoughts = options.each * dropped if system in ("latent", "pause") else 0
    return dropped, thoughts, PAUSE if system == "pause" else None


def train_stage(bench: Bench, examples: Sequence[Example], system: str, seed: int, stage: int) -> float:
    """Learn one stage, on from the weights at hand; the mean loss of its last ten updates."""
    options, model = bench.options, bench.loaded.model
    dropped, thoughts, pause = thoughts_of(options, system, stage)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate, (0.9, 0.95), weight_decay=0.0)
    order = Order(len(examples), PER_STEP, derive_seed(seed, "coconut", stage))
    losses = []
    for step in range(options.steps):
        rate = options.learning_rate * min(1.0, (step + 1) / 5) * (1 - step / options.steps)
        optimizer.param_groups[0]["lr"] = rate
        batch = [examples[place] for place in order(step)]
        rests = [example.after(dropped) for example in batch]
        loss = learning_loss(model, [example.prompt for example in batch], rests, thoughts, pause)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses[-10:]))


def train(bench: Bench, examples: Sequence[Example], done: dict, system: str, seed: int) -> None:
    """Train and judge the stages of one training that are missing, each on from the weights of the last."""
    options = bench.options
    weights = None
    for stage in range(options.stages + 1):
        # Nothing is left out in stage 0, so it is the same of all systems.
        name = f"{system if stage else START} {seed} {stage}"
        before, weights = weights, options.directory / f"{name.replace(' ', '-')}.pt"
        if name in done:
            continue
        bench.loaded.model.load_state_dict(torch.load(before) if before else bench.unchanged)
        started = time.process_time()
        loss = train_stage(bench, examples, system, seed, stage)
        spent = time.process_time() - started
        torch.save(bench.loaded.model.state_dict(), weights.with_suffix(".new"))
        os.replace(weights.with_suffix(".new"), weights)
        _, thoughts, pause = thoughts_of(options, system, stage)
        record(
            options, done, name, {**bench.judge(thoughts, pause), "loss": loss, "cpu_seconds": round(spent, 1)}
        )


def record(options: argparse.Namespace, done: dict, name: str, row: dict) -> None:
    """Write down what was found of a system."""
    done[name] = row
    with results_file(options).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, **row}) + "\n")
    print(name, round(np.mean(row["success"]), 3), round(np.mean(row["tokens"]), 1), flush=True)


def results_file(options: argparse.Namespace) -> Path:
    """Where the rows are kept."""
    return options.directory / ("chosen.jsonl" if options.choose else "results.jsonl")


def report(options: argparse.Namespace, done: dict[str, dict]) -> None:
    """Print success and tokens of every system, stage and seed, and the differences, paired by problem."""
    seeds, systems = options.seeds.split(","), options.systems.split(",")
    nothink = per_problem(done, ["nothink"])[0]
    print(
        f"{options.tested} problems x {options.answers} answers of each training; 95% intervals over problems"
    )
    for name in ("thinking", "nothink"):
        success, tokens = per_problem(done, [name])
        print(f"unchanged, {name:9s} {with_interval(success)}{tokens.mean():7.1f}")
    print("system  stage  seed  success               tokens  difference to nothink, and of latent to others")
    rows = [(START, 0), *((system, stage) for system in systems for stage in range(1, options.stages + 1))]
    for system, stage in rows:
        for seed in [*seeds, "all"]:
            chosen = seeds if seed == "all" else [seed]
            success, tokens = per_problem(done, [f"{system} {one} {stage}" for one in chosen])
            line = f"{system:8s}{stage:5d}  {seed:>4s}  {with_interval(success)}{tokens.mean():7.1f}"
            line += f"  {with_interval(success - nothink, sign='+')}"
            for other in ("shorten", "none", "pause"):
                if system == "latent" and other in systems:
                    base = per_problem(done, [f"{other} {one} {stage}" for one in chosen])[0]
                    line += f"  {other} {with_interval(success - base, sign='+')}"
            print(line)


def per_problem(done: dict[str, dict], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Each problem's success and tokens [problems], means over the answers of the systems named."""
    success, tokens = (np.mean([np.mean(done[name][key], 1) for name in names], 0) for key in KEYS)
    return success, tokens


def with_interval(values: np.ndarray, sign: str = "") -> str:
    """The mean over problems and its 95% bootstrap interval."""
    low, high = bootstrap_mean_interval(values, 0.95, 0)
    return f"{values.mean():{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few problems and updates: shows that it runs")
    parser.add_argument("--directory", type=Path, default=Path("runs/coconut"))
    parser.add_argument("--problems", type=int, default=1920)
    parser.add_argument("--steps", type=int, default=120, help="updates of a stage")
    parser.add_argument("--stages", type=int, default=3, help="the most sentences left out")
    parser.add_argument("--each", type=int, default=1, help="thoughts for a sentence")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--tested", type=int, default=300)
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="of latent, pause, none, shorten")
    parser.add_argument("--choose", action="store_true", help="judge on the calibrate split")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        options.problems, options.steps, options.stages, options.tested = 48, 3, 2, 20
        options.directory = options.directory / "quick"
    options.directory.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    file = results_file(options)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {row.pop("name"): row for row in map(json.loads, lines)}
    for name, opening in (("thinking", ()), ("nothink", bench.modes.no_thinking)):
        if name not in done:
            bench.loaded.model.load_state_dict(bench.unchanged)
            record(options, done, name, bench.judge(0, None, opening))
    bench.loaded.model.load_state_dict(bench.unchanged)
    examples = bench.examples()
    counts = np.bincount([len(example.sentences) for example in examples])
    print(f"{len(examples)} completions; by number of sentences {counts.tolist()}", flush=True)
    for seed in map(int, options.seeds.split(",")):
        for system in options.systems.split(","):
            train(bench, examples, done, system, seed)
    report(options, done)


if __name__ == "__main__":
    main()
