"""`pts search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.interrupts import Stopped
from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, NumberList, options_of
from pts.cli.output import print_json, print_run
from pts.cli.progress import search_progress
from pts.stages.search_inputs import SearchRun

_OPTIONS: dict[str, list[tuple[tuple[str, ...], str, dict[str, Any]]]] = {
    "Model": [
        (("model", "--model"), "Hub id, local directory, .gguf file, or demo.", {}),
        (("revision", "--revision"), "Revision of a model from the hub.", {}),
        (("adapter", "--adapter"), "PEFT adapter: directory or hub id.", {}),
        (("device", "--device"), "auto, cpu, cuda, cuda:1, mps.", {}),
        (
            ("dtype", "--dtype"),
            "What the model computes in.",
            {"type": click.Choice(["auto", "float32", "bfloat16", "float16"])},
        ),
        (("batch_rows", "--batch-rows"), "Most rows in a batch.  [default: by memory]", {"type": int}),
        (
            ("trust_remote_code", "--trust-remote-code"),
            "Run code from the model's repository.",
            {"is_flag": True},
        ),
    ],
    "Problems": [
        (("dataset", "--dataset"), "Hub id, JSONL, CSV or Parquet file, or demo.", {}),
        (("config", "--config"), "Configuration of a data set from the hub.", {}),
        (("split", "--split"), "Split of the data set.  [default: train]", {}),
        (("dataset_revision", "--dataset-revision"), "Revision of a data set from the hub.", {}),
        (("question_field", "--question-field"), "Field with the question.  [default: detected]", {}),
        (("answer_field", "--answer-field"), "Field with the answer.  [default: detected]", {}),
        (("id_field", "--id-field"), "Field with the id.  [default: detected]", {}),
        (("choices_field", "--choices-field"), "Field with the choices.  [default: detected]", {}),
        (("problems", "--problems"), "Most problems to search.  [default: all]", {"type": int}),
        (("levels", "--levels"), "Levels of the demo problems.  [default: all]", {"type": NumberList()}),
        (
            ("grader", "--grader"),
            "math, choice, exact, numeric, mixed, demo, regex.  [default: by the data]",
            {},
        ),
        (("grader_pattern", "--grader-pattern"), "Pattern of the regex grader.", {}),
    ],
    "Prompt": [
        (("system_prompt", "--system-prompt"), "System prompt.", {}),
        (
            ("chat_template", "--chat-template/--no-chat-template"),
            "Use the model's chat template, or plain text.",
            {},
        ),
        (("suffix", "--suffix"), "Instruction on a line after the question.", {}),
        (("thinking", "--thinking/--no-thinking"), "Ask the template for thinking, or none.", {}),
        (("think_start", "--think-start"), "Tag that opens thinking.  [default: detected]", {}),
        (("think_end", "--think-end"), "Tag that closes thinking.  [default: detected]", {}),
    ],
    "Sampler": [
        (("temperature", "--temperature"), "Temperature; 0 is greedy.", {}),
        (("top_p", "--top-p"), "Nucleus; 1 switches it off.", {}),
        (("top_k", "--top-k"), "Most likely tokens kept; 0 switches it off.", {}),
        (("min_p", "--min-p"), "Least probability relative to the likeliest; 0 switches it off.", {}),
        (("budget", "--budget"), "New tokens of a completion.  [default: 512; 96 for demo]", {"type": int}),
    ],
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
        (("fresh", "--fresh"), "Delete the run in that directory and start anew.", {"is_flag": True}),
    ],
}


@click.command("search", cls=GroupedCommand)
@options_of(SearchRun, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print the summary and the findings as one JSON object.")
@click.option("--quiet", is_flag=True, help="No progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
def search_command(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Find the pivotal tokens of a model on a set of problems.

    The same command again continues a run that was cut, and leaves a complete one as it is.
    """
    log_to_stderr(verbose, quiet)
    run = SearchRun(**inputs)
    search(run, quiet=quiet or as_json)
    if as_json:
        print_json(run.directory())
    else:
        print_run(run.directory())


def search(run: SearchRun, quiet: bool) -> None:
    """Do the search with progress on stderr; an interrupt says how to go on."""
    from pts.stages.search import resume_note, run_search

    try:
        with search_progress(run, quiet) as observe:
            run_search(run, observe)
    except Stopped as stopped:
        stopped.note = resume_note(run)
        raise
