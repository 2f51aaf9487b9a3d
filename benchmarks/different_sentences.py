"""What tells a different sentence: the words that it shares, or embeddings of the model itself.

    python benchmarks/different_sentences.py RUN

RUN is a search of sentences. For each sentence that it confirmed, the journal has the rollouts that left it and
what they wrote in its place. Both measures say which of these are different sentences. Printed are the share
that is, how often the two agree, and how far `prob_different` moves where one takes the place of the other.

Which is nearer to what matters is seen by outcomes: a rollout that says the same as the sentence should end as
those that kept it do. `outcome` is the chance that, of two rollouts that left the same sentence, the one that
ended on the side of the value after it is the one that is nearer to it, by words or by embeddings (0.5: the
measure says nothing), over sentences with |V − O| of at least 0.3. Intervals are 95% percentile bootstraps over
problems. Nothing is generated. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pts.models.load import ModelOptions, load_model
from pts.pivot_search.different import LONGEST, other_words, shared_words, words_of
from pts.pivot_search.embedded import EmbeddedSentences
from pts.pivot_search.results import Candidate
from pts.pivot_search.sentences import sentence_spans
from pts.policies.open import policy_of
from pts.records import TokenIds
from pts.runs.rollout_parts import read_parts
from pts.runs.search_run import ROLLOUTS, SearchResults, read_search

Floats = npt.NDArray[np.float64]

LEAST_GAP = 0.3
RESAMPLES = 1000
COLUMNS = ("problem", "phase", "key", "prefix", "completion", "count", "success")


@dataclass
class Left:
    """A confirmed sentence, and of the rollouts that left it what they wrote, how often, with what success."""

    problem: str
    candidate: Candidate
    written: list[str]
    counts: list[int]
    successes: list[bool]


def read_left(run: SearchResults, decode: Callable[[TokenIds], str]) -> list[Left]:
    """The sentences of a run with the rollouts that left them."""
    left = {
        (result.problem_id, c.trace, f"{c.position}-{c.end}"): Left(result.problem_id, c, [], [], [])
        for result in run.results
        for c in result.candidates
        if c.end is not None
    }
    for part in read_parts(run.path / ROLLOUTS, COLUMNS):
        for row in part.to_pylist():
            names: list[str] = row["key"].split("/")
            if row["phase"] != "confirm" or len(names) < 5 or names[-2] != "off":
                continue
            found = left.get((row["problem"], int(names[-5]), names[-3]))
            if found is None:
                continue
            tail = tuple(row["prefix"] + row["completion"])[found.candidate.position :][:LONGEST]
            found.written.append(decode(tail[: sentence_spans(tail, decode)[0][1]]) if tail else "")
            found.counts.append(row["count"])
            found.successes.append(row["success"])
    return [each for each in left.values() if each.written]


def pairs_won(scores: Sequence[float], like: npt.NDArray[np.bool_]) -> tuple[float, int]:
    """Pairs of a rollout that ended alike and one that did not: in how many the former scores more, and all."""
    values = np.asarray(scores)
    above = values[like][:, None] - values[~like][None]
    return float((above > 0).sum() + 0.5 * (above == 0).sum()), int(above.size)


def main() -> None:
    """Prints the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = read_search(parser.parse_args().run)
    policy = policy_of(load_model(ModelOptions(str(run.manifest.settings["model"]))))
    by_problem: dict[str, list[Left]] = defaultdict(list)
    for each in read_left(run, policy.decode):
        by_problem[each.problem].append(each)
    agree: list[float] = []
    shares: dict[str, list[float]] = defaultdict(list)
    moved: list[float] = []
    won: dict[str, dict[str, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
    for problem, sentences in by_problem.items():
        embedded = EmbeddedSentences(policy, [(s.candidate.token, s.written) for s in sentences])
        for s in sentences:
            text, counts, success = s.candidate.token, np.array(s.counts), np.array(s.successes)
            differs = {
                "words": np.array(other_words(text, s.written)),
                "embedding": np.array(embedded(text, s.written)),
            }
            agree.append(float(np.average(differs["words"] == differs["embedding"], weights=counts)))
            values = {}
            for name, other in differs.items():
                shares[name].append(float(np.average(other, weights=counts)))
                if other.any():
                    values[name] = float(np.average(success[other], weights=counts[other]))
            if len(values) == 2:
                moved.append(abs(values["words"] - values["embedding"]))
            gap = s.candidate.value - s.candidate.off_trace_value
            if abs(gap) >= LEAST_GAP:
                like = success if gap > 0 else ~success
                shared = [shared_words(words_of(text), words_of(other)) for other in s.written]
                won["words"][problem].append(pairs_won(shared, like))
                won["embedding"][problem].append(pairs_won(embedded.cosines(text, s.written), like))
    rollouts = sum(len(s.written) for sentences in by_problem.values() for s in sentences)
    means = {name: float(np.mean(each)) for name, each in shares.items()}
    print(f"{len(agree)} sentences of {len(by_problem)} problems, {rollouts} rollouts that left them")
    print(f"different: by words {means['words']:.2f}, by embedding {means['embedding']:.2f}")
    print(f"the two agree on {np.mean(agree):.2f} of the rollouts")
    print(f"prob_different moves by {np.mean(moved):.3f} (at most {max(moved):.3f}), {len(moved)} sentences")
    figures: dict[str, object] = {
        "different_by_words": round(means["words"], 3),
        "different_by_embedding": round(means["embedding"], 3),
        "agree": round(float(np.mean(agree)), 3),
        "moved": round(float(np.mean(moved)), 3),
    }
    problems = list(won["words"])
    table = {
        name: np.array([np.sum(won[name][p], axis=0) for p in problems]) for name in ("words", "embedding")
    }
    rng = np.random.default_rng(0)
    samples = [rng.integers(len(problems), size=len(problems)) for _ in range(RESAMPLES)]
    rates = {
        name: np.array([rows[at, 0].sum() / rows[at, 1].sum() for at in samples])
        for name, rows in table.items()
    }
    rates["embedding - words"] = rates["embedding"] - rates["words"]
    estimates = {name: rows[:, 0].sum() / rows[:, 1].sum() for name, rows in table.items()}
    estimates["embedding - words"] = estimates["embedding"] - estimates["words"]
    for name, estimate in estimates.items():
        low, high = np.quantile(rates[name], (0.025, 0.975))
        print(f"outcome, {name}: {estimate:.3f} ({low:.3f} to {high:.3f})")
        figures[f"outcome {name}"] = [round(float(v), 3) for v in (estimate, low, high)]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
