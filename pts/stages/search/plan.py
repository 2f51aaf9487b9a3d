"""What a session of a search has to do: what is there, what is left, and what may not have changed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pts.errors import DataError, RunError
from pts.pivot_search.results import ProblemResult
from pts.records import Problem, TokenIds
from pts.runs.directory import RunDirectory
from pts.runs.manifest import Manifest, differences, list_problems
from pts.runs.rollout_journal import RolloutJournal
from pts.runs.search_run import ROLLOUTS, search_digest, tokens_alone
from pts.runs.shard import ShardLine, latest_results, results_journal
from pts.setting_names import setting
from pts.stages.search.given_traces import read_traces
from pts.stages.search.inputs import SearchInputs
from pts.stages.shared.recorded_grader import check_references, graded_by

if TYPE_CHECKING:
    from pts.problems import ProblemSet

logger = logging.getLogger(__name__)

CHANGEABLE = ("threshold", "fdr", "value_range", "traces", "region", "audit", "unit", "different")
"""Settings that a run may go on with otherwise: what is recorded is used again as far as it fits."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a session has to do: the problems, those still to search, the traces given, tokens spent before.

    `grader` is the name of the one that was given, that the run recorded, or that fits the answers. `paid` are
    the tokens that each problem's lines account for, and `first` is the first result that there is. `whole` are
    the digests of the problems of all shards, None where there is one run. `searched_tokens` are the results of
    a search of tokens alone with the same settings: where sentences are searched too, these are added to them.
    """

    problem_set: ProblemSet
    grader: str
    todo: tuple[Problem, ...]
    done: int
    digests: Mapping[str, str]
    traces: Mapping[str, Sequence[TokenIds | str]] | None
    settings: Mapping[str, object]
    earlier: Manifest | None
    spent: int
    paid: Counter[str]
    first: ProblemResult | None
    searched_tokens: Mapping[str, ProblemResult]
    whole: tuple[str, ...] | None = None


def plan_search(inputs: SearchInputs, directory: RunDirectory) -> SearchPlan:
    """Read and check the data, and compare with the run that is there. Raises PtsError."""
    from pts.graders import make_grader
    from pts.problems import problem_digest

    traces, traces_digest = read_traces(inputs.traces_from)
    settings = {**inputs.settings(), "traces_from": traces_digest}
    earlier = None if inputs.fresh else directory.manifest
    if earlier is not None:
        directory.require_same("configuration", fixed_settings(earlier.settings), fixed_settings(settings))
    every = _load_problems(inputs, traces)
    problem_set = _share_of(every, inputs)
    _require_enough(problem_set.problems, inputs)
    name = graded_by(inputs.grader, earlier, problem_set.grader)
    grader = make_grader(name, pattern=inputs.grader_pattern)
    check_references(grader, problem_set.problems, earlier, name)
    digests = {problem.id: problem_digest(problem) for problem in problem_set.problems}
    lines: list[ShardLine] = []
    todo, spent = tuple(problem_set.problems), 0
    if earlier is not None:
        lines = results_journal(directory.shard).read()
        _require_same_problems(directory, earlier, digests, lines)
        _note_changes(directory, earlier, settings, lines)
        latest = latest_results(lines, search_digest(settings))
        _note_other_test(directory, latest)
        settled = {key for key, line in latest.items() if line.settled(inputs.token_limit)}
        todo = tuple(problem for problem in todo if problem.id not in settled)
        recorded = RolloutJournal(directory.path / ROLLOUTS).tokens
        spent = recorded.total() + sum(line.result.tokens_generated for line in lines if line.paid is None)
        if inputs.token_limit is not None and spent >= inputs.token_limit:
            # What is recorded costs nothing more.
            todo = tuple(problem for problem in todo if recorded[problem.id])
    done = len(problem_set.problems) - len(todo)
    paid: Counter[str] = Counter()
    for line in lines:
        paid[line.result.problem_id] += line.paid or 0
    first = lines[0].result if lines else None
    whole = None if inputs.share is None else tuple(map(problem_digest, every.problems))
    return SearchPlan(
        *(problem_set, name, todo, done, digests, traces, settings, earlier, spent, paid, first),
        searched_tokens=_searched_tokens(settings, lines),
        whole=whole,
    )


def _searched_tokens(settings: Mapping[str, object], lines: Sequence[ShardLine]) -> dict[str, ProblemResult]:
    """Results of searches of tokens that differ from the one to come only in that it searches sentences too."""
    tokens = tokens_alone(settings)
    if tokens is None:
        return {}
    latest = {line.result.problem_id: line for line in lines if line.search == search_digest(tokens)}
    return {name: line.result for name, line in latest.items() if line.result.status == "searched"}


def fixed_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that every session of a run shares."""
    search = settings.get("search")
    if not isinstance(search, Mapping):
        return dict(settings)
    return {**settings, "search": {key: value for key, value in search.items() if key not in CHANGEABLE}}


def _note_changes(
    directory: RunDirectory, earlier: Manifest, settings: Mapping[str, object], lines: Sequence[ShardLine]
) -> None:
    """Say which settings changed, and what is used again. Raises RunError where nothing was recorded."""
    changes = differences(earlier.settings, settings)
    if search_digest(earlier.settings) == search_digest(settings):
        return
    if any(line.search is None for line in lines):
        raise RunError(
            f"{directory.path} was searched by an earlier version, which recorded no rollouts to use again "
            f"({'; '.join(changes)}). Give another {setting('output')}, or {setting('fresh', True)} to delete "
            "that run and start again."
        )
    if _searched_tokens(settings, lines):
        logger.warning(
            "%s continues with %s: its tokens stay as they are, and the rollouts of their screen tell which "
            "sentences to confirm.",
            directory.path,
            setting("unit", "both"),
        )
        return
    logger.warning(
        "%s continues with other settings (%s): every problem is searched again. Recorded rollouts are reused, "
        "and only missing ones are drawn.",
        directory.path,
        "; ".join(changes),
    )


def _note_other_test(directory: RunDirectory, latest: Mapping[str, ShardLine]) -> None:
    """Say where results of an earlier version were tested otherwise than new ones will be."""
    from pts.pivot_search.sequential import TEST

    other = sum(candidate.test != TEST for line in latest.values() for candidate in line.result.candidates)
    if other:
        logger.warning(
            "%s has %d candidates that an earlier version confirmed with another test. Their p-values stay as "
            "they are: both tests are valid, and the false discovery rate holds over all candidates together. "
            "For one test throughout, search again with %s, or into another %s.",
            directory.path,
            other,
            setting("fresh", True),
            setting("output"),
        )


def _load_problems(inputs: SearchInputs, traces: Mapping[str, object] | None) -> ProblemSet:
    from pts.problems import load_problems

    loaded = load_problems(inputs.source())
    if traces is None:
        return loaded
    chosen = tuple(problem for problem in loaded.problems if problem.id in traces)
    unknown = sorted(set(traces) - {problem.id for problem in chosen})
    if unknown and (inputs.problems is None or not chosen):
        raise DataError(
            f"{inputs.traces_from} has completions of problem {unknown[0]}, which is not among the "
            "problems read; "
            f"check the ids, or {setting('problems')}."
        )
    return replace(loaded, problems=chosen)


def _require_enough(problems: Sequence[Problem], inputs: SearchInputs) -> None:
    """Raise DataError where there are fewer problems than workers on Ray."""
    if inputs.workers is not None and inputs.workers > len(problems):
        raise DataError(
            f"{inputs.workers} workers are more than the {len(problems)} problems: give at most "
            f"{setting('workers', len(problems))}."
        )


def _share_of(every: ProblemSet, inputs: SearchInputs) -> ProblemSet:
    """The problems of the shard, in their order. Raises DataError where there are fewer than shards."""
    share = inputs.share
    if share is None:
        return every
    if share.shares > len(every.problems):
        raise DataError(
            f"{setting('shard', str(share))} makes {share.shares} shards of {len(every.problems)} problems, so "
            "some would have none: make fewer shards."
        )
    return replace(every, problems=tuple(share.of(every.problems)))


def _require_same_problems(
    directory: RunDirectory, earlier: Manifest, digests: Mapping[str, str], lines: Sequence[ShardLine]
) -> None:
    """Raise RunError unless the problems begin with those of the earlier sessions."""
    listed = list(digests.values())
    same = len(listed) < earlier.problems.count or (
        list_problems(listed[: earlier.problems.count]) == earlier.problems
    )
    known = {line.result.problem_id: line.digest for line in lines}
    changed = [key for key, digest in known.items() if digests.get(key, digest) != digest]
    if not same or changed:
        which = f"problem {changed[0]}" if changed else "the problems"
        raise RunError(
            f"{directory.path} was made with other data: {which} changed since. "
            f"Give another {setting('output')}, or {setting('fresh', True)} to delete that run and start again."
        )
