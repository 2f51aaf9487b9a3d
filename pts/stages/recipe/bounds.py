"""Which of a recipe's stages run: the bounds of `--from` and `--until`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pts.errors import ConfigError
from pts.stages.recipe.read import nearest
from pts.stages.stage import Step


def select_stages(steps: Sequence[Step], first: str | None, last: str | None) -> tuple[list[Step], list[Step]]:
    """The steps before `--from`, and those from there on through `--until`; None for no such bound.

    Both may name a part of a stage, which is then on both sides: before it with `until` set to the part
    ahead of the bound. Raises ConfigError for an unknown name, or a first stage after the last.
    """
    parts = [(step, part) for step in steps for part in step.parts]
    start = 0 if first is None else _places(parts, first, "--from")[0]
    end = len(parts) - 1 if last is None else _places(parts, last, "--until")[-1]
    if start > end:
        raise ConfigError(
            f"--from {first} comes after --until {last}; the order is {', '.join(_names(parts))}."
        )
    return _joined(parts[:start]), _joined(parts[start : end + 1])


def _places(parts: Sequence[tuple[Step, str]], name: str, option: str) -> list[int]:
    places = [place for place, (step, part) in enumerate(parts) if name in (step.name, part)]
    if not places:
        names = _names(parts)
        raise ConfigError(
            f"{option} {name}: the recipe has no such stage; it has {', '.join(names)}.{nearest(name, names)}"
        )
    return places


def _names(parts: Sequence[tuple[Step, str]]) -> list[str]:
    """Every name that a bound may have: a stage's own, then its parts'."""
    return list(dict.fromkeys(name for step, part in parts for name in (step.name, part)))


def _joined(parts: Sequence[tuple[Step, str]]) -> list[Step]:
    """The steps of consecutive parts: each goes through the last of its parts."""
    last = {step.name: (step, part) for step, part in parts}
    return [
        replace(step, inputs=replace(step.inputs, until=part)) if step.stage.parts else step
        for step, part in last.values()
    ]
