"""The card of a search run: what its pivotal tokens are, how sure they are, and what their fields hold."""

from __future__ import annotations

from pts.publishing.card_text import base_model, front_matter, marked, parquet_configs, render, size_category
from pts.runs.pivotal_tokens import pivotal_tokens, sentences_of, tokens_of
from pts.runs.recall_text import recall_text
from pts.runs.rollout_table import FIELDS as ROLLOUT_FIELDS
from pts.runs.search_run import ROLLOUTS_TABLE, SENTENCES, SearchResults
from pts.runs.search_summary import search_summary

TOKENS = "pivotal_tokens.parquet"
_SHOWN = 10


def search_card(
    run: SearchResults,
    name: str,
    repo_id: str | None,
    *,
    license_id: str | None = None,
    rollouts: int | None = None,
) -> str:
    """The README.md of a search run's pivotal tokens, header included. Raises RunError.

    `rollouts` is the number of rows of the rollouts that are published with it, None where they are not.
    """
    summary, records = search_summary(run), pivotal_tokens(run, run.findings)
    counted = summary.completions
    tokens, sentences = tokens_of(records), sentences_of(records)
    tables = {"default": TOKENS} if tokens else {}
    tables |= {"sentences" if tokens else "default": SENTENCES[1]} if sentences else {}
    tables |= {} if rollouts is None else {"rollouts": ROLLOUTS_TABLE}
    text = render(
        "search_run.md.j2",
        header=front_matter(
            license=license_id,
            base_model=base_model(run.resolved.model_id, run.resolved.model_revision),
            tags=["pts", "pivotal-token-search", "pivotal-tokens"],
            size_categories=[size_category(len(records))],
            configs=parquet_configs(tables) if tables else None,
        ),
        name=name,
        repo_id=repo_id,
        file=SENTENCES[1] if sentences and not tokens else TOKENS,
        summary=summary,
        recall=recall_text(summary),
        records=records,
        largest=sorted(records, key=lambda record: -abs(record.prob_delta))[:_SHOWN],
        resolved=run.resolved,
        manifest=run.manifest,
        sampling=run.manifest.settings.get("sampling"),
        drawn=None if counted is None else sum(each.drawn for each in counted.values()),
        fields=FIELDS if summary.unit == "token" else {**FIELDS, **SENTENCE_FIELDS},
        rollouts=rollouts,
        rollout_fields=ROLLOUT_FIELDS,
    )
    return marked(text)


FIELDS = {
    "model_id": "the model",
    "query": "the problem as the data set gives it",
    "pivot_context": "the text before the token, prompt and chat template included",
    "pivot_token": "the token as text",
    "pivot_token_id": "its id in the model's vocabulary",
    "prob_before": "estimated success just before the token",
    "prob_after": "estimated success once it is taken",
    "prob_delta": "Δ, their difference",
    "is_positive": "whether the token raises success",
    "task_type": "the kind of problem",
    "dataset_id": "the data set",
    "dataset_item_id": "the problem in it",
    "timestamp": "when the run began, UTC",
    "context_token_ids": "`pivot_context` as token ids, which are exact where text is not",
    "prompt_length": "how many of those ids are the prompt",
    "trace": "which of the problem's completions, from 0",
    "position": "which token of the completion, from 0",
    "token_prob": "q, the sampler's probability of the token, after truncation",
    "off_trace_prob": "estimated success when the token is avoided",
    "ci_low": "lower end of the interval of Δ",
    "ci_high": "upper end of the interval of Δ",
    "p_value": "for |Δ| at most half the threshold",
    "q_value": "Benjamini and Hochberg's, over all candidates of the run",
    "n_rollouts": "rollouts behind the estimates",
    "alternatives": "other tokens drawn there: id, text, probability, success rate, rollouts",
    "tokens_generated": "tokens that the search of this problem generated",
    "seed": "the problem's seed",
    "schema_version": "the version of this layout",
}
"""Every field of a pivotal-token record, in the file's order."""
SENTENCE_FIELDS = {
    "end": "of a sentence: the token after its last, from 0",
    "token_ids": "of a sentence: its text (`pivot_token`) as token ids",
    "unit": "of a sentence: `sentence`",
    "prob_different": "of a sentence: estimated success where a different one is written in its place",
    "different_n": "of a sentence: rollouts that wrote a different one",
    "different_delta": "of a sentence: `prob_after` less `prob_different`",
    "different_low": "lower end of its interval",
    "different_high": "upper end of its interval",
    "function": "of a sentence: the reasoning pattern of which it has the most words",
    "links": "of a sentence: later sentences that are written more or less often where it is kept",
}
"""The fields that a record of a sentence has beside those, in the file's order."""
