"""How what is in a stage's directory compares with what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["new", "begun", "complete", "changed"]
"""Nothing there; some of it; all of it; or what other settings, another model or other pairs made."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How what is in a stage's directory compares with what is asked.

    `there` says what there is, in words; `changes` has one entry for each setting that differs.
    """

    state: State
    there: str = ""
    changes: tuple[str, ...] = ()
