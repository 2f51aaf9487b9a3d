"""Completions to learn from a search's run: right ones, without the sentences that hardly move the value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.pivot_search.results import ProblemResult
from pts.records import Problem
from pts.runs.journal import Journal
from pts.runs.manifest import differences, text_digest
from pts.runs.search_run import SearchResults, read_search
from pts.seeds import derive_seed
from pts.setting_names import setting
from pts.stages.train.kept_draws import drawn_by
from pts.stages.train.shorten_inputs import ShortenInputs

if TYPE_CHECKING:
    from pts.policies import SteerablePolicy
    from pts.stages.train.subject import Subject
    from pts.training.samples import Asker
    from pts.training.solutions import Solution

_TOGETHER = 16
"""Problems whose completions are shortened together: what a kill may lose."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A search's results of the problems to train on."""

    path: Path
    problems: tuple[Problem, ...]
    results: dict[str, ProblemResult]

    def settings(self, inputs: ShortenInputs) -> dict[str, object]:
        """What decides what is learnt of it: its completions with their values, and the minimum effect."""
        parts = (
            f"{one.problem_id} {trace.completion} {trace.details and trace.details.values}"
            for one in self.results.values()
            for trace in one.traces
        )
        return {"search": text_digest(parts)[:16], "min_effect": inputs.minimum_effect()}


def open_searched(inputs: ShortenInputs, subject: Subject) -> Searched | None:
    """The search that the inputs name, as far as it is of their problems; None where they name none.

    Raises RunError for one of another model, prompt or sampler, and where it has none of these problems.
    """
    if inputs.from_search is None:
        return None
    run = read_search(inputs.from_search)
    _require_same(inputs, subject, run)
    results = {result.problem_id: result for result in run.results if result.traces}
    problems = tuple(problem for problem in subject.problems if problem.id in results)
    for problem in problems:
        found = results[problem.id]
        if (found.query, found.answer) != (problem.query, problem.answer):
            raise RunError(
                f"{run.path} searched another problem {problem.id}: give the data set that it searched."
            )
    if not problems:
        raise RunError(
            f"{run.path} has completions of {len(results)} problems, and none of these is among the "
            f"{len(subject.problems)} to train on: give the data set that it searched, with as many problems."
        )
    return Searched(run.path, problems, {problem.id: results[problem.id] for problem in problems})


def _require_same(inputs: ShortenInputs, subject: Subject, run: SearchResults) -> None:
    """Raise RunError where what a run says of its values holds for another model or sampler."""
    resolved, drawn = run.resolved, drawn_by(inputs, subject)
    names = ("model", "model_revision", "prompt_digest", "grader")
    changed = differences(
        {
            **dict(zip(names, (resolved.model_id, resolved.model_revision), strict=False)),
            "prompt_digest": resolved.prompt_digest,
            "grader": resolved.grader,
            "sampling": run.manifest.settings.get("sampling"),
        },
        {**{name: drawn[name] for name in names}, "sampling": inputs.sampling_settings()},
    )
    if changed:
        raise RunError(
            f"{run.path} is a search of another model or sampler ({'; '.join(changed)}): give its settings, or "
            f"another {setting('from_search')}."
        )


def searched_solutions(
    searched: Searched,
    inputs: ShortenInputs,
    subject: Subject,
    policy: SteerablePolicy,
    asker: Asker,
    journal: Journal[Solution],
    observe: Callable[[int, float], None],
) -> list[Solution]:
    """What is learnt of each problem with thinking: what the journal has, and what is made and written now."""
    from pts.training.sentence_effects import searched_solution, shorten_thoughts, thoughts_of

    assert subject.modes is not None
    known = {one.problem: one for one in journal.read() if one.mode == "thinking"}
    missing = [problem for problem in searched.problems if problem.id not in known]
    for start in range(0, len(missing), _TOGETHER):
        batch = missing[start : start + _TOGETHER]
        of_problem = [
            thoughts_of(
                problem, searched.results[problem.id], subject.modes, policy.decode, inputs.minimum_effect()
            )
            for problem in batch
        ]
        seed = derive_seed(inputs.seed, "shortened")
        shorter = iter(shorten_thoughts([one for part in of_problem for one in part], policy, asker, seed))
        found = [
            searched_solution(
                problem.id,
                subject.digests[problem.id],
                searched.results[problem.id],
                thoughts,
                [next(shorter) for _ in thoughts],
            )
            for problem, thoughts in zip(batch, of_problem, strict=True)
        ]
        journal.append(*found)
        known |= {one.problem: one for one in found}
        observe(0, (start + len(batch)) / len(missing))
    return [known[problem.id] for problem in searched.problems]
