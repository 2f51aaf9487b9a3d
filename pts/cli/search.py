"""`pts search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, options_of
from pts.cli.shared_options import ENDPOINT, MODEL, PARALLEL, PROBLEMS, PROMPT, RAY, SAMPLER, Options
from pts.cli.stage_run import run_command_stage
from pts.stages.search.inputs import SearchInputs

_OPTIONS: dict[str, Options] = {
    "Model": [*MODEL, *PARALLEL, *ENDPOINT],
    "Problems": PROBLEMS,
    "Prompt": PROMPT,
    "Sampler": SAMPLER,
    "Search": [
        (
            ("threshold", "--threshold"),
            "Minimum effect |Δ| of a pivotal token: its change in the probability of success.",
            {},
        ),
        (("fdr", "--fdr"), "False discovery rate: maximum expected share of false findings.", {}),
        (
            ("range", "--range"),
            "Search only problems that the model solves with a probability in this range.",
            {"nargs": 2, "type": float, "metavar": "LOW HIGH"},
        ),
        (("traces", "--traces"), "Number of completions to search per problem.", {}),
        (
            ("traces_from", "--traces-from"),
            "Search these completions: JSONL with id, and completion or completion_ids.",
            {"type": click.Path(path_type=Path)},
        ),
        (
            ("region", "--region"),
            "Part of each completion to search, as fractions of its length.",
            {"nargs": 2, "type": float, "metavar": "FIRST LAST"},
        ),
        (
            ("unit", "--unit"),
            "Unit to search: tokens, sentences, or both from the same rollouts.",
            {"type": click.Choice(["token", "sentence", "both"])},
        ),
        (
            ("different", "--different"),
            "What tells a different sentence: the words it shares, or the model's own embedding.",
            {"type": click.Choice(["words", "embedding"])},
        ),
        (
            ("max_tokens", "--max-tokens"),
            "Maximum number of tokens that the whole run may generate.  [default: no limit]",
            {"type": int},
        ),
        (
            ("audit", "--audit"),
            "Share of tokens to spend on a random sample of what the screen dropped: estimates the recall.",
            {},
        ),
        (("seed", "--seed"), "Seed of every random draw.", {}),
    ],
    "Run": [
        (
            ("shard", "--shard"),
            "Search the I-th of K equal shares of the problems; pts merge puts the K runs together.",
            {"metavar": "I/K"},
        ),
        *RAY,
        (
            ("output", "--output"),
            "Run directory.  [default: runs/<model>-<dataset>]",
            {"type": click.Path(path_type=Path)},
        ),
        (("fresh", "--fresh"), "Delete the run in the output directory and start again.", {"is_flag": True}),
        (
            ("verify", "--verify/--no-verify"),
            "Check the model and the sampler first (seconds); see pts verify.",
            {},
        ),
    ],
}


@click.command("search", cls=GroupedCommand)
@options_of(SearchInputs, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print the summary and the findings as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Show more log messages; -vv shows all.")
def search_command(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Find the pivotal tokens, or sentences, of a model on a set of problems.

    To continue a run that was stopped, give the same command again. A larger --problems extends a run.
    """
    log_to_stderr(verbose, quiet)
    run_command_stage("search", inputs, quiet, as_json)
