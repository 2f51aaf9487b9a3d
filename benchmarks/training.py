"""What training does to the demo model's choice of thinking: trained choice and fitted router at equal tokens.

    python benchmarks/training.py [--quick] [--only NAME,NAME] [--directory runs/training] [--at STEP]

Each cell of the table is a training run of `pts train` (or none) and an evaluation at its last step: 500 test
problems × 4 completions at the sampler of answers, with the mode forced either way and as the model chooses. A
router is fitted to the weights at hand on 300 other problems (calibrate split), by the residual stream at the
prompt's end, and judged on the test problems. Its price of a token is the fitted one (`+router`), or the one
that spends the tokens of `--router-tokens` on the problems that it was fitted on (`+router@`). Intervals are
bootstraps over problems. A cell that is done is one line of JSON in `benchmarks/results/training.jsonl`. The
same command goes on with what is missing, prints the table and draws the curves. `--quick` trains a few steps.
The cells `effects-0` and `drawn-0` learn from the problems of a search, which is to be there (`--searched`):
`pts search --levels 2,3,4 --problems 95 --output runs/training/searched`.
With `--at` nothing is trained: the checkpoint of that step of each run that is there is evaluated. With
`--curves` nothing is trained or evaluated: what the runs that are there saw is printed, ten steps a line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pts.calibration.router_fit import PRICES, Measurements, fit_probe
from pts.decoding.limits import ThinkingBudget
from pts.demo.problems import demo_problems
from pts.evaluation.outcomes import Outcomes
from pts.graders import make_grader
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.policies import policy_of
from pts.records import Problem, Sampling
from pts.stages.train.inputs import TrainingInputs
from pts.stages.train.reinforcement_inputs import AdaptThinkInputs, LengthInputs
from pts.stages.train.run import run_training
from pts.stages.train.shorten_inputs import ShortenInputs
from pts.stats import bootstrap_mean_interval
from pts.training.modes import find_modes
from pts.training.samples import Asker, Mode, Sample, draw

RESULTS = Path(__file__).parent / "results" / "training.jsonl"
SAMPLING = Sampling(budget=96)
ARMS: tuple[Mode, ...] = ("free", "thinking", "no thinking")
LAYERS = (0, 1, 2, 3, 4)
FITTED = 300
QUICK = ("unchanged", "adaptthink-0", "gated-0")


@dataclass(frozen=True)
class Cell:
    """A training run by its name; None is the model as it is. `start` is trained before it, if any."""

    name: str
    inputs: TrainingInputs | None
    start: TrainingInputs | None = None


def cells(folder: Path, steps: int, problems: int, searched: Path) -> list[Cell]:
    """All cells, the important ones first."""
    common = {"steps": steps, "problems": problems, "schedule": "linear"}

    def adapt(name: str, seed: int = 0, **more: object) -> Cell:
        references = folder / ("references" if seed == 0 else f"references-{seed}")
        kept = {"references": None if more.get("reference") == "own" else references}
        inputs = AdaptThinkInputs(**{**common, **kept, **more}, seed=seed, output=folder / name)
        return Cell(name, inputs)

    def length(name: str, seed: int = 0, **more: object) -> Cell:
        return Cell(name, LengthInputs(**{**common, **more}, seed=seed, output=folder / name))

    def shorten(name: str, **more: object) -> Cell:
        usual = {"problems": problems, "steps": steps // 2, "completions": folder / "completions"}
        return Cell(name, ShortenInputs(**{**usual, **more}, schedule="linear", output=folder / name))

    def of_searched(name: str, completions: str, **more: object) -> Cell:
        few = {"problems": 95, "levels": (2, 3, 4), "steps": max(1, steps // 4)}
        return shorten(name, **few, completions=folder / completions, **more)

    short = {"hybrid": True, "steps": max(1, steps // 6)}

    def warm(name: str, **more: object) -> Cell:
        # After 20 steps of shortening on both modes; the references are that model's.
        start = folder / "warm-0"
        given = {"model": str(start), "dataset": "demo", "grader": "demo", "budget": SAMPLING.budget}
        kept = {"references": folder / "references-warm", "steps": steps // 2}
        cell = adapt(name, **given, learning_rate=1e-3, **kept, **more)
        return replace(cell, start=shorten("warm-0", **short).inputs)

    return [
        Cell("unchanged", None),
        adapt("adaptthink-0"),
        length("gated-0", alpha=0.5),
        adapt("own-length-0", reference="own", length_alpha=0.5),
        length("plain-0", alpha=0.0),
        *(length(f"gated-half-{seed}", seed, alpha=0.5, steps=steps // 2) for seed in range(3)),
        adapt("adaptthink-1", seed=1),
        adapt("adaptthink-2", seed=2),
        adapt("no-is-0", importance_sampling=False),
        adapt("full-0", form="full"),
        adapt("own-0", reference="own"),
        adapt("delta-0", delta=0.0),
        adapt("delta-0.2", delta=0.2),
        length("ungated-0", alpha=0.5, reward="linear"),
        shorten("shorten-0"),
        shorten("hybrid-0", hybrid=True),
        shorten("mixing-0", completions=folder / "completions-mixing", mixing="progressive"),
        of_searched("effects-0", "completions-effects", from_search=searched),
        of_searched("drawn-0", "completions-drawn"),
        shorten("warm-0", **short),
        warm("warm-full-0", form="full"),
        warm("warm-no-is-0", importance_sampling=False),
        adapt("own-length-1", seed=1, reference="own", length_alpha=0.5),
        adapt("own-length-2", seed=2, reference="own", length_alpha=0.5),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps and problems: shows that it runs")
    parser.add_argument("--only", help="names of cells, with commas")
    parser.add_argument("--directory", type=Path, default=Path("runs/training"), help="the training runs")
    parser.add_argument("--searched", type=Path, default=Path("runs/training/searched"), help="a search's run")
    parser.add_argument("--at", type=int, help="evaluate the checkpoints of this step, and train nothing")
    parser.add_argument("--curves", action="store_true", help="print the curves of the runs that are there")
    parser.add_argument("--router-tokens", type=float, default=28.5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps, problems, tested = (4, 48, 40) if options.quick else (120, 480, 500)
    folder = options.directory / "quick" if options.quick else options.directory
    results = folder / "training.jsonl" if options.quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    if options.curves:
        print_curves(folder, [cell.name for cell in cells(folder, steps, problems, options.searched)])
        return
    done = read_results(results)
    named = None if options.only is None else set(options.only.split(","))
    for cell in cells(folder, steps, problems, options.searched):
        at = None if cell.inputs is None else options.at
        name = cell.name if at is None else f"{cell.name}@{at}"
        if name in done or (named is not None and cell.name not in named):
            continue
        if at is not None and not (cell.inputs.directory() / "checkpoints" / f"checkpoint-{at}").exists():
            continue
        if options.quick and named is None and cell.name not in QUICK:
            continue
        done[name] = measure(cell, name, at, tested, options.router_tokens)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[name]) + "\n")
    print_table(done)
    draw_choices(folder, list(done))


def read_results(path: Path) -> dict[str, dict]:
    """The cells that are done, by name."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["name"]: row for row in rows}


def portable(settings: dict[str, object]) -> dict[str, object]:
    """The settings of a cell, whose start and search are named without the folder that they lie in."""
    model, own = settings.get("model"), settings.get("shorten")
    kept = settings | {"model": Path(model).name if isinstance(model, str) else model}
    if isinstance(own, dict) and "from_search" in own:
        kept["shorten"] = own | {"from_search": Path(str(own["from_search"])).name}
    return kept


def measure(cell: Cell, name: str, at: int | None, tested: int, router_tokens: float) -> dict:
    """Train (or find trained), and evaluate at the last step, or at the checkpoint of a step."""
    started = time.process_time()
    for inputs in (cell.start, cell.inputs):
        if inputs is not None and at is None:
            run_training(inputs)
    spent = time.process_time() - started
    model = "demo" if cell.inputs is None else str(cell.inputs.directory())
    if at is not None:
        model = f"{model}/checkpoints/checkpoint-{at}"
    loaded = load_model(ModelOptions(model, dtype="float32"))
    policy = policy_of(loaded, PromptFormat())
    modes = find_modes(loaded.tokenizer, PromptFormat())
    asker = Asker(modes, SAMPLING, SAMPLING.budget, make_grader("demo"))
    test = demo_problems("test", tested, 0)
    calibrate = demo_problems("calibrate", min(FITTED, tested), 0)
    arms = {arm: draw(policy, asker, [(problem, [arm] * 4) for problem in test], 1) for arm in ARMS}
    fitted = {arm: draw(policy, asker, [(problem, [arm] * 4) for problem in calibrate], 2) for arm in ARMS[1:]}
    states = [policy.residuals([policy.encode(p) for p in part], LAYERS).numpy() for part in (calibrate, test)]
    row: dict = {
        "name": name,
        "problems": tested,
        "train_cpu_seconds": round(spent),
        "settings": {} if cell.inputs is None else portable(cell.inputs.settings()),
        "own": arm_numbers(arms["free"], test),
        "thinking": arm_numbers(arms["thinking"], test),
        "no_thinking": arm_numbers(arms["no thinking"], test),
        "nothink_by_level": shares(test, [[not sample.thinks for sample in group] for group in arms["free"]]),
    }
    row["best_mode_by_level"] = best_by_level(arms, fitted, test, calibrate)
    row.update(routed(arms, fitted, states, test, calibrate, router_tokens))
    print(json.dumps({key: row[key] for key in ("name", "own", "router", "nothink_by_level")}), flush=True)
    return row


def numbers(success: np.ndarray, tokens: np.ndarray) -> dict:
    """Success and tokens with 95% intervals, and each problem's success for pairing."""
    return {
        "success": round(float(success.mean()), 4),
        "success_interval": [round(end, 4) for end in bootstrap_mean_interval(success, 0.95, 0)],
        "tokens": round(float(tokens.mean()), 2),
        "tokens_interval": [round(end, 2) for end in bootstrap_mean_interval(tokens, 0.95, 0)],
        "by_problem": [round(float(one), 3) for one in success],
    }


def per_problem(groups: Sequence[Sequence[Sample]]) -> tuple[np.ndarray, np.ndarray]:
    """Each problem's success and tokens [problems]."""
    success = np.array([[sample.success for sample in group] for group in groups], dtype=float).mean(1)
    tokens = np.array([[sample.tokens for sample in group] for group in groups], dtype=float).mean(1)
    return success, tokens


def arm_numbers(groups: Sequence[Sequence[Sample]], problems: Sequence[Problem]) -> dict:
    """An arm's numbers, with its success by level."""
    success, tokens = per_problem(groups)
    return {**numbers(success, tokens), "success_by_level": shares(problems, success[:, None].tolist())}


def shares(problems: Sequence[Problem], values: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each level, from 1 to 5."""
    levels = np.array([problem.metadata["level"] for problem in problems])
    means = np.array([np.mean(value) for value in values])
    return [round(float(means[levels == level].mean()), 3) for level in range(1, 6)]


def best_by_level(
    arms: Mapping, fitted: Mapping, test: Sequence[Problem], calibrate: Sequence[Problem]
) -> dict:
    """The mode that solves more at each level of the calibrate split, fixed; judged on the test problems."""
    chosen = [
        no_thinking >= thinking
        for thinking, no_thinking in zip(
            *(shares(calibrate, per_problem(fitted[arm])[0][:, None].tolist()) for arm in ARMS[1:]), strict=True
        )
    ]
    skip = np.array([chosen[int(problem.metadata["level"]) - 1] for problem in test])
    (think, long), (direct, short) = (per_problem(arms[arm]) for arm in ARMS[1:])
    return {**numbers(np.where(skip, direct, think), np.where(skip, short, long)), "no_thinking": chosen}


def routed(
    arms: Mapping,
    fitted: Mapping,
    states: Sequence[np.ndarray],
    test: Sequence[Problem],
    calibrate: Sequence[Problem],
    router_tokens: float,
) -> dict:
    """The router refitted to these weights, at its fitted price and at that of `router_tokens`."""
    names = {"none": "no thinking", "hard": "thinking"}
    outcomes = {name: sums(fitted[arm]) for name, arm in names.items()}
    groups = np.unique([problem.query for problem in calibrate], return_inverse=True)[1].astype(np.int64)
    budgets = {"none": ThinkingBudget(thinking=0), "hard": ThinkingBudget()}
    probe = fit_probe(Measurements(states[0], LAYERS, groups, outcomes), budgets, SAMPLING.budget)
    at = LAYERS.index(probe.layer)
    tokens_fitted = np.stack([per_problem(fitted[arm])[1] for arm in names.values()], 1)
    price = min(
        PRICES,
        key=lambda price: abs(
            tokens_fitted[np.arange(len(calibrate)), choices(probe, states[0][:, at], price)].mean()
            - router_tokens
        ),
    )
    success, tokens = (
        np.stack(each, 1) for each in zip(*(per_problem(arms[arm]) for arm in names.values()), strict=True)
    )
    rows = np.arange(len(test))
    found = {}
    for key, used in (("router", probe.price), ("router_at", price)):
        taken = choices(probe, states[1][:, at], used)
        found[key] = {
            "price": used,
            **numbers(success[rows, taken], tokens[rows, taken]),
            "no_thinking_by_level": shares(test, (taken == 0)[:, None].tolist()),
        }
    return found


def choices(probe, states: np.ndarray, price: float) -> np.ndarray:
    """The class that the probe takes at each problem [problems]."""
    taken = []
    for state in torch.from_numpy(states):
        success, tokens = probe.predict(state, SAMPLING.budget)
        taken.append(int(np.argmax([gain - price * cost for gain, cost in zip(success, tokens, strict=True)])))
    return np.array(taken)


def sums(groups: Sequence[Sequence[Sample]]) -> Outcomes:
    """An arm's outcomes as the router's fit takes them."""
    of = [
        [sum(getattr(sample, name) for sample in group) for group in groups]
        for name in ("success", "tokens", "cut")
    ]
    return Outcomes.of(len(groups[0]), *of)


def print_table(done: Mapping[str, dict]) -> None:
    """Every cell with its router's lines, and what each solves less than AdaptThink's own choice, paired."""
    lines = [
        (f"{name}{suffix}", row[key])
        for name, row in done.items()
        for suffix, key in (
            ("", "own"),
            (" thinking", "thinking"),
            (" best mode by level", "best_mode_by_level"),
            (" +router", "router"),
            (" +router@", "router_at"),
        )
    ]
    adaptive = next((done[name] for name in ("adaptthink-0", "adaptthink-0@50") if name in done), {})
    base = adaptive.get("own")
    print(f"{'':34s}{'success':>9s} {'interval':>15s}{'tokens':>8s}   less AdaptThink's own choice")
    for label, numbers_of in lines:
        low, high = numbers_of["success_interval"]
        text = f"{label:34s}{numbers_of['success']:9.3f}  {low:.3f} to {high:.3f}{numbers_of['tokens']:8.1f}"
        if base is not None and len(base["by_problem"]) == len(numbers_of["by_problem"]):
            less = np.array(numbers_of["by_problem"]) - np.array(base["by_problem"])
            ends = bootstrap_mean_interval(less, 0.95, 0)
            text += f"   {less.mean():+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f})"
        print(text)
    for name, row in done.items():
        print(f"{name}: share of no thinking by level {row['nothink_by_level']}")


def print_curves(folder: Path, names: Sequence[str]) -> None:
    """Means over ten steps at the sampler of training: success, tokens, share of no thinking, that by level."""
    print(f"{'':14s}{'steps':>9s}{'success':>9s}{'tokens':>8s}{'no thinking':>13s}   by level 1 to 5")
    for name in names:
        points = run_points(folder / name)
        for start in range(0, len(points), 10):
            part = points[start : start + 10]
            means = [np.mean([point[key] for point in part]) for key in ("success", "tokens", "no_thinking")]
            levels = [
                [point["levels"][level]["no_thinking"] for point in part if level in point["levels"]]
                for level in "12345"
            ]
            steps = f"{start}-{start + len(part) - 1}"
            shares_text = " ".join(f"{np.mean(each):.2f}" if each else "-" for each in levels)
            print(f"{name:14s}{steps:>9s}{means[0]:9.3f}{means[1]:8.1f}{means[2]:13.4f}   {shares_text}")
    draw_choices(folder, names)


def run_points(run: Path) -> list[dict]:
    """The points of a run's curve of success; none where the run is not there, or is supervised."""
    file = run / "curves.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [point for point in map(json.loads, lines) if "success" in point]


def draw_choices(folder: Path, names: Sequence[str]) -> None:
    """Draw the runs' curves into the folder: success, tokens and share of no thinking over the steps."""
    from matplotlib.figure import Figure

    runs = {name: points for name in names if len(points := run_points(folder / name)) >= 5}
    if not runs:
        return
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, points in runs.items():
        for axis, key in zip(axes, ("success", "tokens", "no_thinking"), strict=True):
            values = np.convolve([point[key] for point in points], np.ones(5) / 5, "valid")
            axis.plot(range(2, 2 + len(values)), values, label=name, linewidth=1.3)
    for axis, title in zip(axes, ("Success", "Tokens", "Share of no thinking"), strict=True):
        axis.set(title=f"{title} (mean of 5 steps)", xlabel="step")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(folder / "training.png", dpi=110)


if __name__ == "__main__":
    main()
