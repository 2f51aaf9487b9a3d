"""Errors of a recipe's stage, for those who gave a recipe: options of the command line become its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pts.errors import PtsError

_OPTION = re.compile(r"(?<![\w-])--(no-)?([a-z][a-z-]*[a-z])")
_OF_RUN = ("fresh", "until")
"""Keys that `pts run` has an option of the same name for, which is the one to use."""


@contextmanager
def in_recipe_keys(stage: str, keys: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Let a PtsError of `stage` name the recipe's keys where it names options: `search.output`, not --output.

    `keys` are those of the recipe's stages, by stage. An option that is a key of this stage becomes that, one
    that is a key of a single other stage that one's; any other is left as it is.
    """
    try:
        yield
    except PtsError as error:
        said = _in_keys(str(error), stage, keys)
        if said == str(error):
            raise
        raise type(error)(said) from error


def _in_keys(message: str, stage: str, keys: Mapping[str, Sequence[str]]) -> str:
    named: list[str] = []

    def key_of(option: re.Match[str]) -> str:
        negated, name = option.group(1), option.group(2).replace("-", "_")
        owners = [owner for owner, known in keys.items() if name in known]
        owner = stage if stage in owners else owners[0] if len(owners) == 1 else None
        if owner is None or name in _OF_RUN:
            return option.group()
        named.append(f"{owner}.{name}")
        return f"{owner}.{name} false" if negated else f"{owner}.{name}"

    said = _OPTION.sub(key_of, message)
    if not named:
        return message
    return f"{said} (A key of the recipe can be set by --set {named[0]}=VALUE.)"
