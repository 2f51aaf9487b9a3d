"""`pts search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, options_of
from pts.cli.shared_options import MODEL, PROBLEMS, PROMPT, SAMPLER, Options
from pts.cli.stage_run import run_command_stage
from pts.stages.search.inputs import SearchInputs

_OPTIONS: dict[str, Options] = {
    "Model": MODEL,
    "Problems": PROBLEMS,
    "Prompt": PROMPT,
    "Sampler": SAMPLER,
    "Search": [
        (("threshold", "--threshold"), "Least |Δ| of a pivotal token.", {}),
        (("fdr", "--fdr"), "Share of false findings to hold.", {}),
        (
            ("range", "--range"),
            "Values of a prompt that are worth searching.",
            {"nargs": 2, "type": float, "metavar": "LOW HIGH"},
        ),
        (("traces", "--traces"), "Completions searched per problem.", {}),
        (
            ("traces_from", "--traces-from"),
            "Search these completions: JSONL of id with completion or completion_ids.",
            {"type": click.Path(path_type=Path)},
        ),
        (
            ("region", "--region"),
            "Part of each trace to search, as fractions.",
            {"nargs": 2, "type": float, "metavar": "FIRST LAST"},
        ),
        (
            ("max_tokens", "--max-tokens"),
            "Generated tokens the whole run may spend.  [default: no limit]",
            {"type": int},
        ),
        (("seed", "--seed"), "Seed of every random draw.", {}),
    ],
    "Run": [
        (
            ("output", "--output"),
            "Run directory.  [default: runs/<model>-<dataset>]",
            {"type": click.Path(path_type=Path)},
        ),
        (("fresh", "--fresh"), "Delete the run in that directory and start again.", {"is_flag": True}),
    ],
}


@click.command("search", cls=GroupedCommand)
@options_of(SearchInputs, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print the summary and the findings as one JSON object.")
@click.option("--quiet", is_flag=True, help="No progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
def search_command(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Find the pivotal tokens of a model on a set of problems.

    The same command again continues a run that was cut, and leaves a complete one as it is.
    """
    log_to_stderr(verbose, quiet)
    run_command_stage("search", inputs, quiet, as_json)
