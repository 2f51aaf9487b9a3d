"""The names of settings in the messages of a recipe's stages: `search.output`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pts.errors import PtsError
from pts.setting_names import InRecipe, named_as


@contextmanager
def named_in_recipe(stage: str, keys: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Name settings as keys of the recipe within the block, which is about `stage`.

    `keys` are those of the recipe's stages, by stage. An error that names a key also says how to set one.
    """
    naming = InRecipe(stage, keys)
    try:
        with named_as(naming):
            yield
    except PtsError as error:
        text = str(error)
        named = next((key for key in naming.named if key in text), None)
        if named is not None:
            error.args = (f"{text} (A key of the recipe can be set by --set {named}=VALUE.)",)
        raise
