"""Preference pairs for DPO from a search run, in TRL's standard format, with what was measured of both sides.

Only pairs whose difference is confirmed: the pivot is one of the run's findings, the interval of value(pivot) −
value(alternative) is clear of 0, and so says an exact test. Findings are selected among candidates, so both are
at the level 1 − fdr·R/m of R findings among m candidates (Benjamini and Yekutieli 2005), its complement divided
(Bonferroni) by the planned looks and, for the differences, by the alternatives that were drawn. The test is
there because alternatives are drawn rarely: against 3 rollouts, Newcombe's interval alone is clear of 0 up to
17 times as often as its level says where nothing differs.

TRL (read in 1.16) tokenizes `prompt`, `chosen` and `rejected` again and appends the end token to both sides, so
it also trains what follows the token. `prompt_ids`, `chosen_ids` and `rejected_ids` are the columns that its
collator takes: a DPOTrainer whose `_prepare_dataset` returns the data set as it is trains on exactly the ids
measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pts.errors import DataError, ModelError
from pts.pivot_search.findings import Finding
from pts.pivot_search.results import Alternative
from pts.records import SCHEMA_VERSION, TokenIds
from pts.runs.codec import known_keys
from pts.runs.record_files import write_jsonl_records, write_parquet_records
from pts.runs.search_run import SearchResults
from pts.stats import difference_interval, difference_p_value, proportion_interval

logger = logging.getLogger(__name__)

_BROKEN_CHARACTER = "�"


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A better and a worse next token after the same prompt.

    `prompt` is the text of the chat template and the completion so far, `chosen` and `rejected` what one more
    token adds to it; the `*_ids` are the same as token ids. A side's value is its measured success rate over
    `*_n` rollouts, `*_low` and `*_high` bound it, and `*_prob` is the policy's probability of the token.
    `difference` is chosen less rejected; its interval is clear of 0. The expected share of pivots with a pair
    the wrong way round is at most the run's false discovery rate.
    """

    prompt: str
    chosen: str
    rejected: str
    prompt_ids: TokenIds
    chosen_ids: TokenIds
    rejected_ids: TokenIds
    chosen_value: float
    chosen_low: float
    chosen_high: float
    chosen_n: int
    chosen_prob: float
    rejected_value: float
    rejected_low: float
    rejected_high: float
    rejected_n: int
    rejected_prob: float
    difference: float
    difference_low: float
    difference_high: float
    model_id: str
    query: str
    dataset_id: str
    dataset_item_id: str
    trace: int
    position: int
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class _Side:
    """One token of a pair as it was measured."""

    token_id: int
    prob: float
    successes: int
    n: int

    @property
    def value(self) -> float:
        return self.successes / self.n


def preference_pairs(run: SearchResults, decode: Callable[[TokenIds], str]) -> list[PreferencePair]:
    """Every confirmed pair of the run, the strongest findings first, an alternative each.

    `decode` turns ids into text by the run's own tokenizer. A pair whose token is part of a character, or
    changes the text before it, has no text form; such pairs are left out, with a warning in the log. Raises
    DataError where the run has no confirmed pair, ModelError where the tokenizer is not the run's.
    """
    candidates = sum(len(result.candidates) for result in run.results)
    miss = run.fdr * len(run.findings) / max(candidates, 1)
    pairs: list[PreferencePair] = []
    without_text = 0
    for finding in run.findings:
        _check_tokenizer(run, finding, decode)
        for chosen, rejected, interval in _confirmed(finding, miss):
            pair = _pair(run, finding, decode, (chosen, rejected), interval, miss)
            without_text += pair is None
            pairs += [] if pair is None else [pair]
    if without_text:
        logger.warning("%d pairs are left out: their tokens are only a part of a character.", without_text)
    if not pairs:
        raise DataError(
            f"{run.path} has no pair whose difference is confirmed ({len(run.findings)} findings): "
            "search more problems."
        )
    return pairs


def write_pairs_jsonl(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Replace `path` by one JSON object a line. Raises RunError where the system refuses."""
    write_jsonl_records(path, pairs)


def write_pairs_parquet(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Replace `path` by a Parquet table, ids as lists. Raises RunError where the system refuses."""
    import pyarrow as pa

    texts = {"prompt", "chosen", "rejected", "model_id", "query", "dataset_id", "dataset_item_id"}
    whole = {"chosen_n", "rejected_n", "trace", "position", "schema_version"}

    def kind(name: str) -> pa.DataType:
        if name.endswith("_ids"):
            return pa.list_(pa.int64())
        return pa.string() if name in texts else pa.int64() if name in whole else pa.float64()

    schema = pa.schema([(name, kind(name)) for name in known_keys(PreferencePair)])
    write_parquet_records(path, pairs, schema)


def _confirmed(finding: Finding, miss: float) -> Iterator[tuple[_Side, _Side, tuple[float, float]]]:
    """Chosen, rejected and the interval of their difference, for each alternative that is surely other."""
    candidate = finding.candidate
    taken = _Side(candidate.token_id, candidate.token_prob, candidate.value_successes, candidate.value_n)
    level = 1.0 - miss / (candidate.looks * max(len(candidate.alternatives), 1))
    for other in map(_side, candidate.alternatives):
        counts = (taken.successes, taken.n, other.successes, other.n)
        low, high = difference_interval(*counts, level)
        if low * high <= 0 or difference_p_value(*counts, margin=0.0) > 1.0 - level:
            continue
        yield (taken, other, (low, high)) if low > 0 else (other, taken, (-high, -low))


def _side(alternative: Alternative) -> _Side:
    successes = round(alternative.value * alternative.n)
    return _Side(alternative.token_id, alternative.prob, successes, alternative.n)


def _pair(
    run: SearchResults,
    finding: Finding,
    decode: Callable[[TokenIds], str],
    sides: tuple[_Side, _Side],
    difference: tuple[float, float],
    miss: float,
) -> PreferencePair | None:
    result, candidate = finding.problem, finding.candidate
    prompt_ids = result.prompt + result.traces[candidate.trace].completion[: candidate.position]
    prompt = decode(prompt_ids)
    texts = [_added_text(prompt, decode((*prompt_ids, side.token_id))) for side in sides]
    if texts[0] is None or texts[1] is None or texts[0] == texts[1]:
        return None
    chosen, rejected = sides
    intervals = [proportion_interval(s.successes, s.n, 1.0 - miss / candidate.looks) for s in sides]
    return PreferencePair(
        prompt=prompt,
        chosen=texts[0],
        rejected=texts[1],
        prompt_ids=prompt_ids,
        chosen_ids=(chosen.token_id,),
        rejected_ids=(rejected.token_id,),
        chosen_value=chosen.value,
        chosen_low=intervals[0][0],
        chosen_high=intervals[0][1],
        chosen_n=chosen.n,
        chosen_prob=chosen.prob,
        rejected_value=rejected.value,
        rejected_low=intervals[1][0],
        rejected_high=intervals[1][1],
        rejected_n=rejected.n,
        rejected_prob=rejected.prob,
        difference=chosen.value - rejected.value,
        difference_low=difference[0],
        difference_high=difference[1],
        model_id=run.resolved.model_id,
        query=result.query,
        dataset_id=run.resolved.dataset_id,
        dataset_item_id=result.problem_id,
        trace=candidate.trace,
        position=candidate.position,
    )


def _added_text(before: str, through: str) -> str | None:
    """What one more token adds to a text; None where that is no whole character or changes the text."""
    added = through.removeprefix(before)
    whole = through.startswith(before) and added and _BROKEN_CHARACTER not in before[-1:] + added
    return added if whole else None


def _check_tokenizer(run: SearchResults, finding: Finding, decode: Callable[[TokenIds], str]) -> None:
    """Raise ModelError unless the tokenizer gives the prompt the text that the run recorded of it."""
    if not run.context(finding).before.startswith(decode(finding.problem.prompt)):
        raise ModelError(
            f"the tokenizer of {run.resolved.model_id} gives other text than in {run.path}: "
            "the model has changed since the search; use the revision that was searched."
        )
