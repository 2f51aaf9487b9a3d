"""Routers as a user names them: probe, length:0-64, random:none=0.5,hard=0.5, a path and so on."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from pts.decoding.routers.adaptive import AUTOTHINK_LABELS, AdaptiveRouter
from pts.decoding.routers.chance import RandomRouter
from pts.decoding.routers.files import find_router, load_router
from pts.decoding.routers.length import LengthRouter
from pts.decoding.routers.probe import ProbeRouter
from pts.decoding.routers.protocol import AUTO_BUDGETS, ClassBudgets, Router
from pts.errors import ConfigError
from pts.plugins import load_plugin, plugin_names
from pts.setting_names import setting
from pts.steering.set_location import bundled_sets
from pts.steering.vector_set import VectorError

ROUTERS = ("probe", "length[:SHORT-LONG]", "random[:CLASS=SHARE,...]", "adaptive-classifier:SOURCE")
"""How routers are named, besides by the directory or Hub id of a fitted one."""


def stored_router(
    directory: Path | None, price: float | None = None, same_shape: bool = False
) -> ProbeRouter | None:
    """The router that is stored with a vector set; None where there is none. Raises as `find_router` does."""
    fitted = None if directory is None else find_router(directory)
    return None if fitted is None else ProbeRouter(fitted, price, same_shape)


def named_router(
    spec: str,
    stored: Path | None = None,
    *,
    price: float | None = None,
    same_shape: bool = False,
    budgets: ClassBudgets | None = None,
) -> Router:
    """The router that a text names; `stored` is the directory of the vector set, whose router `probe` is.

    `price` and `same_shape` are as for `ProbeRouter`. `budgets` are those of classes that the router does not
    have a budget for itself, or other ones. Raises ConfigError, ModelError or VectorError, in one line, for
    a name that there is not, what does not belong to it, and a router that cannot be had.
    """
    kind, colon, argument = spec.partition(":")
    given = {} if budgets is None else dict(budgets)
    added = load_plugin("router", kind, _BUNDLED)
    make = _WITHOUT_PRICE.get(kind, added)
    if make is not None:
        if price is not None:
            raise ConfigError(
                f"{setting('token_price')} needs a fitted router, and the router is {kind}: leave it out."
            )
        router: Router = make(argument if colon else None, given)
        return router
    if spec == "probe":
        found = stored_router(stored, price, same_shape)
        if found is None:
            where = f"there is no vector set ({setting('vectors')})" if stored is None else f"{stored} has none"
            raise ConfigError(
                f"the router probe is the one stored with the vectors, and {where}: fit one by "
                "`pts fit-router`, or name the directory of one."
            )
        return found
    _require_known(spec, kind)
    try:
        return ProbeRouter(load_router(spec), price, same_shape)
    except VectorError as error:
        raise ConfigError(f"there is no router {spec}: {error}") from error


def with_classes(router: Router, budgets: ClassBudgets) -> ClassBudgets:
    """The router's budgets, those of some classes replaced. Raises ConfigError for a class that it has not."""
    classes = router.labels if isinstance(router, AdaptiveRouter) else tuple(router.budgets)
    unknown = next((name for name in budgets if name not in classes), None)
    if unknown is not None:
        raise ConfigError(
            f"a budget is given for the class {unknown}, which the router {router.name} does "
            f"not have; it has {', '.join(classes)}."
        )
    return {**router.budgets, **budgets}


def _length(argument: str | None, budgets: Mapping[str, object]) -> LengthRouter:
    del budgets  # its classes are always the three
    if argument is None:
        return LengthRouter()
    short, _, long = argument.partition("-")
    if not short.isdigit() or not long.isdigit():
        raise ConfigError(
            f"the length router's bounds are {argument!r}; give prompt tokens as in length:0-128 (up to "
            "the first no thinking, beyond the second much)."
        )
    return LengthRouter(int(short), int(long))


def _random(argument: str | None, budgets: ClassBudgets) -> RandomRouter:
    if argument is None:
        return RandomRouter({name: 1 / len(AUTO_BUDGETS) for name in AUTO_BUDGETS})
    shares = {}
    for part in argument.split(","):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise ConfigError(
                f"the random router's share {part!r} is not a share; give shares as in "
                "random:none=0.2,easy=0.3,hard=0.5."
            ) from None
    known = {**AUTO_BUDGETS, **budgets}
    bare = next((name for name in shares if name not in known), None)
    if bare is not None:
        raise ConfigError(
            f"the random router's class {bare} has no budget: give {setting('class_budget', f'{bare}=0.4')}."
        )
    return RandomRouter(shares, budgets={name: known[name] for name in shares})


def _adaptive(argument: str | None, budgets: ClassBudgets) -> AdaptiveRouter:
    if not argument:
        raise ConfigError(
            "the router adaptive-classifier needs the directory or Hub id of a classifier: "
            "adaptive-classifier:adaptive-classifier/llm-router."
        )
    return AdaptiveRouter(argument, {**AUTOTHINK_LABELS, **budgets})


_WITHOUT_PRICE: Mapping[str, Callable[[str | None, ClassBudgets], Router]] = {
    "length": _length,
    "random": _random,
    "adaptive-classifier": _adaptive,
}


_BUNDLED = ("probe", *_WITHOUT_PRICE)


def _require_known(spec: str, kind: str) -> None:
    """Raise ConfigError for a text that is neither a router's name nor a place where one could be."""
    if "/" in spec or Path(spec).expanduser().exists() or spec in bundled_sets():
        return
    added = plugin_names("router", _BUNDLED)
    near = difflib.get_close_matches(kind, (*_BUNDLED, *added), n=1)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"there are {', '.join((*ROUTERS, *added))}, and directories of fitted ones."
    )
    raise ConfigError(f"there is no router {spec!r}: {hint}")
