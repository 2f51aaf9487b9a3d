"""A report as one HTML file: its data packed, its style and script in it, and nothing to fetch."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pts.runs.codec import to_json
from pts.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

GENERATOR = "pts report"
"""What a report says made it, by which one is known."""
_SCRIPTS = ("text.js", "chart.js", "table.js")
"""Scripts that every kind of report has, before its own, in this order."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a kind of report adds to the common page.

    `title` and `head` are its heading and the sentences below, `facts` the rows of a table (a name and its
    values), `warnings` what a reader must know first. `template` is the body, filled with `values`; the
    `scripts` draw in it what `data` holds, a dataclass.
    """

    title: str
    head: Sequence[str]
    facts: Sequence[tuple[str, Sequence[str]]]
    warnings: Sequence[str]
    template: str
    scripts: Sequence[str]
    data: object
    values: Mapping[str, object] = field(default_factory=dict)


def render(page: Page) -> str:
    """The file's text."""
    scripts = [_asset(name) for name in (*_SCRIPTS, *page.scripts)]
    text = (
        _environment()
        .get_template(page.template)
        .render(
            title=page.title,
            head=page.head,
            facts=page.facts,
            warnings=page.warnings,
            style=_asset("report.css"),
            script="\n".join(scripts),
            data=pack(page.data),
            generator=f"{GENERATOR} {__version__}",
            **page.values,
        )
    )
    # The name of a data file, like a token, may have letters that are no UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def pack(data: object) -> str:
    """A dataclass as JSON, compressed, in letters that end no element of a page."""
    text = json.dumps(to_json(data), ensure_ascii=False, separators=(",", ":"))
    # A lone half of a surrogate pair, which a byte-level tokenizer may give, is no UTF-8.
    raw = text.encode("utf-8", "replace")
    # The same data give the same file: no time in the header.
    return base64.b64encode(gzip.compress(raw, compresslevel=9, mtime=0)).decode("ascii")


def unpack(packed: str) -> Any:
    """What `pack` packed, as JSON values."""
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def _asset(name: str) -> str:
    """A script or the style sheet of the package, which goes into an element of its own as it is."""
    return (files("pts.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("pts.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
