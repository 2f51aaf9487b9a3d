"""Options in groups, each with its default from the dataclass that it fills."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_ESCAPED = {"n": "\n", "t": "\t", "\\": "\\"}


class GroupedOption(click.Option):
    """An option that knows under which heading its help stands."""

    def __init__(self, *args: Any, group: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options under their groups' headings, in the order declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one section a group."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue  # the usage line names it
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class NumberList(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas, as a tuple; whole ones unless another kind is given."""

    name = "N,N,..."

    def __init__(self, kind: type[int] | type[float] = int) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers. Fails, in one line, for anything else."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            example = "whole numbers such as 3,4" if self._kind is int else "numbers such as 0.2,0.4"
            self.fail(f"{value!r} is not a list of {example}", param, ctx)


class TextList(click.ParamType[tuple[str, ...]]):
    """Words separated by commas, as a tuple."""

    name = "NAME,NAME,..."

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - the signature is click's
        ctx: click.Context | None,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """The words, empty ones left out."""
        if isinstance(value, tuple):
            return value
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


class StopText(click.ParamType[str]):
    """A text in which a backslash with n, t or a backslash is a line break, a tab or a backslash."""

    name = "TEXT"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - the signature is click's
        ctx: click.Context | None,  # noqa: ARG002
    ) -> str:
        """The text as it is meant; other backslashes stay."""
        return re.sub(r"\\([nt\\])", lambda found: _ESCAPED[found[1]], str(value))


def options_of(
    kind: type, groups: dict[str, list[tuple[tuple[str, ...], str, dict[str, Any]]]]
) -> Callable[[F], F]:
    """A decorator that adds every option of `groups`: heading → (declarations, help, more arguments).

    An option's default is that of the field of `kind` with its name, and the help shows it.
    """
    defaults = {entry.name: entry.default for entry in fields(kind)}

    def decorate(function: F) -> F:
        listed = [(group, *option) for group, options in groups.items() for option in options]
        for group, declarations, text, more in reversed(listed):
            name = declarations[0]
            add = click.option(
                *declarations,
                cls=GroupedOption,
                group=group,
                help=f"{text}{_listed_default(defaults[name], ' ' if 'nargs' in more else ',')}",
                default=defaults[name],
                **{"show_default": not isinstance(defaults[name], bool | tuple | None), **more},
            )
            function = add(function)
        return function

    return decorate


def _listed_default(default: Any, between: str) -> str:
    """How a list of defaults stands in the help: as it would be typed, where click would write a tuple."""
    if not isinstance(default, tuple) or not default or isinstance(default[0], bool):
        return ""
    return f"  [default: {between.join(f'{one:g}' if isinstance(one, float) else str(one) for one in default)}]"
