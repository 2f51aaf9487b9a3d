"""`pts decode`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pts.cli.interrupts import Stopped
from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, options_of
from pts.cli.progress import answer_progress
from pts.cli.shared_options import (
    ENDPOINT,
    LIMITS,
    MODEL,
    PARTS,
    PROMPT,
    ROUTER,
    SAMPLER,
    STEERING,
    Options,
    without,
)
from pts.data_files import text_fault
from pts.errors import ConfigError
from pts.stages.decode.inputs import DecodeInputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pts.decoding.answers import Answer
    from pts.decoding.session import Listener
    from pts.decoding.steered_decoder import SteeredDecoder, Strengths

SOME_BAD = 1
"""Exit code where some lines of the input could not be answered."""

_OPTIONS: dict[str, Options] = {
    "Model": [
        (
            ("model", "--model"),
            "Model: Hub id, directory, .gguf file, or demo.  [default: the vectors' own]",
            {},
        ),
        *without(MODEL, "model"),
        *ENDPOINT,
    ],
    "Steering": STEERING,
    "Budget": [
        (("strategy", "--strategy"), "Strategy: how tokens are spent (see --list-strategies).", {}),
        (
            ("budget", "--budget"),
            "Maximum number of new tokens in all.  [default: 512; 96 for demo]",
            {"type": int},
        ),
        *LIMITS,
    ],
    "Router of the strategy auto": ROUTER,
    "Other strategies": PARTS,
    "Prompt": PROMPT,
    "Sampler": [
        *without(SAMPLER, "budget"),
        (("seed", "--seed"), "Seed of every random draw.", {}),
    ],
}


def _list_strategies(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from pts.decoding.registry import find_strategy, strategy_names

    for name in strategy_names():
        entry = find_strategy(name)
        shown = name if entry.argument is None else f"{name}:{entry.argument}"
        click.echo(f"{shown:<12} {entry.summary} ({entry.source})")
    context.exit()


@click.command("decode", cls=GroupedCommand)
@click.argument("prompt", required=False)
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="File of questions, or of messages: JSONL, CSV or Parquet.",
)
@click.option("--output", "target", type=click.Path(path_type=Path), help="File of answers to write: JSONL.")
@click.option("--compare", is_flag=True, help="Show the unsteered and the steered answer side by side.")
@options_of(DecodeInputs, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print answers, with what they cost, as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings.")
@click.option(
    "--list-strategies", is_flag=True, is_eager=True, expose_value=False, callback=_list_strategies,
    help="List the strategies and exit.",
)  # fmt: skip
def decode_command(
    prompt: str | None,
    source: Path | None,
    target: Path | None,
    compare: bool,
    pattern: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **inputs: Any,
) -> int:
    """Answer PROMPT, or a file of questions, by a strategy, under limits, and steered if you give vectors."""
    from pts.cli.patterns import strengths
    from pts.stages.decode.decoder import open_decoder

    log_to_stderr(0, quiet)
    _check(prompt, source, target, compare)
    run = DecodeInputs(pattern=strengths(pattern), **_with_vectors(inputs, compare))
    if source is not None and target is not None:
        return _answer_file(run, source, target, quiet)
    assert prompt is not None
    decoder = open_decoder(run)
    if as_json:
        shown = [answer.to_json() for answer in _asker(decoder, run.seed, prompt, compare)(None)]
        compared = [{"steered": at == 1, **answer} for at, answer in enumerate(shown)]
        click.echo(json.dumps(compared if compare else shown[0], ensure_ascii=False))
    else:
        _show(decoder, run.seed, prompt, compare, quiet, run.runs_on)
    return 0


def _check(prompt: str | None, source: Path | None, target: Path | None, compare: bool) -> None:
    if (prompt is None) == (source is None):
        raise ConfigError("give either a prompt, or a file of questions with --input.")
    fault = None if prompt is None else text_fault(prompt)
    if fault is not None:
        raise ConfigError(f"the prompt {fault}; give it as whole UTF-8 text.")
    if (source is None) != (target is None):
        raise ConfigError(
            "--input and --output are needed together: the file of questions, and the file for the answers."
        )
    if compare and source is not None:
        raise ConfigError("--compare is for one prompt; to compare on a file of problems, use pts eval.")
    if target is not None and target.exists():
        raise ConfigError(f"{target} already exists: give another --output, or remove it.")


def _with_vectors(inputs: dict[str, Any], compare: bool) -> dict[str, Any]:
    """The demo's vectors for a comparison on the demo model that names none."""
    if compare and inputs["vectors"] is None:
        if inputs["model"] not in (None, "demo"):
            raise ConfigError("--compare needs a vector set: give --vectors.")
        return {**inputs, "vectors": "demo"}
    return inputs


def _asker(
    decoder: SteeredDecoder, seed: int, prompt: str, compare: bool
) -> Callable[[Listener | None], list[Answer]]:
    """What gives the answer, or the unsteered and the steered one by the same draws, to a listener too."""
    patterns: list[Strengths | None] | None = [{}, None] if compare else None
    count = 2 if compare else 1

    def ask(listen: Listener | None) -> list[Answer]:
        stream = decoder.stream(
            [prompt] * count, seed=seed, patterns=patterns, listen=listen, places=[0] * count
        )
        return [answer for _, answer in sorted(stream, key=lambda entry: entry[0])]

    return ask


def _show(decoder: SteeredDecoder, seed: int, prompt: str, compare: bool, quiet: bool, runs_on: bool) -> None:
    """Show what is answered, as it is written where that is possible, and then what it took."""
    from pts.cli.streaming import ledger_line, side_by_side, streamed

    ask = _asker(decoder, seed, prompt, compare)
    titles = ("unsteered", "steered") if compare else (decoder.strategy.name,)
    if not decoder.streams or (compare and not sys.stdout.isatty()):
        answers = ask(None)
        for title, answer in zip(titles, answers, strict=True):
            click.echo(f"{title}: {answer.text}" if compare else answer.text)
    else:
        show = side_by_side(decoder.text, titles) if compare else streamed(decoder.text, decoder.stop)
        with show as listen:
            answers = ask(listen)
    if quiet:
        return
    for title, answer in zip(titles, answers, strict=True):
        click.echo(f"pts: {f'{title}, ' if compare else ''}{ledger_line(answer)}", err=True)
    _tell_of_cut(all(answer.usage.ended for answer in answers), runs_on)


def _tell_of_cut(whole: bool, runs_on: bool) -> None:
    """Say it where an answer is not whole."""
    if not whole:
        click.echo(
            "pts: an answer was cut by its limit, and is not whole: raise --budget (a model that thinks needs "
            "room for the whole thought), or --answer-budget where you gave one."
            + (" Without a chat template, --stop ends it where the next question begins." if runs_on else ""),
            err=True,
        )


def _answer_file(run: DecodeInputs, source: Path, target: Path, quiet: bool) -> int:
    """Answer a file; its bad lines are named on stderr."""
    from pts.stages.decode.answer_file import (
        answer_file,
        read_questions,
        recorded_answers,
        with_recorded_layers,
    )
    from pts.stages.decode.decoder import open_decoder

    good, unread = read_questions(source)
    run = with_recorded_layers(run, target)
    try:
        with answer_progress(quiet, len(good)) as observe:
            bad = answer_file(run, open_decoder(run, recorded_answers(target)), source, target, observe)
    except Stopped as stopped:
        stopped.note = "the same command goes on with the answers that are left."
        raise
    for line in bad:
        click.echo(f"pts: {source} {line.place} was left out: {line.reason}", err=True)
    if not quiet:
        answered = len(good) + len(unread) - len(bad)
        click.echo(f"pts: {answered} answers in {target}.", err=True)
    return SOME_BAD if bad else 0
