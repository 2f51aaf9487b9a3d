"""`pts report`: what is at a path, as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError, DataError, RunError
from pts.report.one_file import GENERATOR, Page, render
from pts.runs.evaluation_run import EVALUATION
from pts.runs.files import make_directories, replace_text, write_failure
from pts.runs.manifest import read_manifest
from pts.runs.search_run import SEARCH, read_search
from pts.runs.vector_run import VECTORS
from pts.setting_names import setting
from pts.steering.set_location import JSON_NAME
from pts.training.run_files import TRAINING

if TYPE_CHECKING:
    from pts.report.steered_data import SteeredRun

_HEAD_BYTES = 2000
"""Where in a file its generator stands, at the latest."""


def write_report(
    *paths: str | Path, output: str | Path | None = None, steered: SteeredRun | None = None
) -> Path:
    """Write the report of what is at `paths` (a run or a set, or two searches) to `output`; where it is.

    Without `output` the file is named after what it shows, in the working directory. A report that is there is
    replaced, any other file is not. `steered` is what a vector set does to the completions of the search.
    Raises PtsError, in one line, for what cannot be shown.
    """
    sources = [Path(path).expanduser() for path in paths]
    target = report_target(sources, output)
    text = render(_page(sources, steered))
    try:
        make_directories(target.parent)
    except OSError as error:
        raise write_failure(target, error) from error
    replace_text(target, text)
    return target


def report_target(sources: Sequence[Path], output: str | Path | None) -> Path:
    """The file that a report of `sources` is written to. Raises ConfigError where it may not be."""
    target = Path(output or "-".join(_name(source) for source in sources) + ".html").expanduser()
    _require_free(target)
    return target


def require_shown(sources: Sequence[Path]) -> None:
    """Raise PtsError where what is at `sources` is nothing that a report can show, or not together."""
    kinds = {source: _kind(source) for source in sources}
    if len(sources) > 2:
        raise ConfigError(f"{len(sources)} runs were given; a report shows one, or two side by side.")
    if len(sources) == 2 and set(kinds.values()) != {SEARCH.name}:
        what = " and ".join(f"{source} ({kind})" for source, kind in kinds.items())
        raise ConfigError(f"only two search runs can be shown side by side, not {what}.")


def _page(sources: Sequence[Path], steered: SteeredRun | None) -> Page:
    require_shown(sources)
    if len(sources) > 1:
        return _side_by_side(*sources)
    (source,) = sources
    kind = _kind(source)
    return _search(source, steered) if kind == SEARCH.name else _PAGES[kind](source)


def _search(source: Path, steered: SteeredRun | None) -> Page:
    from pts.report.search_data import search_data
    from pts.report.search_page import search_page

    run = read_search(source)
    if not run.results:
        raise DataError(f"{source} has no result yet: the search has just begun, or was stopped at once.")
    return search_page([search_data(run, steered)])


def _side_by_side(first: Path, second: Path) -> Page:
    from pts.report.search_data import search_data
    from pts.report.search_page import search_page

    runs = [read_search(first), read_search(second)]
    if first.resolve() == second.resolve():
        raise ConfigError(f"{first} was given twice; two different runs can be shown side by side.")
    one, other = ({key: line.digest for key, line in run.latest.items()} for run in runs)
    if not one.items() & other.items():
        sets = [run.resolved.dataset_id for run in runs]
        raise ConfigError(
            f"{first} ({sets[0]}) and {second} ({sets[1]}) have no problem in common, so there is nothing to "
            "compare; search the same problems."
        )
    differing = sorted(key for key in one.keys() & other.keys() if one[key] != other[key])
    if differing:
        raise ConfigError(
            f"problem {differing[0]} is another one in {second} than in {first}: two runs are shown side by "
            "side where problems of one name have one text."
        )
    shown = [search_data(run) for run in runs]
    if shown[0].name == shown[1].name:
        shown = [replace(data, name=str(path)) for data, path in zip(shown, (first, second), strict=True)]
    return search_page(shown)


def _evaluation(source: Path) -> Page:
    from pts.report.evaluation_data import evaluation_data, evaluation_report_page

    return evaluation_report_page(evaluation_data(source))


def _vectors(source: Path) -> Page:
    from pts.report.vector_data import vector_data, vector_page

    return vector_page(vector_data(source))


def _training(source: Path) -> Page:
    from pts.report.training_page import training_page

    return training_page(source)


_PAGES: dict[str, Callable[[Path], Page]] = {
    EVALUATION.name: _evaluation,
    VECTORS.name: _vectors,
    TRAINING.name: _training,
}
_WHAT = "give the directory of a search run, a vector set, an evaluation or a training"


def _kind(source: Path) -> str:
    """What is at a path. Raises RunError where there is nothing that a report can show."""
    if not source.exists():
        raise RunError(f"{source} does not exist: {_WHAT}.")
    if not source.is_dir():
        raise RunError(f"{source} is a file: {_WHAT}.")
    if (source / JSON_NAME).exists():
        return VECTORS.name
    manifest = read_manifest(source)
    if manifest is None:
        raise RunError(f"{source} is not a run: it has no manifest.json; {_WHAT}.")
    if manifest.kind == VECTORS.name:
        raise RunError(
            f"{source} is not finished: it has no {JSON_NAME}; give the command of the extraction again to "
            "continue it."
        )
    if manifest.kind not in (SEARCH.name, *_PAGES):
        raise RunError(f"{source} is a run of another kind ({manifest.kind}), which has no report; {_WHAT}.")
    return manifest.kind


def _name(source: Path) -> str:
    return source.resolve().name or "report"


def _require_free(target: Path) -> None:
    """Raise ConfigError for an output that is a directory, or a file that is no report, or in no such place."""
    if target.is_dir():
        raise ConfigError(f"{target} is a directory; give {setting('output')} a file, such as report.html.")
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "may not be written to" if folder.is_dir() else "is no directory"
        raise ConfigError(f"{target} cannot be made, for {folder} {why}; give another {setting('output')}.")
    if target.exists() and GENERATOR.encode() not in target.read_bytes()[:_HEAD_BYTES]:
        raise ConfigError(f"{target} exists and is not a report of pts; give another {setting('output')}.")
