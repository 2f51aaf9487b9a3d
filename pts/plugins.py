"""Policies, graders, routers and strategies of other packages, found by their entry points."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeAlias, get_args

from pts.errors import ConfigError

Kind: TypeAlias = Literal["policy", "grader", "router", "strategy"]
"""What a package may add; the entry points of a kind are in the group of its name below."""

GROUPS: dict[Kind, str] = {
    "policy": "pts.policies",
    "grader": "pts.graders",
    "router": "pts.routers",
    "strategy": "pts.strategies",
}


def plugin_names(kind: Kind, bundled: Collection[str]) -> list[str]:
    """The names that other packages register, sorted.

    Raises ConfigError where one of them is the name of something `bundled`, or two packages register one name.
    """
    return sorted(_registered(kind, bundled))


def load_plugin(kind: Kind, name: str, bundled: Collection[str]) -> Any:
    """What another package registers under a name; None where none does.

    Raises ConfigError, in one line that names the package, where it cannot be imported; and as `plugin_names`.
    """
    point = _registered(kind, bundled).get(name)
    if point is None:
        return None
    try:
        return point.load()
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"the {kind} {name} of the package {_package(point)} cannot be imported ({said}): repair the "
            "package, or uninstall it."
        ) from error


def plugin_versions() -> dict[str, str]:
    """The packages that register anything, with their versions."""
    points = (point for kind in get_args(Kind) for point in entry_points(group=GROUPS[kind]))
    return {point.dist.name: point.dist.version for point in points if point.dist is not None}


def _registered(kind: Kind, bundled: Collection[str]) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUPS[kind]):
        if point.name in bundled:
            raise ConfigError(
                f"the package {_package(point)} registers the {kind} {point.name}, a name that pts itself has: "
                "uninstall it, or rename what it registers."
            )
        other = found.setdefault(point.name, point)
        if _package(other) != _package(point):
            raise ConfigError(
                f"the packages {_package(other)} and {_package(point)} both register the {kind} {point.name}: "
                "uninstall one of them."
            )
    return found


def _package(point: EntryPoint) -> str:
    return "of unknown name" if point.dist is None else point.dist.name
