"""Recipes: a YAML file whose stages run one after the other, each with exactly the keys of its dataclass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import yaml

from pts.errors import ConfigError
from pts.runs.codec import ShapeError, from_json, known_keys
from pts.stages.extract.inputs import PARTS, ExtractInputs, Part
from pts.stages.fit_router.inputs import FitRouterInputs
from pts.stages.recipe.errors import in_recipe_keys
from pts.stages.search.inputs import SearchInputs


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a recipe: its name and its inputs."""

    name: str
    inputs: Any

    @property
    def directory(self) -> Path | None:
        """The directory that it makes and a later stage reads, or None where there is no such thing."""
        made = SearchInputs | ExtractInputs | FitRouterInputs
        return self.inputs.directory() if isinstance(self.inputs, made) else None

    @property
    def parts(self) -> tuple[str, ...]:
        """What `--from` and `--until` can name inside it, in order: the parts of an extraction, or itself."""
        if isinstance(self.inputs, ExtractInputs):
            return PARTS[: PARTS.index(self.inputs.until) + 1]
        return (self.name,)


def stage_keys(stages: Iterable[Stage]) -> dict[str, list[str]]:
    """The keys that each stage knows, by its name."""
    return {stage.name: known_keys(type(stage.inputs)) for stage in stages}


def read_recipe(recipe: str, settings: Sequence[str] = ()) -> list[Stage]:
    """The stages of a recipe, given by its path or by the name of a bundled one.

    `settings` are as `--set` takes them, KEY=VALUE or STAGE.KEY=VALUE with a YAML value, and go before what the
    recipe says. Raises ConfigError where there is no such recipe, it is not YAML, a stage or key is unknown,
    or a value is of the wrong type or outside its range; every stage is checked before any runs.
    """
    path = _find(recipe)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {error}") from error
    listed = data.get("stages") if isinstance(data, Mapping) else None
    if not isinstance(listed, list) or not listed or set(data) != {"stages"}:
        raise ConfigError(f"recipe {path} must have one key, stages, with a list of stages.")
    entries = [_entry(path, number, given) for number, given in enumerate(listed, start=1)]
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"recipe {path} has the stage {twice} twice; make two recipes of it.")
    for setting in settings:
        entries = _with_setting(entries, setting)
    stages: list[Stage] = []
    for entry in entries:
        stages.append(_stage(entry, stages))
    return stages


def select_stages(
    stages: Sequence[Stage], first: str | None, last: str | None
) -> tuple[list[Stage], list[Stage]]:
    """The stages before `--from`, and those from there on through `--until`; None for no such bound.

    Both may name a part of the extraction, which is then on both sides: before it with `until` set to the part
    ahead of the bound. Raises ConfigError for an unknown name, or a first stage after the last.
    """
    steps = [(stage, part) for stage in stages for part in stage.parts]
    start = 0 if first is None else _places(steps, first, "--from")[0]
    end = len(steps) - 1 if last is None else _places(steps, last, "--until")[-1]
    if start > end:
        raise ConfigError(
            f"--from {first} comes after --until {last}; the order is {', '.join(_names(steps))}."
        )
    return _joined(steps[:start]), _joined(steps[start : end + 1])


def run_stage(stage: Stage) -> object:
    """Run one stage and return what it returns. Raises PtsError."""
    return _STAGES[stage.name].run(stage.inputs)


def bundled_recipes() -> dict[str, str]:
    """The recipes that come with the package: name → the first comment line of its file."""
    paths = sorted(_bundled().glob("*.yaml"), key=lambda path: path.stem)
    return {path.stem: _first_comment(path) for path in paths}


def _find(recipe: str) -> Path:
    path = Path(recipe)
    if path.is_file():
        return path
    known = bundled_recipes()
    if recipe in known:
        return _bundled() / f"{recipe}.yaml"
    raise ConfigError(
        f"there is no recipe {recipe}; those that come with pts are {', '.join(known)}."
        f"{_nearest(recipe, known)}"
    )


def _bundled() -> Path:
    package = Path(str(files("pts")))
    installed = package / "_bundled" / "pipelines"
    return installed if installed.is_dir() else package.parent / "pipelines"


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stage as the recipe spells it: where it stands, its name and its keys, of which all are known."""

    where: str
    name: str
    keys: Mapping[str, object]

    @property
    def known(self) -> list[str]:
        return known_keys(_STAGES[self.name].inputs())


def _entry(path: Path, number: int, given: object) -> _Entry:
    where = f"recipe {path} stage {number}"
    named = given.get("stage") if isinstance(given, Mapping) else given
    if not isinstance(given, Mapping) or str(named) not in _STAGES:
        raise ConfigError(
            f"{where}: no such stage: {named}; the stages are {', '.join(_STAGES)}.{_nearest(named, _STAGES)}"
        )
    keys = {_spelled(key): value for key, value in given.items() if key != "stage"}
    entry = _Entry(where, str(named), keys)
    for key in keys:
        if key not in entry.known:
            raise ConfigError(
                f"{where} has no key {key}; {entry.name} knows {', '.join(entry.known)}."
                f"{_nearest(key, entry.known)}"
            )
    return entry


def _with_setting(entries: Sequence[_Entry], setting: str) -> list[_Entry]:
    """The entries with one of `--set`'s in its place. Raises ConfigError where there is not one such place."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting} has no value; write it as KEY=VALUE or STAGE.KEY=VALUE.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting} has a value that is not YAML; quote it.") from error
    # A sentence with a colon is meant as one; a mapping has braces.
    value = text if isinstance(value, dict) and not text.lstrip().startswith("{") else value
    owner, key = _owner(entries, path.strip())
    return [replace(each, keys={**each.keys, key: value}) if each is owner else each for each in entries]


def _owner(entries: Sequence[_Entry], path: str) -> tuple[_Entry, str]:
    stage, dot, key = path.rpartition(".")
    key = _spelled(key)
    names = [entry.name for entry in entries]
    candidates = [entry for entry in entries if not dot or entry.name == stage.replace("_", "-")]
    if not candidates:
        raise ConfigError(
            f"--set {path}: the recipe has no stage {stage}; it has {', '.join(names)}.{_nearest(stage, names)}"
        )
    owners = [entry for entry in candidates if key in entry.known]
    if not owners:
        known = {f"{entry.name}.{name}": name for entry in candidates for name in entry.known}
        near = get_close_matches(key, known.values(), n=1)
        full = next((place for place, name in known.items() if near and name == near[0]), None)
        said = f" Did you mean {full}?" if full else ""
        whose = candidates[0].name if dot else "none of its stages"
        raise ConfigError(f"--set {path}: {whose} has {'no' if dot else 'a'} key {key}.{said}")
    if len(owners) > 1:
        places = " or ".join(f"{entry.name}.{key}" for entry in owners)
        raise ConfigError(f"--set {path}: more than one stage has that key; say which: {places}.")
    return owners[0], key


def _stage(entry: _Entry, before: Sequence[Stage]) -> Stage:
    """The stage with its inputs; the directories of stages before it fill the keys that take one."""
    kind = _STAGES[entry.name]
    filled: dict[str, object] = {}
    for key, of in kind.takes.items():
        makers = [stage for stage in before if isinstance(stage.inputs, of)]
        if makers:
            with in_recipe_keys(makers[-1].name, stage_keys(makers[-1:])):
                filled[key] = str(makers[-1].directory)
    if entry.name == "fit-router" and "vectors" in entry.keys:
        # With another set than the recipe's own, the recipe's is no place for the router.
        filled.pop("output", None)
    try:
        with in_recipe_keys(entry.name, {entry.name: entry.known}):
            inputs = from_json(kind.inputs(), {**filled, **entry.keys})
            if entry.name == "eval" and "router" in filled and not inputs.asks_router():
                inputs = from_json(kind.inputs(), {**filled, "router": None, **entry.keys})
            return Stage(entry.name, inputs)
    except ShapeError as error:
        raise ConfigError(f"{entry.where} ({entry.name}): {error}.") from error


def _places(steps: Sequence[tuple[Stage, str]], name: str, option: str) -> list[int]:
    places = [place for place, (stage, part) in enumerate(steps) if name in (stage.name, part)]
    if not places:
        names = _names(steps)
        raise ConfigError(
            f"{option} {name}: the recipe has no such stage; it has {', '.join(names)}.{_nearest(name, names)}"
        )
    return places


def _names(steps: Sequence[tuple[Stage, str]]) -> list[str]:
    """Every name that a bound may have: an extraction's own, then its parts'."""
    return list(dict.fromkeys(name for stage, part in steps for name in (stage.name, part)))


def _joined(steps: Sequence[tuple[Stage, str]]) -> list[Stage]:
    """Stages of consecutive parts: an extraction goes through the last of its parts."""
    last = {stage.name: (stage, part) for stage, part in steps}
    return [
        replace(stage, inputs=replace(stage.inputs, until=cast(Part, part)))
        if isinstance(stage.inputs, ExtractInputs)
        else stage
        for stage, part in last.values()
    ]


def _spelled(key: object) -> str:
    return str(key).replace("-", "_")


def _nearest(name: object, known: Iterable[str]) -> str:
    """A question that names the known one nearest to `name`, or nothing."""
    near = get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A stage's dataclass and function, behind calls so that only the stage that runs is imported.

    `takes` are the keys that are filled where the recipe leaves them out: each with the directory of the last
    stage of these inputs before it.
    """

    inputs: Callable[[], Any]
    run: Callable[[Any], object]
    takes: Mapping[str, tuple[type, ...]] = field(default_factory=dict)


def _search_run(inputs: SearchInputs) -> object:
    from pts.stages.search.run import run_search

    return run_search(inputs)


def _demo_inputs() -> type:
    from pts.stages.demo_model.run import DemoModelInputs

    return DemoModelInputs


def _demo_run(inputs: Any) -> object:
    from pts.stages.demo_model.run import train_demo_model

    return train_demo_model(inputs)


def _extract_run(inputs: ExtractInputs) -> object:
    from pts.stages.extract.run import run_extract

    return run_extract(inputs)


def _publish_inputs() -> type:
    from pts.stages.publish.run import PublishInputs

    return PublishInputs


def _publish_run(inputs: Any) -> object:
    from pts.stages.publish.run import run_publish

    return run_publish(inputs)


def _fit_router_run(inputs: FitRouterInputs) -> object:
    from pts.stages.fit_router.run import run_fit_router

    return run_fit_router(inputs)


def _eval_inputs() -> type:
    from pts.stages.evaluate.inputs import EvaluateInputs

    return EvaluateInputs


def _eval_run(inputs: Any) -> object:
    from pts.stages.evaluate.run import run_evaluation

    return run_evaluation(inputs)


_STAGES: Mapping[str, _Kind] = {
    "search": _Kind(lambda: SearchInputs, _search_run),
    "demo-model": _Kind(_demo_inputs, _demo_run),
    "extract-vectors": _Kind(lambda: ExtractInputs, _extract_run, {"run": (SearchInputs,)}),
    "fit-router": _Kind(
        lambda: FitRouterInputs,
        _fit_router_run,
        {"run": (SearchInputs,), "vectors": (ExtractInputs,), "output": (ExtractInputs,)},
    ),
    "eval": _Kind(_eval_inputs, _eval_run, {"vectors": (ExtractInputs,), "router": (FitRouterInputs,)}),
    "publish": _Kind(_publish_inputs, _publish_run, {"path": (SearchInputs, ExtractInputs)}),
}
