"""What a run's audit says of its recall, in one phrase for every report."""

from __future__ import annotations

from pts.runs.search_summary import SearchSummary


def recall_text(summary: SearchSummary) -> str:
    """The share that was found with its 95% interval, or what is known in its place."""
    recall = summary.recall
    if recall is None:
        return "recall unknown, without an audit"
    what = "sentences" if summary.unit == "sentence" else "tokens"
    audited = f"from fresh rollouts at {recall.audited:,} of {recall.dropped:,} dropped {what}"
    if recall.recall is None:
        return f"recall unknown, since nothing was found; at most {recall.missed_high:.0f} missed, {audited}"
    return f"recall {recall.recall:.0%} (95% interval {recall.low:.0%} to {recall.high:.0%}), {audited}"
