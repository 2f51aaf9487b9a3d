"""Options in groups, each with its default from the dataclass that it fills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


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
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class NumberList(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas, as a tuple."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers. Fails, in one line, for anything else."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 3,4", param, ctx)


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
                help=text,
                default=defaults[name],
                show_default=more.pop("show_default", not isinstance(defaults[name], bool | None)),
                **more,
            )
            function = add(function)
        return function

    return decorate
