"""The card of a search run: what its pivotal tokens are, how sure they are, and what their fields hold."""

from __future__ import annotations

from collections.abc import Mapping

from pts.publishing.card_text import (
    base_model,
    code,
    front_matter,
    marked,
    parquet_config,
    signed,
    size_category,
    table,
)
from pts.records import PivotalToken
from pts.runs.pivotal_tokens import pivotal_tokens
from pts.runs.search_run import SearchResults, SearchSummary

TOKENS = "pivotal_tokens.parquet"
_SHOWN = 10
_BEFORE = 60


def search_card(run: SearchResults, name: str, repo_id: str | None, *, license_id: str | None = None) -> str:
    """The README.md of a search run's pivotal tokens, header included. Raises RunError."""
    summary, records = run.summary(), pivotal_tokens(run, run.findings)
    sections = [
        front_matter(
            {
                "license": license_id,
                "base_model": base_model(run.resolved.model_id, run.resolved.model_revision),
                "tags": ["pts", "pivotal-token-search", "pivotal-tokens"],
                "size_categories": [size_category(len(records))],
                "configs": parquet_config(TOKENS) if records else None,
            }
        ),
        f"# {name}\n",
        _what_it_is(summary),
        # A table without rows is one that `datasets` does not load.
        *(["## Use\n", _usage(name, repo_id)] if records else []),
        "## What was found\n",
        _largest(records),
        "## The run in numbers\n",
        _numbers(run, summary),
        _meaning(summary),
        "## Fields\n",
        table(["field", "what it holds"], [[f"`{field}`", what] for field, what in FIELDS.items()]),
    ]
    return marked("\n".join(sections))


def _what_it_is(summary: SearchSummary) -> str:
    count = summary.findings
    found = "**No pivotal tokens were found.**" if not count else f"{count} were found."
    cut = "" if summary.status == "complete" else f" The search is not complete ({summary.status})."
    return (
        f"Pivotal tokens of `{summary.model_id}` on `{summary.dataset_id}`: single tokens of its own "
        f"completions that moved the probability of a right answer by at least {summary.threshold:g}, each "
        f"measured by fresh rollouts with the token taken and with it avoided. {found}{cut}\n"
    )


def _usage(name: str, repo_id: str | None) -> str:
    if repo_id is None:
        load = f'load_dataset("parquet", data_files="{name}/{TOKENS}", split="train")'
    else:
        load = f'load_dataset("{repo_id}", split="train")'
    return (
        "```python\n"
        "from datasets import load_dataset\n\n"
        f"tokens = {load}\n"
        "for row in tokens:\n"
        '    print(repr(row["pivot_token"]), row["prob_delta"], (row["ci_low"], row["ci_high"]))\n'
        "```\n"
    )


def _largest(records: list[PivotalToken]) -> str:
    if not records:
        return "Nothing: no token passed the confirmation at the false discovery rate asked for.\n"
    chosen = sorted(records, key=lambda record: -abs(record.prob_delta))[:_SHOWN]
    rows = [
        [
            code(record.pivot_context[-_BEFORE:]),
            code(record.pivot_token),
            f"{record.prob_before:.2f} → {record.prob_after:.2f}",
            f"{signed(record.prob_delta)} [{signed(record.ci_low)}, {signed(record.ci_high)}]",
            f"{record.q_value:.2g}",
        ]
        for record in chosen
    ]
    lead = f"The {len(chosen)} largest:\n\n" if len(records) > len(chosen) else ""
    return lead + table(["after", "token", "success", "Δ and interval", "q-value"], rows)


def _numbers(run: SearchResults, summary: SearchSummary) -> str:
    sampling = run.manifest.settings.get("sampling")
    sampler = (
        ", ".join(f"{key} {value}" for key, value in sampling.items()) if isinstance(sampling, Mapping) else ""
    )
    rows: list[list[object]] = [
        ["model revision", run.resolved.model_revision or "not recorded"],
        ["number format", run.resolved.dtype],
        ["sampler", sampler or "not recorded"],
        ["grader", summary.grader],
        [
            "problems",
            f"{summary.searched} searched, {summary.out_of_range} out of range, {summary.spent} cut by the "
            f"spending limit, of {summary.problems}",
        ],
        ["traces", f"{summary.traces}, of {summary.trace_tokens:,} tokens"],
        ["candidates confirmed", summary.candidates],
        ["pivotal tokens", f"{summary.findings}: {summary.helping} help, {summary.harming} harm"],
        ["generated", f"{summary.tokens_generated:,} tokens"],
        ["completions cut by the budget", _cut(summary)],
        ["made", run.manifest.created],
        ["versions", ", ".join(f"{key} {value}" for key, value in run.manifest.versions.items())],
    ]
    return table(["what", "value"], rows) + "\n`manifest.json` has every setting, `summary.json` every count.\n"


def _cut(summary: SearchSummary) -> str:
    if summary.completions is None:
        return "not counted"
    drawn = sum(counted.drawn for counted in summary.completions.values())
    return f"{summary.cut_share or 0:.1%} of {drawn:,}"


def _meaning(summary: SearchSummary) -> str:
    return f"""## What the numbers mean
- Δ is the success probability just after the token minus that just before it, under the model *with \
its sampler*: with other settings other tokens are pivotal. Δ = (1 − q)(V − O), with q the \
probability of taking the token, V and O the success rates with it taken and avoided.
- The false discovery rate is {summary.fdr:g}: of the tokens listed, at most that share is expected to \
have a true |Δ| of at most {summary.threshold / 2:g}, half the threshold. A true |Δ| a little under \
{summary.threshold:g} may be listed.
- The intervals allow for the looks taken and for listing only what was found: of the intervals \
listed, {1 - summary.fdr:.0%} are expected to hold the true Δ.
- What is not listed is not shown to be harmless: a trace is one sample of what the model says, \
tokens outside the range or the region were not measured, and the screen may drop a pivotal token.
- Success is what the grader accepts within the token budget: a completion that the budget cuts \
fails.
- Texts come from the data set and the model; whoever uses them is bound by their terms.
"""


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
