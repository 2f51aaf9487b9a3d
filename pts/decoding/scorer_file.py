"""A scorer of branches from a Python file of the user's own."""

from __future__ import annotations

import runpy
from pathlib import Path

from pts.decoding.reject import Score, Scorer, Written, likelihood
from pts.errors import ConfigError


def named_scorer(spec: str) -> Scorer:
    """The scorer that a text names: `likelihood`, or FILE.py:FUNCTION.

    The function takes a `pts.decoding.reject.Written` and gives a number or a `Score`; the file is run to get
    it. Raises ConfigError where there is no such file or function, or, when it is called, where it fails
    or gives anything else.
    """
    if spec == "likelihood":
        return likelihood
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py") or not name:
        raise ConfigError(
            f"the scorer is {spec!r}; give likelihood, or a function of yours as FILE.py:FUNCTION."
        )
    if not Path(path).is_file():
        raise ConfigError(f"the scorer's file {path} does not exist.")
    function = runpy.run_path(path).get(name)
    if not callable(function):
        raise ConfigError(f"{path} has no function {name} to rank branches with.")

    def scorer(written: Written) -> Score:
        try:
            found = function(written)
        except Exception as error:  # a user's own function raises whatever it likes
            raise ConfigError(f"the scorer {spec} failed: {type(error).__name__}: {error}.") from error
        if isinstance(found, Score):
            return found
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ConfigError(f"the scorer {spec} gave {found!r}; it must give a number or a Score.")
        return Score(float(found))

    return scorer
