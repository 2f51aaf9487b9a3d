"""A search's run directory as a reader sees it: its manifest and its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pts.errors import DataError, RunError
from pts.pivot_search.audit import RecallEstimate, estimate_recall
from pts.pivot_search.config import Phase, SearchUnit, SentenceMeasure
from pts.pivot_search.findings import Finding, select_findings
from pts.pivot_search.links import select_links
from pts.pivot_search.results import FATE_LETTERS, Fate, ProblemResult, SentenceLink
from pts.records import Completions, Sampling
from pts.runs.codec import ShapeError, from_json, to_json
from pts.runs.directory import RunKind, find_run
from pts.runs.manifest import Manifest, text_digest
from pts.runs.rollout_journal import rollout_totals
from pts.runs.shard import Context, ShardLine, latest_results, results_journal

T = TypeVar("T")

ROLLOUTS = "rollouts"
"""The folder of the run's rollouts (`pts.runs.rollout_journal`)."""
ROLLOUTS_TABLE = "rollouts.parquet"
"""The rollouts as a table for others, made where they are published (`pts.runs.rollout_table`)."""
SENTENCES = ("pivotal_sentences.jsonl", "pivotal_sentences.parquet")
"""The findings that are sentences, in a run that searched them."""
SEARCH = RunKind(
    name="search",
    shard="problems.jsonl",
    derived=("pivotal_tokens.jsonl", "pivotal_tokens.parquet", "summary.json"),
    others=(ROLLOUTS, ROLLOUTS_TABLE, *SENTENCES),
)


@dataclass(frozen=True, slots=True)
class SearchResolved:
    """What the settings of a search came to mean, once the model and the data were read.

    `model_revision` is a commit or a digest of local files, chat template included; `attention` the
    implementation of it that the model computes with; `problem_schema` the data set's kind, as detected.
    `prompt_date` is the local time that a chat template which writes the date is given in every session (None
    where it writes none), `prompt_digest` that of a fixed question's prompt. Earlier versions lack these three.
    """

    model_id: str
    model_revision: str | None
    dtype: str
    think_end: str | None
    dataset_id: str
    problem_schema: str
    grader: str
    attention: str | None = None
    prompt_date: str | None = None
    prompt_digest: str | None = None


@dataclass(frozen=True, slots=True)
class SearchEnvironment:
    """What may differ between the sessions of one run: it changes what is paid, or when, never a result.

    `max_tokens` is the run's spending limit in generated tokens, `limit` the number of problems asked for;
    `sandbox` names what held in the programs of the last session that ran some. `tensor_parallel` is over how
    many GPUs the model was divided, None where that was not requested.
    """

    device: str
    batch_rows: int | None
    max_tokens: int | None
    limit: int | None
    sandbox: tuple[str, ...] | None = None
    tensor_parallel: int | None = None


@dataclass(frozen=True)
class SearchResults:
    """A search's directory, read without its lock: complete or not."""

    path: Path
    manifest: Manifest
    lines: tuple[ShardLine, ...]

    @cached_property
    def resolved(self) -> SearchResolved:
        """What the run's settings came to mean. Raises RunError."""
        return self._read(SearchResolved, self.manifest.resolved, "resolved")

    @cached_property
    def fdr(self) -> float:
        """The false discovery rate that the run was asked to hold. Raises RunError."""
        return self._setting("fdr")

    @cached_property
    def threshold(self) -> float:
        """The least |Δ| of a finding. Raises RunError."""
        return self._setting("threshold")

    @cached_property
    def unit(self) -> SearchUnit:
        """What was searched; tokens in a run of an earlier version. Raises RunError."""
        search = self.manifest.settings.get("search")
        value = search.get("unit", "token") if isinstance(search, Mapping) else "token"
        unit: SearchUnit = self._read(SearchUnit, value, "settings.search.unit")  # type: ignore[arg-type]
        return unit

    @cached_property
    def different(self) -> SentenceMeasure:
        """By what a sentence is a different one; words in a run of an earlier version. Raises RunError."""
        search = self.manifest.settings.get("search")
        value = search.get("different", "words") if isinstance(search, Mapping) else "words"
        found: SentenceMeasure = self._read(SentenceMeasure, value, "settings.search.different")  # type: ignore[arg-type]
        return found

    @cached_property
    def sampling(self) -> Sampling:
        """How the run's completions are sampled. Raises RunError."""
        return self._read(Sampling, self.manifest.settings.get("sampling"), "settings.sampling")

    @cached_property
    def budget(self) -> int:
        """The most new tokens of a completion. Raises RunError."""
        sampling = self.manifest.settings.get("sampling")
        value = sampling.get("budget") if isinstance(sampling, Mapping) else None
        return self._read(int, value, "settings.sampling.budget")

    def _setting(self, name: str) -> float:
        search = self.manifest.settings.get("search")
        value = search.get(name) if isinstance(search, Mapping) else None
        return self._read(float, value, f"settings.search.{name}")

    @cached_property
    def environment(self) -> SearchEnvironment:
        """What may differ between sessions, as of the latest. Raises RunError."""
        return self._read(SearchEnvironment, self.manifest.environment, "environment")

    @cached_property
    def settled(self) -> dict[str, ShardLine]:
        """Each problem's last line by the run's settings, by problem id, in the order searched."""
        return latest_results(self.lines, search_digest(self.manifest.settings))

    @cached_property
    def latest(self) -> dict[str, ShardLine]:
        """The same, and where sentences are being added those of the tokens that wait for theirs."""
        tokens = tokens_alone(self.manifest.settings)
        return ({} if tokens is None else latest_results(self.lines, search_digest(tokens))) | self.settled

    @cached_property
    def paid(self) -> Mapping[str, tuple[int, Completions]]:
        """Tokens and completions generated over all sessions, by phase, from the journal of rollouts."""
        return rollout_totals(self.path / ROLLOUTS)

    @cached_property
    def results(self) -> list[ProblemResult]:
        """Each problem's result, the last one where it was searched again."""
        return [line.result for line in self.latest.values()]

    @cached_property
    def findings(self) -> list[Finding]:
        """The pivotal tokens among all results so far, at the run's false discovery rate."""
        return select_findings(self.results, self.fdr)

    @cached_property
    def _links(self) -> dict[tuple[str, int, int], tuple[SentenceLink, ...]]:
        return select_links([f for f in self.findings if f.candidate.unit == "sentence"], self.fdr)

    def links_of(self, finding: Finding) -> tuple[SentenceLink, ...]:
        """The later sentences that a reported sentence makes more or less likely, chosen over the whole run."""
        candidate = finding.candidate
        if candidate.unit == "token":
            return ()
        return self._links.get((finding.problem.problem_id, candidate.trace, candidate.position), ())

    @cached_property
    def recall(self) -> RecallEstimate | None:
        """What share of the pivotal tokens the findings are, by the audit; None without one."""
        # Where both are searched, the audit is of tokens.
        audited = [f for f in self.findings if self.unit != "both" or f.candidate.unit == "token"]
        return estimate_recall(self.results, audited)

    def context(self, finding: Finding) -> Context:
        """A finding's surroundings as text, as they were decoded when the problem was searched."""
        line = self.latest[finding.problem.problem_id]
        return line.contexts[line.result.candidates.index(finding.candidate)]

    def findings_of(self, problem: str | None) -> list[Finding]:
        """The findings of one problem, chosen over the whole run; all of them for None.

        Raises DataError for a problem that the run has no result of.
        """
        if problem is None:
            return self.findings
        if problem not in self.latest:
            known = ", ".join(list(self.latest)[:3])
            raise DataError(f"{self.path} has no result for problem {problem}; it has {known or 'none'}, ...")
        return [finding for finding in self.findings if finding.problem.problem_id == problem]

    def fates(self, problem: str, trace: int) -> tuple[Fate | Literal["found"], ...] | None:
        """What became of each token of a trace, a confirmed one that is a finding as "found".

        Where only sentences were searched, that of its sentence.
        None where an earlier version searched, which did not keep it. Raises DataError for an unknown problem.
        """
        candidates = [
            f.candidate
            for f in self.findings_of(problem)
            if f.candidate.trace == trace and (self.unit != "both" or f.candidate.unit == "token")
        ]
        found = {position for c in candidates for position in range(c.position, c.end or c.position + 1)}
        details = self.latest[problem].result.traces[trace].details
        if details is None:
            return None
        return tuple(
            "found" if position in found else FATE_LETTERS[letter]
            for position, letter in enumerate(details.fates)
        )

    @property
    def tokens_lost(self) -> int:
        """Tokens that the results were paid for and whose rollouts are no longer in the journal."""
        paid = sum(line.paid for line in self.lines if line.paid is not None)
        return max(0, paid - sum(tokens for tokens, _ in self.paid.values()))

    @property
    def tokens_spent(self) -> int:
        """Tokens generated over all sessions, each rollout counted once."""
        return sum(self.tokens_in(phase) for phase in get_args(Phase)) + self.tokens_lost

    def tokens_in(self, phase: Phase) -> int:
        """Tokens generated in a phase over all sessions."""
        recorded, _ = self.paid.get(phase, (0, Completions()))
        unrecorded = (getattr(result, f"tokens_{phase}") for result in self._unrecorded)
        return recorded + sum(map(int, unrecorded))

    @property
    def completions(self) -> dict[str, Completions] | None:
        """All completions by phase; None where a result does not say, or the journal is gone."""
        if self.tokens_lost:
            return None
        total = {phase: self.paid.get(phase, (0, Completions()))[1] for phase in get_args(Phase)}
        for result in self._unrecorded:
            if result.completions is None:
                return None
            for phase, counted in result.completions.items():
                total[phase] = total.get(phase, Completions()) + counted
        return total if self.lines or self.paid else {}

    @property
    def _unrecorded(self) -> list[ProblemResult]:
        """The results whose rollouts an earlier version did not record."""
        return [line.result for line in self.lines if line.paid is None]

    def _read(self, kind: type[T], data: object, where: str) -> T:
        try:
            return from_json(kind, data, where)
        except ShapeError as error:
            raise RunError(
                f"{self.path / 'manifest.json'} cannot be read ({error}); search again, into another directory."
            ) from error


def search_digest(settings: Mapping[str, object]) -> str:
    """Names the settings that decide a problem's result in a run; the false discovery rate decides none."""
    search = settings.get("search")
    decisive = dict(search) if isinstance(search, Mapping) else {}
    decisive.pop("fdr", None)
    if not decisive.get("audit"):
        decisive.pop("audit", None)  # As in versions that had none.
    return text_digest([json.dumps(to_json(decisive), sort_keys=True)])[:16]


def tokens_alone(settings: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of the search of tokens that a search of both adds sentences to; None for another one."""
    search = settings.get("search")
    if not isinstance(search, Mapping) or search.get("unit") != "both":
        return None
    return {
        **settings,
        "search": {name: value for name, value in search.items() if name not in ("unit", "different")},
    }


def read_search(path: Path) -> SearchResults:
    """The search run at `path`, whether it is complete, cut or still going. Raises RunError."""
    manifest = find_run(path)
    if manifest.kind != SEARCH.name:
        raise RunError(
            f"{path} holds another kind of run ({manifest.kind}, not {SEARCH.name}); `pts vectors show` "
            "shows a vector set, and a stopped extraction goes on by its own command."
        )
    return SearchResults(path, manifest, tuple(results_journal(path / SEARCH.shard).read()))
