"""What rich draws, as plain text and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.console import Console, RenderableType
from rich.table import Table

COLUMNS = 120
_PRE = "<pre style='white-space:pre;overflow-x:auto;line-height:1.3;font-family:monospace'>{code}</pre>"


def plain_table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table without lines: columns of text on the left, columns of numbers on the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def as_text(shown: RenderableType, columns: int = COLUMNS) -> str:
    """Plain text of at most so many columns, without colour."""
    console = Console(file=StringIO(), width=columns, color_system=None, force_jupyter=False)
    console.print(shown)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip("\n")


def as_html(shown: RenderableType, columns: int = COLUMNS) -> str:
    """HTML of the same, in colour, that stands on its own."""
    console = Console(
        file=StringIO(), width=columns, record=True, color_system="truecolor", force_jupyter=False
    )
    console.print(shown)
    return console.export_html(inline_styles=True, code_format=_PRE)
