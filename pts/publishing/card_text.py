"""What the cards have in common: templates, the YAML header, and the mark of a card that nobody has edited."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

CARD_NAME = "README.md"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MARK = re.compile(r"\n<!-- pts card ([0-9a-f]{16}): [^\n]* -->\n$")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render(template: str, **values: object) -> str:
    """A template of this package with its values filled in; a name that has none is an error."""
    return _environment().get_template(template).render(values)


def front_matter(**fields: Any) -> str:
    """The YAML header that the Hub reads; fields that are None or empty are left out."""
    from huggingface_hub import CardData

    return f"---\n{CardData(**fields).to_yaml()}\n---\n"


def parquet_configs(files: Mapping[str, str]) -> list[dict[str, object]]:
    """The header's `configs` by which `datasets.load_dataset` reads Parquet files, each as `train`."""
    return [
        {"config_name": name, "data_files": [{"split": "train", "path": path}]} for name, path in files.items()
    ]


def size_category(rows: int) -> str:
    """The Hub's name for a data set's number of rows."""
    return next((name for limit, name in _SIZES if rows < limit), "n>1M")


def base_model(model_id: str, revision: str | None) -> str | None:
    """The model's Hub id, or None for the demo, a file or a local directory, which the Hub cannot link.

    A digest of local files in place of a commit marks those, as `pts.models.load` records it.
    """
    local = revision is not None and revision.startswith("sha256:")
    return model_id if _HUB_ID.fullmatch(model_id) and not local else None


def marked(text: str) -> str:
    """The card with a last line that tells an untouched card from one that somebody has edited."""
    body = text.rstrip("\n") + "\n"
    return f"{body}\n<!-- pts card {_digest(body)}: pts writes this page anew until somebody edits it -->\n"


def is_untouched(text: str) -> bool:
    """Whether the card is as pts wrote it, in this version or another."""
    mark = _MARK.search(text)
    return mark is not None and mark[1] == _digest(text[: mark.start()])


def cell(entry: object) -> str:
    """A cell of a Markdown table: on one line, what would break it escaped."""
    return " ".join(str(entry).split()).replace("|", "\\|")


def code(text: str) -> str:
    """`text` as Markdown code, visible where it is blank and whatever backticks it holds."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥")
    shown = shown if shown.strip() else shown.replace(" ", "␣")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pts.publishing"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "code": code, "signed": "{:+.3f}".format, "thousands": "{:,}".format}
    return environment


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
