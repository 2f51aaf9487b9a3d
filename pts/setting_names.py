"""How a message names a setting: as its reader would write it.

The same error is read by someone who typed a command, who wrote a recipe, or who called a function. `setting`
gives the name in the form of whoever is reading: the command line and the recipes say so with `named_as`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Naming: TypeAlias = Callable[[str, object], str]
"""From a setting's name, and a value or None, to how a reader writes both."""

_SINGULAR = {
    "continuations": "continuation",
    "switches": "switch",
    "template_options": "template_option",
    "trl_settings": "trl_setting",
}
"""Settings whose option is given once for each value, and is named so."""
_OF_RUN = ("fresh", "until")
"""Settings for which `pts run` has an option of the same name, which is the one to use."""


def setting(name: str, value: object = None) -> str:
    """A setting in the words of the reader, with a value where one is given.

    `setting("budget")` is `--budget` on the command line, `search.budget` in a recipe and `budget=` in Python;
    `setting("dtype", "float32")` is `--dtype float32`, `search.dtype=float32` or `dtype='float32'`.
    """
    return _naming.get()(name, value)


@contextmanager
def named_as(naming: Naming) -> Iterator[None]:
    """Name settings in this way within the block."""
    token = _naming.set(naming)
    try:
        yield
    finally:
        _naming.reset(token)


def current_naming() -> Naming:
    """How settings are named now, to name them so in another process."""
    return _naming.get()


def in_python(name: str, value: object = None) -> str:
    """The name as a keyword argument: `budget=`, `thinking=False`."""
    return f"{name}=" if value is None else f"{name}={value!r}"


def on_command_line(name: str, value: object = None) -> str:
    """The name as an option: `--budget`, `--no-thinking`, `--dtype float32`."""
    option = _SINGULAR.get(name, name).replace("_", "-")
    if value is False:
        return f"--no-{option}"
    return f"--{option}" if value is None or value is True else f"--{option} {value}"


class InRecipe:
    """The name as a key of a recipe: `search.budget`, `eval.thinking=false`.

    `keys` are the keys of the recipe's stages, by stage. A name that is a key of `stage` is that stage's, one
    that is a key of a single other stage that one's; any other is named as an option. `named` lists the keys
    that were named.
    """

    def __init__(self, stage: str, keys: Mapping[str, Sequence[str]]) -> None:
        self._stage = stage
        self._keys = keys
        self.named: list[str] = []

    def __call__(self, name: str, value: object = None) -> str:
        """The key, with its value in YAML's words."""
        owners = [owner for owner, known in self._keys.items() if name in known]
        owner = self._stage if self._stage in owners else owners[0] if len(owners) == 1 else None
        if owner is None or name in _OF_RUN:
            return on_command_line(name, value)
        self.named.append(f"{owner}.{name}")
        shown = str(value).lower() if isinstance(value, bool) else value
        return f"{owner}.{name}" if value is None else f"{owner}.{name}={shown}"


_naming: ContextVar[Naming] = ContextVar("naming", default=in_python)
