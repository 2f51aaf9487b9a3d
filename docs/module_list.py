"""Puts a list of all modules, each with its first line of documentation, in place of `<!-- modules -->`."""

from __future__ import annotations

import ast
from itertools import groupby
from pathlib import Path
from typing import Any

MARK = "<!-- modules -->"
PACKAGE = Path(__file__).resolve().parents[1] / "pts"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page's text, with the list in place of the mark."""
    return markdown.replace(MARK, module_list()) if MARK in markdown else markdown


def module_list() -> str:
    """A table for each folder of the package."""
    files = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    tables = []
    for folder, members in groupby(
        sorted(files, key=lambda path: (path.parent, path)), lambda path: path.parent
    ):
        rows = [f"| `{path.name}` | {first_line(path)} |" for path in members]
        name = folder.relative_to(PACKAGE.parent)
        tables.append(
            "\n".join([f"## `{name}/`", f"{first_line(folder / '__init__.py')}\n", "| | |", "|---|---|", *rows])
        )
    return "\n\n".join(tables)


def first_line(path: Path) -> str:
    """The first line of a module's docstring, safe in a table."""
    if not path.exists():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
