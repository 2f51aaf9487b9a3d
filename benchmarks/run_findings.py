"""Sums up a search run for people: what each bound removed, and its first findings in the model's own words.

    python benchmarks/run_findings.py RUN [--findings 10]

Holds item ids and completions, nothing of the data set's text. The last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import get_args

from pts.demo.vocabulary import ORDERING_WORDS
from pts.pivot_search import Finding
from pts.pivot_search.results import Unit
from pts.runs.codec import to_json
from pts.runs.search_run import SearchResults, read_search
from pts.runs.search_summary import search_summary

PATTERNS = {
    "Split": "numerical_accuracy",
    "Wait": "self_correction",
    "Alternatively": "exploration",
    "Check": "depth_and_thoroughness",
    **dict.fromkeys(ORDERING_WORDS, "organization"),
}
"""The demo language's opening words and the pattern that each stands for."""


def completion_before(run: SearchResults, finding: Finding) -> str:
    """What the model had said before the token, without the prompt and the problem's text."""
    trace = finding.problem.traces[finding.candidate.trace]
    joined = "".join(trace.tokens[: finding.candidate.position])
    said = run.context(finding).before
    # Tokens decoded alone may lose their spaces, so the completion's text is the context's tail.
    wanted, start = len(joined.replace(" ", "")), len(said)
    while wanted > 0 and start > 0:
        start -= 1
        wanted -= said[start] != " "
    return said[start:]


def described(run: SearchResults, finding: Finding) -> str:
    """A finding as a paragraph of Markdown."""
    c, context = finding.candidate, run.context(finding)
    others = ", ".join(
        f"`{a.token.strip()}` {a.value:.2f} (q {a.prob:.2f}, n {a.n})" for a in c.alternatives[:3]
    )
    if c.unit == "sentence":
        others = f"{c.off_trace_value:.2f} (n {c.off_trace_n})"
        if c.different_n:
            share = c.different_successes / c.different_n
            others += f", with a different sentence {share:.2f} (n {c.different_n})"
    before = completion_before(run, finding).replace("\n", " ⏎ ")
    after = context.after.replace("\n", " ⏎ ")
    token = context.token.strip().replace("\n", " ⏎ ") or repr(context.token)
    return (
        f"- `{finding.problem.problem_id}`, from token {c.position}, q = {c.token_prob:.2f}: "
        f"…{before} **⟦{token}⟧** {after}  \n"
        f"  P(success) {c.value_before:.2f} → {c.value:.2f}, Δ = {c.delta:+.2f} "
        f"[{finding.ci_low:+.2f}, {finding.ci_high:+.2f}]; instead: {others}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--findings", type=int, default=10)
    options = parser.parse_args()
    run = read_search(options.run)
    summary = search_summary(run)
    for unit in get_args(Unit):
        found = [finding for finding in run.findings if finding.candidate.unit == unit]
        shown = found[:: max(1, len(found) // max(1, options.findings))][: options.findings]
        if shown:
            print(f"## {len(shown)} of {len(found)} {unit}s, evenly over the list by |Δ|")
        for finding in shown:
            print(described(run, finding))
    patterns = Counter(PATTERNS.get(f.candidate.token.strip(), "other") for f in run.findings)
    versions = {key: run.manifest.versions[key] for key in sorted(run.manifest.versions)}
    figures = {"summary": to_json(summary), "opening_words": dict(patterns), "versions": versions}
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
