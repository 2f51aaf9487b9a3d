"""The group `pts`: its commands are imported when they are used, so that the help is quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from pts.setting_names import named_as, on_command_line
from pts.version import __version__

_COMMANDS = {
    "search": ("pts.cli.search", "search_command", "Find the pivotal tokens of a model on a set of problems."),
    "merge": ("pts.cli.merge", "merge_command", "Put the shards of a search together into one run."),
    "show": ("pts.cli.show", "show_command", "Show the pivotal tokens of a run in their context."),
    "report": ("pts.cli.report", "report_command", "Write a run as one HTML page to look at and to send."),
    "extract-vectors": (
        "pts.cli.extract_vectors",
        "extract_vectors_command",
        "Make steering vectors of a run's pivotal tokens and measure what they do.",
    ),
    "fit-router": (
        "pts.cli.fit_router",
        "fit_router_command",
        "Fit a router that decides how long to think about a question.",
    ),
    "train": ("pts.cli.train", "train_command", "Train a model when and how long to think."),
    "vectors": ("pts.cli.vectors", "vectors_command", "Look at vector sets."),
    "decode": ("pts.cli.decode", "decode_command", "Answer questions, steered and under a budget."),
    "eval": (
        "pts.cli.eval",
        "eval_command",
        "Compare strategies, steered and not, on success against all tokens spent.",
    ),
    "export": ("pts.cli.export", "export_command", "Write vectors or pairs in another program's format."),
    "verify": (
        "pts.cli.verify",
        "verify_command",
        "Check that a model draws, continues, ends and steers as a search counts on.",
    ),
    "run": ("pts.cli.run_recipe", "run_command", "Run the stages of a recipe."),
    "push-to-hub": (
        "pts.cli.push_to_hub",
        "push_to_hub_command",
        "Publish a vector set, a search run or a trained model on the Hugging Face Hub.",
    ),
}


def summaries() -> dict[str, str]:
    """What each command does, in a line, by its name."""
    return {name: what for name, (_, _, what) in _COMMANDS.items()}


class _LazyGroup(click.Group):
    """A group whose commands are known by name and a line of help until one is used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its messages name settings as options."""
        with named_as(on_command_line):
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """The names, in the order of a day's work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(summaries().items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pts")
def cli() -> None:
    """Find the few tokens that decide a language model's answer."""
