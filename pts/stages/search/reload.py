"""A search's model, prompt, sampler and grader, loaded again from its run directory for the stages after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pts.errors import ConfigError, DataError, ModelError, RunError
from pts.pivot_search.results import ProblemResult
from pts.records import Completions, Problem, Sampling
from pts.registered import registered_dataset
from pts.runs.codec import ShapeError, from_json
from pts.runs.search_run import SearchResolved, SearchResults
from pts.setting_names import setting
from pts.stages.search.inputs import SearchInputs
from pts.stages.shared.cut_completions import warn_of_cut
from pts.stages.shared.recorded import (
    Recorded,
    recorded_by,
    recorded_options,
    require_recorded,
    settled_prompts,
)

if TYPE_CHECKING:
    from pts.graders import Grader
    from pts.models.load import LoadedModel
    from pts.models.prompt import PromptFormat
    from pts.runs.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a search ran with."""

    inputs: SearchInputs
    loaded: LoadedModel
    prompt_format: PromptFormat
    sampling: Sampling
    grade: Grader
    thinks: bool = False

    def warn_of_cut(self, what: str, counted: Completions) -> None:
        """Log it where the search's budget cut too many of these completions."""
        remedy = f"the search's {setting('budget')} (search again)"
        runs_on = self.inputs.runs_on
        warn_of_cut(what, counted, self.sampling.budget, thinks=self.thinks, remedy=remedy, runs_on=runs_on)


def searched_inputs(searched: SearchResults) -> SearchInputs:
    """The inputs of the search, from its manifest. Raises RunError where they cannot be read."""
    return inputs_from(searched.manifest.settings, str(searched.path / "manifest.json"))


def inputs_from(settings: Mapping[str, object], where: str) -> SearchInputs:
    """The inputs of a search, from the configuration that its manifest holds. Raises RunError."""
    own = dict(settings)
    sampling, search = own.pop("sampling", None), own.pop("search", None)
    own.pop("traces_from", None)
    if not isinstance(sampling, Mapping) or not isinstance(search, Mapping):
        raise RunError(f"{where} lacks the settings of the search; search again.")
    renamed = {"value_range": "range"}
    given = {**own, **sampling, **{renamed.get(name, name): value for name, value in search.items()}}
    try:
        return from_json(SearchInputs, given)
    except ShapeError as error:
        raise RunError(f"{where} cannot be read ({error}); search again.") from error


@dataclass(frozen=True, slots=True)
class Again:
    """What loads a search's model again, in this process or, sent there, in another."""

    inputs: SearchInputs
    resolved: SearchResolved
    recorded: Recorded
    done: ProblemResult | None

    def load(self) -> Loaded:
        """The model and all that goes with it. Raises as `load_again` does."""
        search = load_inputs(self.inputs, self.resolved, self.recorded, self.done)
        if self.resolved.model_revision not in (None, search.loaded.revision):
            raise ModelError(
                f"{search.inputs.model} is not the model of {self.recorded.where} (revision "
                f"{search.loaded.revision}, then "
                f"{self.resolved.model_revision}): give the search's own, or search again."
            )
        return search


def load_again(
    searched: SearchResults,
    device: str,
    earlier: Manifest | None = None,
    *,
    trust_remote_code: bool = False,
) -> Loaded:
    """The model and all that goes with it, as the search recorded it: dtype, prompts with their date, device.

    The device "auto" is that of `earlier`, a later stage's own run that goes on, where there is one. Raises
    ModelError where the model is not the one that was searched, RunError where its prompts differ.
    """
    return to_load_again(searched, device, earlier, trust_remote_code=trust_remote_code).load()


def to_load_again(
    searched: SearchResults,
    device: str,
    earlier: Manifest | None = None,
    *,
    trust_remote_code: bool = False,
) -> Again:
    """What `load_again` loads, not yet loaded."""
    recorded = recorded_by(searched.manifest, str(searched.path))
    own = None if earlier is None else recorded_by(earlier, str(searched.path)).device
    recorded = replace(recorded, device=own or recorded.device)
    done = next(iter(searched.results), None)
    inputs = replace(searched_inputs(searched), device=device, trust_remote_code=trust_remote_code)
    return Again(inputs, searched.resolved, recorded, done)


def load_inputs(
    inputs: SearchInputs,
    found: SearchResolved,
    recorded: Recorded,
    done: ProblemResult | None = None,
) -> Loaded:
    """The model, prompt, sampler and grader of a search's inputs, as they were recorded.

    Raises ModelError, and RunError where the model computes or is prompted otherwise than for what is `done`.
    """
    from pts.graders import make_grader
    from pts.models.hardware import settle_threads
    from pts.models.load import load_model

    loaded = load_model(recorded_options(inputs.model_options(), recorded))
    settle_threads(loaded.device, loaded.model.num_parameters())
    require_recorded(loaded, recorded)
    prompt_format, _ = settled_prompts(loaded.tokenizer, inputs.prompt_format(), recorded, done)
    grade = make_grader(
        found.grader,
        pattern=inputs.grader_pattern,
        think_end=found.think_end,
        think_required=inputs.thinking is True,
    )
    thinks = found.think_end is not None and inputs.thinking is not False
    return Loaded(inputs, loaded, prompt_format, inputs.sampling(), grade, thinks)


def untouched_problems(
    searched: SearchResults,
    calibration: int,
    test: int,
    options: Sequence[str] = ("calibration_problems", "test_problems"),
) -> tuple[list[Problem], list[Problem]]:
    """Problems that the search did not draw: some to choose on and others, disjoint, to measure on.

    Of a registered data set they come from the splits that the search did not use; of other data sets they
    are those that follow the searched ones, or those without a given trace, each question on one side only,
    whatever its ids. Raises DataError where there are too few or the data changed since the search
    (`options` are the settings of their numbers), GraderError where a reference answer does not fit the
    search's grader.
    """
    from pts.graders import make_grader

    inputs = searched_inputs(searched)
    grader = make_grader(searched.resolved.grader, pattern=inputs.grader_pattern)
    registered = registered_dataset(inputs.dataset)
    if registered is not None:
        first, second = registered.unused_splits(inputs.split)
        seed, levels = inputs.seed, inputs.levels
        chosen = (
            registered.draw(first, calibration, seed, levels),
            registered.draw(second, test, seed, levels),
        )
    else:
        chosen = _not_drawn(searched, inputs, calibration, test, options)
    for problem in (*chosen[0], *chosen[1]):
        grader.check_reference(problem.answer)
    return chosen


def fitting_problems(
    searched: SearchResults, wanted: int, reserved: int, levels: tuple[int, ...] | None
) -> list[Problem]:
    """Problems to fit on that the search did not draw and no test is made on.

    Of a registered data set they are of its split to fit on, drawn by another seed than the search's, at
    `levels` (None: the search's); of other data sets they follow the searched ones and
    `reserved` more. Raises as `untouched_problems` does, and ConfigError for levels of other data.
    """
    inputs = searched_inputs(searched)
    registered = registered_dataset(inputs.dataset)
    if registered is not None:
        split = registered.fitting_split(inputs.split)
        return registered.draw(split, wanted, inputs.seed + 1, levels or inputs.levels)
    if levels is not None:
        raise ConfigError(f"the data set {inputs.dataset} has no levels; leave {setting('levels')} out.")
    return untouched_problems(searched, reserved, wanted, options=["problems"])[1]


def _not_drawn(
    searched: SearchResults, inputs: SearchInputs, calibration: int, test: int, options: Sequence[str]
) -> tuple[list[Problem], list[Problem]]:
    """Problems of the search's data set that it did not draw. Raises DataError where they are too few."""
    # A shard's problems stand among those of the others.
    drawn = (searched.manifest.whole or searched.manifest.problems).count
    # Given traces may be of problems anywhere in the data; else the search drew the first ones.
    anywhere = searched.manifest.settings.get("traces_from") is not None
    limit = None if anywhere else drawn + calibration + test
    while True:
        every = _problems_again(searched, inputs, limit)
        ours = {problem.id for problem in every[: 0 if anywhere else drawn]} | set(searched.latest)
        free = [problem for problem in every if problem.id not in ours]
        chosen = _split(free, [problem for problem in every if problem.id in ours], calibration, test)
        found = len(chosen[0]) + len(chosen[1])
        if found == calibration + test:
            return chosen
        if limit is None or len(every) < limit:
            break
        limit *= 2  # Some repeat a question: read on.
    again = "" if found == len(free) else f", without those that repeat a question ({len(free) - found})"
    raise DataError(
        f"{inputs.dataset} has {found} problems that the search did not draw{again}; {calibration + test} are "
        f"needed to calibrate and to test: ask for fewer ({', '.join(map(setting, options))}), or search "
        "fewer problems."
    )


def _split(
    free: Sequence[Problem], searched: Sequence[Problem], calibration: int, test: int
) -> tuple[list[Problem], list[Problem]]:
    """The first problems that ask nothing that was searched, then those that ask nothing of either.

    A data set may hold one question under several ids, and what was chosen on it says nothing of its effect.
    """
    from pts.problems import question_words

    before = {question_words(problem) for problem in searched}
    new = [problem for problem in free if question_words(problem) not in before]
    chosen = new[:calibration]
    taken = {question_words(problem) for problem in chosen}
    rest = [problem for problem in new[calibration:] if question_words(problem) not in taken]
    return chosen, rest[:test]


def _problems_again(searched: SearchResults, inputs: SearchInputs, limit: int | None) -> Sequence[Problem]:
    """The first problems of the search's data set. Raises DataError where one changed since the search."""
    from pts.problems import load_problems, problem_digest

    every = load_problems(replace(inputs, problems=limit).source()).problems
    digests = {problem.id: problem_digest(problem) for problem in every}
    changed = [key for key, line in searched.latest.items() if digests.get(key) != line.digest]
    if changed:
        raise DataError(
            f"{inputs.dataset} is not the data that {searched.path} searched: problem "
            f"{changed[0]} changed since. Restore the data, or search again."
        )
    return every
