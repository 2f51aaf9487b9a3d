"""Measures the demo model on its test split: success, awareness of its errors, and what its openers decide.

    python benchmarks/demo_model.py [--quick] [--model DIRECTORY] [--seed 0]

Sampling as the demo's defaults: temperature 0.6, top-p 0.95, top-k 20, budget 96. The last line of the output
is one line of JSON. It samples by itself, so that it tests no other part of the package.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pts.demo.problems import demo_problems
from pts.demo.reading import Statement, read_thought
from pts.demo.registration import demo_model_dir
from pts.demo.vocabulary import ORDERING_WORDS, THINK_END, TURN_END
from pts.records import Problem

TEMPERATURE, TOP_K, TOP_P, BUDGET = 0.6, 20, 0.95, 96
PIVOTAL = 0.2
ROWS = 768
PATTERN_OF = {
    "Split": "numerical_accuracy",
    "Wait": "self_correction",
    "Alternatively": "exploration",
    "Check": "depth_and_thoroughness",
    **dict.fromkeys(ORDERING_WORDS, "organization"),
}

Ids = list[int]


@dataclass(frozen=True)
class Subject:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def end(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(TURN_END)

    def prompt(self, problem: Problem, thinking: bool) -> Ids:
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.query}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, ids: Ids) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)


@dataclass(frozen=True)
class Start:
    """A prompt with a prefix; the first new token may be forced, or one avoided."""

    prompt: Ids
    prefix: Ids
    force: int | None = None
    avoid: int | None = None


@dataclass(frozen=True)
class Sample:
    completion: Ids
    probs: list[float]


def truncated(logits: torch.Tensor) -> torch.Tensor:
    """The policy's next-token probabilities `[rows, vocabulary]` after temperature, top-k and top-p."""
    scaled = logits.double() / TEMPERATURE
    values, ids = scaled.topk(TOP_K, dim=-1)
    probs = values.softmax(-1)
    before = probs.cumsum(-1) - probs
    probs = probs.masked_fill(before >= TOP_P, 0.0)
    probs /= probs.sum(-1, keepdim=True)
    return torch.zeros_like(scaled).scatter(-1, ids, probs)


@torch.inference_mode()
def sample(subject: Subject, starts: Sequence[Start], generator: torch.Generator) -> list[Sample]:
    """One completion a start, those of like length together."""
    order = sorted(range(len(starts)), key=lambda i: len(starts[i].prompt) + len(starts[i].prefix))
    done: dict[int, Sample] = {}
    for first in range(0, len(order), ROWS):
        rows = order[first : first + ROWS]
        done.update(zip(rows, _sample_batch(subject, [starts[i] for i in rows], generator), strict=True))
    return [done[i] for i in range(len(starts))]


def _sample_batch(subject: Subject, starts: Sequence[Start], generator: torch.Generator) -> list[Sample]:
    completions = [list(start.prefix) for start in starts]
    probs: list[list[float]] = [[] for _ in starts]
    length = max(len(start.prompt) + len(start.prefix) for start in starts)
    pads = [length - len(start.prompt) - len(start.prefix) for start in starts]
    ids = torch.tensor([[0] * pad + s.prompt + s.prefix for pad, s in zip(pads, starts, strict=True)])
    mask = torch.arange(length)[None] >= torch.tensor(pads)[:, None]
    positions = (torch.arange(length)[None] - torch.tensor(pads)[:, None]).clamp(min=0)
    alive = torch.arange(len(starts))
    cache, first = None, True
    while len(alive):
        out = subject.model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        dist = truncated(out.logits[:, -1])
        draw_from = _constrained(dist, [starts[i] for i in alive.tolist()]) if first else dist
        first = False
        drawn = torch.multinomial(draw_from, 1, generator=generator)[:, 0]
        taken = dist.gather(1, drawn[:, None])[:, 0]
        keep = []
        for row, (index, token, q) in enumerate(
            zip(alive.tolist(), drawn.tolist(), taken.tolist(), strict=True)
        ):
            completions[index].append(token)
            probs[index].append(q)
            if token != subject.end and len(completions[index]) < BUDGET:
                keep.append(row)
        rows = torch.tensor(keep, dtype=torch.long)
        if len(rows) < len(alive):
            cache.batch_select_indices(rows)
        alive, ids = alive[rows], drawn[rows, None]
        mask = torch.cat([mask[rows], torch.ones(len(rows), 1, dtype=torch.bool)], dim=1)
        positions = positions[rows, -1:] + 1
    return [Sample(ids_, q) for ids_, q in zip(completions, probs, strict=True)]


def _constrained(dist: torch.Tensor, starts: Sequence[Start]) -> torch.Tensor:
    dist = dist.clone()
    for row, start in enumerate(starts):
        if start.force is not None:
            dist[row] = 0.0
            dist[row, start.force] = 1.0
        elif start.avoid is not None:
            dist[row, start.avoid] = 0.0
    return dist


def succeeds(subject: Subject, sample_: Sample, problem: Problem) -> bool:
    words = subject.text(sample_.completion).split(THINK_END)[-1].split()
    return sample_.completion[-1] == subject.end and words[:4] == ["The", "answer", "is", problem.answer]


def nothink_success(
    subject: Subject, per_level: int, samples: int, seed: int, generator: torch.Generator
) -> dict[str, float]:
    figures = {}
    for level in (1, 2, 3, 4, 5):
        problems = demo_problems("test", per_level, seed, (level,))
        asked = [p for p in problems for _ in range(samples)]
        drawn = sample(subject, [Start(subject.prompt(p, False), []) for p in asked], generator)
        hits = [succeeds(subject, s, p) for s, p in zip(drawn, asked, strict=True)]
        figures[f"nothink_success_{level}"] = _mean(hits)
    return figures


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else float("nan")


@dataclass(frozen=True)
class Traced:
    problem: Problem
    sample: Sample


def thinking_success(
    subject: Subject, per_level: int, samples: int, seed: int, generator: torch.Generator
) -> tuple[dict[str, float], list[Traced]]:
    """Success by level, the share of problems between 0.2 and 0.8, and the traces."""
    figures: dict[str, float] = {}
    traces: list[Traced] = []
    for level in (1, 2, 3, 4, 5):
        problems = demo_problems("test", per_level, seed, (level,))
        asked = [p for p in problems for _ in range(samples)]
        drawn = sample(subject, [Start(subject.prompt(p, True), []) for p in asked], generator)
        hits = [succeeds(subject, s, p) for s, p in zip(drawn, asked, strict=True)]
        by_problem = [_mean(hits[i : i + samples]) for i in range(0, len(hits), samples)]
        figures[f"think_success_{level}"] = _mean(hits)
        figures[f"in_range_{level}"] = _mean([0.2 <= value <= 0.8 for value in by_problem])
        traces += [Traced(p, s) for p, s in zip(asked, drawn, strict=True)]
    return figures, traces


def trace_figures(subject: Subject, traces: Sequence[Traced]) -> dict[str, float]:
    """What the traces look like: lengths, certainty, cut ones, leaks."""
    close = subject.tokenizer.convert_tokens_to_ids(THINK_END)
    probs = [q for t in traces for q in t.sample.probs]
    forks = [sum(q <= 0.8 for q in t.sample.probs) for t in traces]
    return {
        "leak_rate": _mean([t.sample.completion[0] == close for t in traces]),
        "cut_by_budget": _mean([t.sample.completion[-1] != subject.end for t in traces]),
        "mean_tokens": _mean([len(t.sample.completion) for t in traces]),
        "tokens_q_1": _mean([q > 1 - 1e-9 for q in probs]),
        "tokens_q_up_to_0.8": _mean([q <= 0.8 for q in probs]),
        "forks_per_trace": _mean(forks),
    }


def awareness(subject: Subject, traces: Sequence[Traced]) -> dict[str, float]:
    """What follows a first-hand step, by whether it was wrong, and what checks make of errors."""
    after: dict[bool, list[str]] = {True: [], False: []}
    verdicts: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    carrying: list[bool] = []
    errors_in_ordered: dict[bool, list[bool]] = {True: [], False: []}
    for traced in traces:
        text = subject.text(traced.sample.completion)
        words, statements = text.split(), read_thought(text)
        for statement, following in zip(statements, [*statements[1:], None], strict=True):
            if statement.kind not in ("direct", "split") or statement.step is None:
                continue
            after[statement.wrong].append(words[statement.last + 1] if statement.last + 1 < len(words) else "")
            if statement.kind == "direct" and statement.step.carries(statement.value):
                carrying.append(statement.wrong)
            if following is not None and following.kind in ("check", "alternative", "correction"):
                verdicts[following.kind, statement.wrong].append(not following.wrong)
        errors_in_ordered[words[0] in ORDERING_WORDS].append(_lost_track(statements, traced.problem))
    figures = {
        f"p_{word}_after_{'wrong' if wrong else 'right'}": _mean([w == word for w in after[wrong]])
        for word in ("Wait", "Alternatively", "Check")
        for wrong in (True, False)
    }
    floor = 0.5 / max(1, len(after[False]))
    figures["wait_ratio"] = round(figures["p_Wait_after_wrong"] / max(figures["p_Wait_after_right"], floor), 1)
    figures["checks_catch"] = _mean(verdicts["check", True])
    figures["checks_spoil"] = _mean([not right for right in verdicts["check", False]])
    figures["alternatives_right_after_wrong"] = _mean(verdicts["alternative", True])
    figures["waits_right_after_wrong"] = _mean(verdicts["correction", True])
    figures["direct_carry_wrong"] = _mean(carrying)
    figures["lost_track_ordered"] = _mean(errors_in_ordered[True])
    figures["lost_track_bare"] = _mean(errors_in_ordered[False])
    return figures


def _lost_track(statements: Sequence[Statement], problem: Problem) -> bool:
    from pts.demo.problems import expression_of

    done = [s.step for s in statements if s.kind in ("direct", "split")]
    return done != list(expression_of(problem).operations)


def opener_effects(
    subject: Subject, traces: Sequence[Traced], rollouts: int, generator: torch.Generator
) -> dict[str, float]:
    """For each pattern, at the openers that traces took: V - O, and delta = (1 - q)(V - O), on rollouts.

    `*_taken_per_trace` counts openers of the pattern per trace; `*_pivotal_share` is the share of them with
    |delta| >= 0.2, noise of the rollouts included.
    """
    starts: list[Start] = []
    owners: list[tuple[str, float, Problem]] = []
    counts: dict[str, int] = defaultdict(int)
    for traced in traces:
        prompt = subject.prompt(traced.problem, True)
        completion, ordered = traced.sample.completion, False
        for place, (token, q) in enumerate(zip(completion, traced.sample.probs, strict=True)):
            word = subject.tokenizer.convert_ids_to_tokens(token)
            pattern = PATTERN_OF.get(word)
            if pattern is None or (pattern == "organization" and ordered):
                continue
            ordered = ordered or pattern == "organization"
            counts[pattern] += 1
            if q > 1 - 1e-6:
                owners.append((pattern, 1.0, traced.problem))
                continue
            owners.append((pattern, q, traced.problem))
            prefix = completion[:place]
            starts += [Start(prompt, prefix, force=token)] * rollouts
            starts += [Start(prompt, prefix, avoid=token)] * rollouts
    drawn = iter(sample(subject, starts, generator))
    gaps: dict[str, list[float]] = defaultdict(list)
    deltas: dict[str, list[float]] = defaultdict(list)
    for pattern, q, problem in owners:
        if q == 1.0:
            deltas[pattern].append(0.0)
            continue
        taken = _mean([succeeds(subject, next(drawn), problem) for _ in range(rollouts)])
        avoided = _mean([succeeds(subject, next(drawn), problem) for _ in range(rollouts)])
        gaps[pattern].append(taken - avoided)
        deltas[pattern].append((1 - q) * (taken - avoided))
    figures: dict[str, float] = {}
    for pattern in dict.fromkeys(PATTERN_OF.values()):
        figures[f"{pattern}_taken_per_trace"] = round(counts[pattern] / len(traces), 3)
        figures[f"{pattern}_v_minus_o"] = _mean(gaps[pattern])
        figures[f"{pattern}_delta"] = _mean(deltas[pattern])
        figures[f"{pattern}_pivotal_share"] = _mean([abs(d) >= PIVOTAL for d in deltas[pattern]])
        figures[f"{pattern}_pivotal_per_trace"] = round(
            sum(abs(d) >= PIVOTAL for d in deltas[pattern]) / len(traces), 3
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=demo_model_dir())
    parser.add_argument("--quick", action="store_true", help="fewer problems; under a minute")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    subject = Subject(model, AutoTokenizer.from_pretrained(options.model))
    generator = torch.Generator().manual_seed(options.seed)
    per_level, studied, rollouts = (12, 40, 16) if options.quick else (60, 200, 48)
    started = time.monotonic()
    figures: dict[str, float] = {"parameters": model.num_parameters()}
    figures |= nothink_success(subject, per_level * 4, 4, options.seed, generator)
    success, traces = thinking_success(subject, per_level, 32, options.seed, generator)
    figures |= success | trace_figures(subject, traces) | awareness(subject, traces)
    middle = [t for t in traces if t.problem.metadata["level"] in (2, 3, 4)]
    chosen = random.Random(options.seed).sample(middle, studied)
    for traced in chosen[:5]:
        print(traced.problem.query, "|", subject.text(traced.sample.completion))
    figures |= opener_effects(subject, chosen, rollouts, generator)
    figures["seconds"] = round(time.monotonic() - started, 1)
    for name, value in figures.items():
        print(f"{name:45} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
