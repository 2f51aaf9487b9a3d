"""Soft thinking without training on the demo model: a mixture of embeddings in place of each thinking token.

    python benchmarks/soft_thinking.py [--problems 500] [--samples 4]

While it thinks, the next input is the mean of the token embeddings under the truncated distribution (Zhang et
al., Soft Thinking, 2025) in place of one drawn token's. The likeliest token carries nearly all the mixture, so
that it follows one thread; noise in the weights loosens that (Wu et al., LLMs are Single-threaded Reasoners,
2025): Gumbel noise, softmax((log p + g) / τ), or weights drawn from a Dirichlet distribution with parameters
α · p. Thinking ends where the largest weight is on its end tag, which is then put in as a token; the answer is
drawn token by token. `discrete` is the same loop with all weight on the drawn token: the strategy `full`.
`nothink` closes thinking at once.

Success and tokens (a mixture counts as one) on test problems, each against `discrete`, paired by problem. The
last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from transformers import DynamicCache

from pts.decoding import SteeredDecoder
from pts.demo.problems import demo_problems
from pts.evaluation.paired_systems import PairedSystems
from pts.graders import make_grader
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.policies.transformers.distribution import truncate
from pts.records import Sampling

SAMPLING = Sampling(budget=96)
Weigh = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From probabilities [rows, width] to the weights of the mixture, of the same shape."""


def drawn(probs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All weight on one token, drawn."""
    uniform = rng.random((len(probs), 1)) * probs.sum(axis=1, keepdims=True)
    chosen = (np.cumsum(probs, axis=1) > uniform).argmax(axis=1)
    return np.eye(probs.shape[1])[chosen]


def plain(probs: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """The probabilities themselves."""
    return probs


def gumbel(temperature: float) -> Weigh:
    """Softmax of the log-probabilities with Gumbel noise; the largest weight is an exact draw."""

    def weigh(probs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        with np.errstate(divide="ignore"):
            scores = (np.log(probs) + rng.gumbel(size=probs.shape)) / temperature
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    return weigh


def dirichlet(concentration: float) -> Weigh:
    """Weights from a Dirichlet distribution around the probabilities."""

    def weigh(probs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        weights = rng.gamma(concentration * probs + 1e-12) * (probs > 0)
        # Where every part is too small for a float, the draw is all but one token's.
        empty = weights.sum(axis=1) == 0
        weights[empty] = drawn(probs[empty], rng)
        return weights / weights.sum(axis=1, keepdims=True)

    return weigh


SYSTEMS: dict[str, Weigh] = {
    "discrete": drawn,
    "nothink": drawn,
    "soft": plain,
    "soft, Gumbel 0.5": gumbel(0.5),
    "soft, Dirichlet 4": dirichlet(4.0),
}


class SoftDecoder:
    """The demo model with mixtures of embeddings for thinking tokens."""

    def __init__(self, sampling: Sampling = SAMPLING) -> None:
        self.sampling = sampling
        self.loaded = load_model(ModelOptions(spec="demo"))
        self.model = self.loaded.model
        self.table = self.model.get_input_embeddings().weight
        with SteeredDecoder(self.loaded, None, "full", sampling=sampling).session([]) as session:
            self.session = session
            (self.end,) = session.think.end
            self.stops = set(session.policy.end_token_ids)

    @torch.no_grad()
    def complete(
        self, prompts: list[tuple[int, ...]], weigh: Weigh, rng: np.random.Generator, closed: bool
    ) -> list[list[int]]:
        """Completions of prompts of one length, each thinking token as the largest weight of its mixture.

        `closed`: the prompts have closed thinking.
        """
        written: list[list[int]] = [[] for _ in prompts]
        rows = np.arange(len(prompts))
        thinks = np.full(len(prompts), not closed)
        cache = DynamicCache(config=self.model.config)
        inputs = self.table[torch.tensor(prompts)]
        for _ in range(self.sampling.budget):
            out = self.model(inputs_embeds=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
            found = truncate(out.logits[:, -1], self.sampling)
            weights = np.where(thinks[:, None], weigh(found.probs, rng), drawn(found.probs, rng))
            tokens = found.ids[np.arange(len(rows)), weights.argmax(axis=1)]
            hard = ~thinks | (tokens == self.end) | np.isin(tokens, list(self.stops))
            weights[hard] = np.eye(weights.shape[1])[weights[hard].argmax(axis=1)]
            for row, token in zip(rows, tokens, strict=True):
                written[row].append(int(token))
            thinks &= tokens != self.end
            going = np.flatnonzero(~np.isin(tokens, list(self.stops)))
            if not len(going):
                break
            mixed = (
                torch.tensor(weights, dtype=self.table.dtype)[:, None, :]
                @ self.table[torch.from_numpy(found.ids)]
            )
            if len(going) < len(rows):
                cache.batch_select_indices(torch.from_numpy(going))
            rows, thinks, inputs = rows[going], thinks[going], mixed[going]
        return written


def measure(decoder: SoftDecoder, count: int, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Success and tokens of every system [systems, problems, samples]."""
    problems = demo_problems("test", count, seed)
    grader = make_grader("demo")
    by_length = defaultdict(list)
    for at, problem in enumerate(problems):
        prompt = decoder.session.encode(problem.query)
        by_length[len(prompt)] += [(at, k, prompt) for k in range(samples)]
    success = np.zeros((len(SYSTEMS), count, samples))
    tokens = np.zeros_like(success)
    for system, (name, weigh) in enumerate(SYSTEMS.items()):
        rng = np.random.default_rng(seed)
        for rows in by_length.values():
            closed = [decoder.end] if name == "nothink" else []
            done = decoder.complete([(*prompt, *closed) for *_, prompt in rows], weigh, rng, bool(closed))
            for (at, k, _), rest in zip(rows, done, strict=True):
                completion = closed + rest
                tokens[system, at, k] = len(completion)
                if completion[-1] in decoder.stops and decoder.end in completion:
                    answer = completion[completion.index(decoder.end) + 1 :]
                    text = decoder.session.policy.decode(tuple(answer))
                    success[system, at, k] = grader(text, problems[at].answer)
    return success, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    success, tokens = measure(SoftDecoder(), options.problems, options.samples, options.seed)
    paired = PairedSystems(success, tokens)
    figures = {}
    print(f"{options.problems} test problems of the demo x {options.samples}; differences are to `discrete`")
    for at, name in enumerate(SYSTEMS):
        gain, ratio = paired.difference(at, 0), paired.tokens_ratio(at, 0)
        figures[name] = [round(x, 4) for x in (paired.mean_success(at).value, paired.mean_tokens(at).value)]
        if at:
            figures[name] += [round(x, 4) for x in (gain.value, gain.low, gain.high, ratio.value)]
        if name == "discrete":
            print(f"{name:20} success {figures[name][0]:.3f}  tokens {figures[name][1]:.1f}")
            continue
        print(
            f"{name:20} success {figures[name][0]:.3f}  tokens {figures[name][1]:.1f}  "
            f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})  tokens x {ratio.value:.2f} "
            f"({ratio.low:.2f} to {ratio.high:.2f})"
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
