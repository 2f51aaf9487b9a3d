"""Peak memory over the memory granted, at a real vocabulary and a real length, on a model with a tiny body.

    python benchmarks/memory.py [--quick] [--grant-mib 256] [--phases search harvest ...]

The model is a Qwen3 of random weights: 2 layers of 4 heads of 64, hidden size 64 (with `--quick` 16), a
vocabulary of 151,936. Completions have up to 4,096 tokens, 16 MiB of keys and values each. So what is costly is
what is costly at scale: logits and caches. Each phase runs in a process of its own: it makes the model, does
the same work once in small (so that what is imported or set up once is no part of what is measured), gives all
free memory back to the system, and then works in full, told that it may take so many bytes (`memory_bytes`).

`peak_over_grant_PHASE` is the highest resident memory of the full work, less the resident memory before it,
over those bytes: caches, logits, attention's own tensors, and everything that Python holds. The weights are no
part of it. `peak_over_grant` is the largest of them. A phase that asks for more than `--limit-gib` beyond what
it began with runs out of memory there and counts as that, also where it goes on with less.
`untruncated_vs_torch` is of `benchmarks/untruncated.py`, in the same run. Linux only. The last line of the
output is JSON.

Each phase has work that takes more than the grant where nothing bounds it (in brackets):
- `search`: the real search of one problem on a given trace of 4,096 tokens, its last part searched, nothing
  truncated (2.4 GiB of logits, 4.6 GiB of distributions in float64, 16 MiB for each row of the screen). Without
  `--quick` once more with the default sampler.
- `harvest`: pairs whose prefixes have up to 4,096 tokens, every layer (2.4 GiB of logits for each pair, 144 MiB
  of keys and values for 9).
- `calibration`: the directions and gates of these pairs and of three patterns of them, by each method that runs
  the model (their keys and values twice: 288 MiB for 9, beside a batch at work).
- `divergence`: a steered completion of 4,096 tokens beside the model as it is (five times 2.4 GiB of logits).
- `decoding`: 32 completions that go on to 4,096 tokens with a temperature of 1 and nothing truncated (512 MiB
  of keys and values). Without `--quick` once more with top-p alone.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from untruncated import measure_untruncated

from pts.calibration.divergence import kl_per_token
from pts.calibration.settings import Directions, Setting
from pts.models.load import LoadedModel
from pts.pivot_search import SearchConfig, search_problems
from pts.policies.transformers import TransformersPolicy
from pts.policies.transformers.memory import is_out_of_memory
from pts.records import Problem, Rollout, RolloutRequest, Sampling, TokenIds
from pts.steering.fitting_data import FittingData
from pts.steering.harvest import harvest
from pts.steering.hooks import Intervention
from pts.steering.pairs import Choice, Pair

VOCABULARY, LAYERS, HEADS, HEAD_SIZE = 151_936, 2, 4, 64
TOKENS, PROMPT = 4096, 64
ENDS = 10_000
"""The first so many tokens end a completion in the search: about one step in fifteen draws one of them."""
SCREENED = 200
"""Tokens that the search must have generated in its screen, or it was no search."""

NOTHING_TRUNCATED = Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=TOKENS)
TOP_P_ALONE = replace(NOTHING_TRUNCATED, top_p=0.95)

Phase = Callable[["Work"], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much each phase does.

    `search_tokens` are those that the search generates, `last` the tokens of the trace that it searches;
    `methods` are (pattern, method, gate) of each direction that is fitted; `left` how many tokens short of the
    budget the completions of `decoding` begin.
    """

    hidden: int
    samplers: tuple[tuple[Sampling, Sampling], ...]
    search_tokens: int
    last: int
    pairs: int
    methods: tuple[tuple[str, str, str], ...]
    left: tuple[int, int]


QUICK = Size(
    hidden=16,
    samplers=((NOTHING_TRUNCATED, NOTHING_TRUNCATED),),
    search_tokens=1500,
    last=32,
    pairs=9,
    methods=(
        ("all", "gradient", "entropy"),
        ("p0", "preference", "probe"),
        ("p1", "gradient", "always"),
        ("p2", "contrast", "tokens"),
    ),
    left=(10, 16),
)
WHOLE = Size(
    hidden=64,
    samplers=((NOTHING_TRUNCATED, NOTHING_TRUNCATED), (Sampling(budget=TOKENS), TOP_P_ALONE)),
    search_tokens=6000,
    last=128,
    pairs=18,
    methods=tuple(
        (pattern, method, gate)
        for pattern in ("all", "p0", "p1", "p2")
        for method, gate in (("gradient", "probe"), ("preference", "entropy"), ("contrast", "tokens"))
    ),
    left=(24, 36),
)
"""The samplers of `search` and of `decoding`, in turn."""


class Work:
    """One phase's surroundings: the model, the bytes granted, and how large the work is."""

    def __init__(self, granted: int, tokens: int, size: Size, seed: int) -> None:
        self.granted = granted
        self.tokens = tokens
        self.size = size
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=size.hidden,
            intermediate_size=2 * size.hidden,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            head_dim=HEAD_SIZE,
            max_position_embeddings=2 * TOKENS,
            # Logits are then about 2.4 apart, whatever the width.
            initializer_range=2.4 / size.hidden**0.5,
            tie_word_embeddings=True,
        )
        model = Qwen3ForCausalLM(config).eval()
        ends = frozenset(range(ENDS))
        self.loaded = LoadedModel(model, _Text(), "tiny", None, model.device, model.dtype, ends)

    def ids(self, count: int) -> TokenIds:
        """Random token ids, none of which ends a completion."""
        return tuple(self.rng.integers(ENDS, VOCABULARY, count).tolist())

    def policy(self, loaded: LoadedModel | None = None) -> TransformersPolicy:
        """A policy with the bytes granted."""
        policy = TransformersPolicy(loaded or self.loaded, memory_bytes=self.granted)
        prompt = self.ids(PROMPT)
        policy.encode = lambda _problem: prompt  # type: ignore[method-assign]
        return policy

    def endless(self) -> LoadedModel:
        """The model without a token that ends a completion."""
        return replace(self.loaded, end_token_ids=frozenset())

    def pairs(self, count: int) -> list[Pair]:
        """Pairs of random ids with prefixes of up to `tokens`, two thirds of them nearly as long."""
        pairs = []
        for index in range(count):
            length = self.tokens - int(self.rng.integers(0, 8 if index % 3 else self.tokens // 2))
            better, worse = (
                Choice(int(token), "", 0.5, value, 24)
                for token, value in zip(self.ids(2), (0.9, 0.2), strict=True)
            )
            prompt, prefix = self.ids(PROMPT), self.ids(length - PROMPT)
            pairs.append(
                Pair(index, f"p{index}", prompt, prefix, better, worse, index % 2 == 0, 0.5, 0.4, "", "")
            )
        return pairs


class _Text:
    """A tokenizer that only ever writes: a token is its number."""

    def decode(self, ids: list[int], **_options: object) -> str:
        return " ".join(map(str, ids))


def search(work: Work) -> None:
    """The real search of a given trace; completions are right or wrong by their last tokens."""
    # Ids at random, the last of which ends it: each is one that the policy hardly draws, and a place to search.
    trace = (*work.ids(work.tokens - 1), 0)
    last = work.size.last / work.tokens
    config = SearchConfig(value_range=(0.0, 1.0), region=(1 - last, 1.0), max_tokens=work.size.search_tokens)
    for sampling, _ in work.size.samplers:
        policy = work.policy()
        own = replace(config, sampling=replace(sampling, budget=work.tokens))
        problem = Problem("p", "q", "a")
        for result in search_problems([problem], policy, _graded, own, given_traces={"p": [trace]}):
            if result.tokens_screen < SCREENED:
                raise SystemExit(f"the search did not reach its screen: {result.tokens_screen} tokens in it.")


def _graded(text: str, _answer: str) -> bool:
    """Right or wrong at random, by the text alone."""
    return sum(map(ord, text[-20:])) % 2 == 0


def harvesting(work: Work) -> None:
    """Every layer of the pairs."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = work.pairs(work.size.pairs)
        harvest(work.loaded.model, pairs, Path(folder), memory_bytes=work.granted)


def calibration(work: Work) -> None:
    """Directions and gates of all pairs and of three patterns."""
    pairs = work.pairs(work.size.pairs)
    model = work.loaded.model
    with tempfile.TemporaryDirectory() as folder:
        harvested = harvest(model, pairs, Path(folder), memory_bytes=work.granted)
        whole = FittingData(model, pairs, harvested, memory_bytes=work.granted)
        by_pattern = {"all": whole} | {f"p{third}": whole.of(pairs[third::3]) for third in range(3)}
        directions = Directions(by_pattern, whole)
        for pattern, method, gate in work.size.methods:
            directions.intervention(Setting(pattern, method, 1, 0.5, gate))


def divergence(work: Work) -> None:
    """A completion beside the model as it is."""
    vector = Intervention(0, 5 * torch.nn.functional.normalize(torch.randn(work.size.hidden), dim=0))
    request = RolloutRequest(work.ids(PROMPT), variant=1)
    drawn = Rollout(request, work.ids(work.tokens), 1, "budget")
    kl_per_token(work.loaded.model, [vector], [drawn], memory_bytes=work.granted)


def decoding(work: Work) -> None:
    """32 completions, begun near their end, drawn from the whole vocabulary."""
    begun = [work.ids(work.tokens - left) for left in work.size.left]
    prompt = work.ids(PROMPT)
    for _, sampling in work.size.samplers:
        policy = work.policy(work.endless())
        own = replace(sampling, budget=work.tokens)
        requests = [
            RolloutRequest(prompt, begun[index % 2], n=2, seed=index, sampling=own) for index in range(16)
        ]
        done = sum(finished.rollout.count for finished in policy.finished(requests, own_probs=True))
        assert done == 32


PHASES: dict[str, Phase] = {
    "search": search,
    "harvest": harvesting,
    "calibration": calibration,
    "divergence": divergence,
    "decoding": decoding,
}


def resident(peak: bool) -> int:
    """Bytes of this process that are, or at most were since `forget_peak`, in memory."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(wanted))


def forget_peak() -> None:
    """Let the peak begin again from what is in memory now."""
    Path("/proc/self/clear_refs").write_text("5")


class _RanOut(logging.Handler):
    """Hears whether memory ran out and the work went on with less."""

    heard = False

    def emit(self, record: logging.LogRecord) -> None:
        self.heard |= record.getMessage().startswith("memory ran out")


def measure(phase: str, granted: int, tokens: int, limit: int, size: Size) -> dict[str, float | bool]:
    """The phase in small, then in full: bytes at most beyond what was there before."""
    PHASES[phase](Work(granted, 2 * PROMPT, replace(size, search_tokens=600), 0))
    work = Work(granted, tokens, size, 1)
    gc.collect()
    # What the small work has freed must not serve the full one uncounted.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident(peak=False)
    forget_peak()
    spaces = Path("/proc/self/statm").read_text().split()
    ceiling = int(spaces[0]) * os.sysconf("SC_PAGE_SIZE") + limit
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    ran_out = _RanOut()
    logging.getLogger("pts").addHandler(ran_out)
    try:
        PHASES[phase](work)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        ran_out.heard = True
    peak = resident(peak=True) - before
    return {"peak": float(max(peak, limit) if ran_out.heard else peak), "stopped": ran_out.heard}


def in_process(
    phase: str, granted: int, tokens: int, limit: int, threads: int, *, quick: bool
) -> dict[str, float | bool]:
    """`measure` in a process of its own, whose memory goes back to the system as soon as it is free."""
    arguments = [str(value) for value in (phase, granted, tokens, limit, threads)]
    done = subprocess.run(
        [sys.executable, __file__, *(["--quick"] if quick else []), "--measure", *arguments],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float | bool] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a narrower model, fewer pairs and directions")
    parser.add_argument("--phases", nargs="+", choices=list(PHASES), default=list(PHASES))
    parser.add_argument("--grant-mib", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--limit-gib", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        phase, (granted, tokens, limit, threads) = args.measure[0], map(int, args.measure[1:])
        torch.set_num_threads(threads)
        print(json.dumps(measure(phase, granted, tokens, limit, QUICK if args.quick else WHOLE)))
        return
    granted, limit = args.grant_mib << 20, int(args.limit_gib * 2**30)
    ratios = {}
    for phase in args.phases:
        found = in_process(phase, granted, args.tokens, limit, args.threads, quick=args.quick)
        ratios[phase] = found["peak"] / granted
        stopped = " or more: memory ran out at the limit" if found["stopped"] else ""
        line = f"{phase:12} peak {found['peak'] / 2**20:7.0f} MiB, {ratios[phase]:.2f} of the grant{stopped}"
        print(line, flush=True)
    result: dict[str, object] = {f"peak_over_grant_{phase}": round(ratio, 3) for phase, ratio in ratios.items()}
    result["peak_over_grant"] = round(max(ratios.values()), 3)
    torch.set_num_threads(args.threads)
    result |= measure_untruncated()
    setting = {"grant_mib": args.grant_mib, "vocabulary": VOCABULARY, "tokens": args.tokens}
    print(json.dumps({**result, **setting, "threads": args.threads, "quick": args.quick}))


if __name__ == "__main__":
    main()
