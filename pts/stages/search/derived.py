"""What a search derives from its journals: the findings as records, and the summary."""

from __future__ import annotations

import json

from pts.runs.codec import to_json
from pts.runs.directory import RunDirectory
from pts.runs.files import replace_text
from pts.runs.pivotal_tokens import pivotal_tokens, sentences_of, tokens_of, write_jsonl, write_parquet
from pts.runs.search_run import SEARCH, SENTENCES, SearchResults, read_search
from pts.runs.search_summary import SearchSummary, search_summary


def write_derived(directory: RunDirectory) -> SearchSummary:
    """Write what is derived from the shard, unless it is there and right already; the run's summary."""
    searched = read_search(directory.path)
    summary = search_summary(searched)
    text = json.dumps(to_json(summary), ensure_ascii=False, indent=2) + "\n"
    if not _is_current(searched, text):
        records = pivotal_tokens(searched, searched.findings)
        write_jsonl(directory.path / "pivotal_tokens.jsonl", tokens_of(records))
        write_parquet(directory.path / "pivotal_tokens.parquet", tokens_of(records))
        as_lines, as_table = (directory.path / name for name in SENTENCES)
        if searched.unit == "token":  # Those of an earlier session, which searched sentences too.
            as_lines.unlink(missing_ok=True)
            as_table.unlink(missing_ok=True)
        else:
            write_jsonl(as_lines, sentences_of(records))
            write_parquet(as_table, sentences_of(records), "sentence")
        # Last: a summary that is up to date says that the others are.
        replace_text(directory.path / "summary.json", text)
    return summary


def _is_current(searched: SearchResults, summary: str) -> bool:
    sentences = SENTENCES if searched.unit != "token" else ()
    paths = [searched.path / name for name in (*sentences, *SEARCH.derived)]
    return all(path.exists() for path in paths) and paths[-1].read_text(encoding="utf-8") == summary
