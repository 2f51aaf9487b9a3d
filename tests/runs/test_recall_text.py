"""The phrase about recall in every report."""

from dataclasses import replace

import pytest

from pts.pivot_search.audit import RecallEstimate
from pts.runs.recall_text import recall_text
from pts.runs.search_run import read_search
from pts.runs.search_summary import SearchSummary, search_summary
from tests.publishing.artifacts import write_search_run

FOUND = RecallEstimate(0.9, 0.744, 0.981, 2.0, 0.4, 6.2, 18, 1, 31, 1234)
NOTHING = RecallEstimate(None, None, None, 0.0, 0.0, 12.3, 0, 0, 8, 90)


@pytest.fixture
def summary(tmp_path) -> SearchSummary:
    return search_summary(read_search(write_search_run(tmp_path / "run")))


def test_the_recall_stands_with_its_interval_and_what_it_rests_on(summary) -> None:
    assert recall_text(replace(summary, recall=FOUND)) == (
        "recall 90% (95% interval 74% to 98%), from fresh rollouts at 31 of 1,234 dropped tokens"
    )
    of_sentences = recall_text(replace(summary, recall=FOUND, unit="sentence"))
    assert of_sentences.endswith("31 of 1,234 dropped sentences")


def test_without_an_audit_or_findings_the_recall_is_unknown(summary) -> None:
    assert recall_text(summary) == "recall unknown, without an audit"
    assert recall_text(replace(summary, recall=NOTHING)) == (
        "recall unknown, since nothing was found; at most 12 missed, "
        "from fresh rollouts at 8 of 90 dropped tokens"
    )
