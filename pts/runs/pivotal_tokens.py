"""The findings of a search run, tokens and sentences, as records: JSON Lines and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pts.lexicon import label_sentence
from pts.pivot_search.findings import Finding
from pts.pivot_search.results import Unit
from pts.runs.finding_records import PivotalSentence, PivotalToken
from pts.runs.record_files import write_jsonl_records, write_parquet_records
from pts.runs.search_run import SearchResults


def pivotal_tokens(run: SearchResults, findings: Sequence[Finding]) -> list[PivotalToken]:
    """Findings of the run as records, in their order; a function of the manifest and the shard alone."""
    return [_record(run, finding) for finding in findings]


def tokens_of(records: Sequence[PivotalToken]) -> list[PivotalToken]:
    """The records of tokens."""
    return [record for record in records if not isinstance(record, PivotalSentence)]


def sentences_of(records: Sequence[PivotalToken]) -> list[PivotalSentence]:
    """The records of sentences."""
    return [record for record in records if isinstance(record, PivotalSentence)]


def write_jsonl(path: Path, records: Sequence[PivotalToken]) -> None:
    """Replace `path` by one JSON object a line. Raises RunError where the system refuses."""
    write_jsonl_records(path, records)


def write_parquet(path: Path, records: Sequence[PivotalToken], unit: Unit = "token") -> None:
    """Replace `path` by a Parquet table of the records of one unit, alternatives nested. Raises RunError."""
    import pyarrow as pa

    number, real, text = pa.int64(), pa.float64(), pa.string()
    alternative = pa.struct(
        [("token_id", number), ("token", text), ("prob", real), ("value", real), ("n", number)]
    )
    # Written out: an empty run has the same columns as a full one.
    columns = (
        [(name, text) for name in ("model_id", "query", "pivot_context", "pivot_token")]
        + [("pivot_token_id", number)]
        + [(name, real) for name in ("prob_before", "prob_after", "prob_delta")]
        + [("is_positive", pa.bool_())]
        + [(name, text) for name in ("task_type", "dataset_id", "dataset_item_id", "timestamp")]
        + [("context_token_ids", pa.list_(number))]
        + [(name, number) for name in ("prompt_length", "trace", "position")]
        + [(name, real) for name in ("token_prob", "off_trace_prob", "ci_low", "ci_high", "p_value", "q_value")]
        + [("n_rollouts", number), ("alternatives", pa.list_(alternative))]
        + [(name, number) for name in ("tokens_generated", "seed", "schema_version")]
    )
    if unit == "sentence":
        columns += [("end", number), ("token_ids", pa.list_(number)), ("unit", text)]
        columns += [("prob_different", real), ("different_n", number)]
        columns += [(name, real) for name in ("different_delta", "different_low", "different_high")]
        shares = ("written", "written_without", "low", "high", "p_value", "q_value")
        link = pa.struct([("text", text), ("position", number), *((name, real) for name in shares)])
        columns += [("function", text), ("links", pa.list_(link))]
    write_parquet_records(path, records, pa.schema(columns))


def _record(run: SearchResults, finding: Finding) -> PivotalToken:
    result, candidate = finding.problem, finding.candidate
    trace = result.traces[candidate.trace]
    before = candidate.position
    token = PivotalToken(
        model_id=run.resolved.model_id,
        query=result.query,
        pivot_context=run.context(finding).before,
        pivot_token=candidate.token,
        pivot_token_id=candidate.token_id,
        prob_before=candidate.value_before,
        prob_after=candidate.value,
        prob_delta=candidate.delta,
        is_positive=candidate.delta > 0,
        task_type=run.resolved.problem_schema,
        dataset_id=run.resolved.dataset_id,
        dataset_item_id=result.problem_id,
        # The run's own time, not the clock's: what is derived again on a resume is the same, byte for byte.
        timestamp=run.manifest.created,
        context_token_ids=result.prompt + trace.completion[:before],
        prompt_length=len(result.prompt),
        trace=candidate.trace,
        position=before,
        token_prob=candidate.token_prob,
        off_trace_prob=candidate.off_trace_value,
        ci_low=finding.ci_low,
        ci_high=finding.ci_high,
        p_value=candidate.p_value,
        q_value=finding.q_value,
        n_rollouts=candidate.value_n + candidate.off_trace_n,
        alternatives=candidate.alternatives,
        tokens_generated=result.tokens_generated,
        seed=result.seed,
    )
    if candidate.end is None:
        return token
    ids = trace.completion[before : candidate.end]
    shared = {each.name: getattr(token, each.name) for each in fields(token)}
    interval = finding.different_interval
    different = candidate.different_successes / candidate.different_n if interval is not None else None
    return PivotalSentence(
        **shared,
        end=candidate.end,
        token_ids=ids,
        prob_different=different,
        different_n=candidate.different_n,
        different_delta=None if different is None else candidate.value - different,
        different_low=None if interval is None else interval[0],
        different_high=None if interval is None else interval[1],
        function=label_sentence(candidate.token),
        links=run.links_of(finding),
    )
