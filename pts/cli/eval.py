"""`pts eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, NumberList, TextList, options_of
from pts.cli.patterns import strengths
from pts.cli.shared_options import (
    ENDPOINT,
    LIMITS,
    MODEL,
    PARTS,
    PROBLEMS,
    PROMPT,
    RAY,
    ROUTER,
    SAMPLER,
    STEERING,
    Options,
    without,
)
from pts.cli.stage_run import run_command_stage
from pts.stages.evaluate.inputs import EvaluateInputs

_DATA: Options = [
    (("dataset", "--dataset"), "Problems: a name from the list above, a Hub id, or a file.", {}),
    (("data", "--data"), "File to read in place of the named data set, with the same fields.", {}),
    (
        ("problems", "--problems"),
        "Maximum number of problems to answer.  [default: all; 200 of demo]",
        {"type": int},
    ),
    (
        ("split", "--split"),
        "Split of the data set.  [default: the named set's own, else the only one; test for demo]",
        {},
    ),
    *without(PROBLEMS, "dataset", "problems", "split"),
]
_SUFFIX: Options = [
    (("suffix", "--suffix"), "Instruction to add on a line after the question.  [default: the named set's]", {})
]
_BUDGET: Options = [
    (
        ("budget", "--budget"),
        "Maximum number of new tokens in an answer.  [default: the named set's, else 2048; 96 for demo]",
        {"type": int},
    )
]
_OPTIONS: dict[str, Options] = {
    "Evaluation": [
        (
            ("strategies", "--strategies"),
            "Strategies to compare, such as full,budget:64.",
            {"type": TextList()},
        ),
        (("seeds", "--seeds"), "Number of answers to each problem.", {}),
        (("seed", "--seed"), "Seed of every random draw.", {}),
        (
            ("baselines", "--baselines/--no-baselines"),
            "Add baselines: full, nothink, fixed budgets, a random router, the vector set's random directions.",
            {},
        ),
        (
            ("sweep", "--sweep"),
            "Fixed thinking budgets to add as baselines, as shares of the total.",
            {"type": NumberList(float)},
        ),
    ],
    "Another model": [
        (
            ("against", "--against"),
            "Finished evaluation of another model on the same problems, to compare with.",
            {"type": click.Path(path_type=Path)},
        ),
    ],
    "Thresholds of early-exit and escalate that you do not give": [
        (
            ("fit_problems", "--fit-problems"),
            "Fit them on this many problems that are not evaluated.  [default: use fixed thresholds]",
            {"type": int},
        ),
        (
            ("fit_split", "--fit-split"),
            "Split of the problems to fit on.  [default: the evaluated one; calibrate for demo]",
            {},
        ),
    ],
    "Steering: every strategy runs unsteered and steered": STEERING,
    "Limits for every strategy that does not set its own": LIMITS,
    "Router of the strategy auto": ROUTER,
    "Other strategies": PARTS,
    "Problems": _DATA,
    "Model": [*MODEL, *ENDPOINT],
    "Prompt": [*without(PROMPT, "suffix"), *_SUFFIX],
    "Sampler": [*without(SAMPLER, "budget"), *_BUDGET],
    "Run": [
        *RAY,
        (
            ("output", "--output"),
            "Run directory.  [default: evals/<model>-<dataset>]",
            {"type": click.Path(path_type=Path)},
        ),
        (("fresh", "--fresh"), "Delete the run in the output directory and start again.", {"is_flag": True}),
    ],
}


@click.command("eval", cls=GroupedCommand)
@options_of(EvaluateInputs, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Show more log messages; -vv shows all.")
def eval_command(as_json: bool, quiet: bool, verbose: int, pattern: tuple[str, ...], **inputs: Any) -> None:
    """Compare strategies on a data set: success against all tokens spent.

    Data sets by name: demo, gsm8k, math500, aime24, gpqa-diamond, mmlu, mmlu-pro, svamp. Every strategy answers
    the same problems with the same seeds, unsteered and steered. Baselines and tests are added: fixed budgets,
    random routers, random directions, intervals, corrected p-values. To continue a run that was stopped, give
    the same command again. More problems, seeds or strategies extend it.
    """
    log_to_stderr(verbose, quiet)
    run_command_stage("eval", {"pattern": strengths(pattern), **inputs}, quiet, as_json)
