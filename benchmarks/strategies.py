"""Every way to spend tokens, unsteered and steered, on success against all tokens: AutoThink's claim, tested.

    python benchmarks/strategies.py [--quick]

An evaluation (`pts eval`; see docs/evaluation.md) of `full`, `nothink`, a sweep of fixed budgets and `auto` on
problems of the demo's test split at all levels, as the model is and steered by the bundled set, with the router
that is stored with it (`pts fit-router`, fitted on another split). Beside them stand a random router of the
same rates and the set's own random directions, calibrated alike. The other options are for a model and data
of one's own.

The last line of the output is one line of JSON. `frontier_gain` is the smaller of two gains in success over the
frontier of fixed budgets at equal tokens, `auto` unsteered over the unsteered frontier and `auto` steered over
the steered one; `frontier_gain_low` is the smaller lower end of their intervals. `tokens_vs_full` and
`success_vs_full_low` compare both with the model as it is, thinking as long as it likes: the larger ratio of
tokens, and the smaller lower end of the differences in success. `lines` has each line's success and tokens.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console

from pts.cli.progress import evaluation_progress
from pts.evaluation.summary import EvaluationSummary
from pts.report.evaluation_tables import EVALUATION_COLUMNS, evaluation_report
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import run_evaluation

ROUTED = "auto"
SWEEP = (0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.75)
"""Fixed budgets of thinking, as shares of the total; the demo model thinks for a quarter of it, mostly."""


def key_figures(summary: EvaluationSummary) -> dict[str, object]:
    """The figures that the last line names. Raises ValueError where `auto` or its frontier is missing."""
    routed = [line for line in summary.lines if line.asked and line.strategy == ROUTED]
    names = {line.name for line in routed}
    gains = [entry for entry in summary.comparisons if entry.kind == "budget" and entry.line in names]
    full = [entry for entry in summary.comparisons if entry.against == "full" and entry.line in names]
    ratios = [line.tokens_ratio for line in routed if line.tokens_ratio is not None]
    if not len(gains) == len(full) == len(ratios) == len(routed) or not routed:
        raise ValueError(f"{ROUTED} has no frontier of fixed budgets, or nothing to compare it with")
    return {
        "frontier_gain": round(min(entry.difference for entry in gains), 4),
        "frontier_gain_low": round(min(entry.low for entry in gains), 4),
        "tokens_vs_full": round(max(ratios), 4),
        "success_vs_full_low": round(min(entry.low for entry in full), 4),
        "gains": {entry.line: [round(entry.difference, 4), round(entry.low, 4)] for entry in gains},
        "lines": {line.name: [round(line.success, 4), round(line.tokens, 2)] for line in summary.lines},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--vectors", help="vector set; none for the model as it is  [default: demo for demo]")
    parser.add_argument("--same-shape", action="store_true", help="accept another model's vectors")
    parser.add_argument("--router", help="as pts eval takes it  [default: the vectors' own]")
    parser.add_argument("--sweep", type=float, nargs="+", default=SWEEP, help="shares of the total")
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=int)
    parser.add_argument("--system-prompt")
    parser.add_argument("--suffix")
    parser.add_argument("--think-start")
    parser.add_argument("--think-end")
    parser.add_argument("--output", type=Path, help="run directory to keep, and to go on with")
    parser.add_argument("--quick", action="store_true", help="under a minute: 100 problems, 1 seed")
    args = vars(parser.parse_args())
    args["sweep"] = tuple(args["sweep"])
    if args.pop("quick"):
        args |= {"problems": min(args["problems"], 100), "seeds": 1}
    if args["model"] == "demo" and args["vectors"] is None:
        args["vectors"] = "demo"
    with tempfile.TemporaryDirectory() as scratch, evaluation_progress(quiet=False) as observe:
        output = args.pop("output") or Path(scratch) / "run"
        summary = run_evaluation(EvaluateInputs(strategies=(ROUTED,), output=output, **args), observe)
    Console(width=EVALUATION_COLUMNS).print(evaluation_report(summary))
    setting = {key: args[key] for key in ("model", "dataset", "problems", "seeds")}
    setting = {key: Path(value).name if isinstance(value, str) else value for key, value in setting.items()}
    print(json.dumps({**key_figures(summary), **setting}))


if __name__ == "__main__":
    main()
