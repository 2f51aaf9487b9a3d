"""Generated tokens a second of our engine, of vLLM, and of `generate`, on the same requests in one run.

    python benchmarks/engines.py --quick --vllm-python .venv-vllm/bin/python
    python benchmarks/engines.py path/to/model --dtype bfloat16 --vllm-python .venv-vllm/bin/python

Each engine runs in a process of its own, one after the other, with as many threads. vLLM has an environment of
its own (`make vllm-tests` makes one), named by `--vllm-python`; without it vLLM is left out.
Rollouts start from positions spread over one sampled trace. `generate` writes a batch of five from one prefix,
then from the next. Only new tokens count. Our engine computes equal completions once, and they count as many.

Each figure is given by the second and by the second of processor time of the process: where other work shares
the cores, only the latter says something. A model must be a directory with safetensors, or demo. The last line
of the output is one line of JSON; `ours_vs_vllm_cpu` and `ours_vs_generate` are ratios by processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENGINES = ("ours", "vllm", "generate")
QUERIES = {
    "demo": "What is 17 + 5 - 4 + 9 - 6 ?",
    "other": "A shop had 48 apples and sold 19 of them, then bought 25 more. How many apples does it have?",
}
GENERATE_BATCH = 5


def processor_seconds() -> float:
    """Of this process and all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(work) -> dict[str, float]:
    """What `work` writes, in tokens, by the second."""
    started, used = time.perf_counter(), processor_seconds()
    tokens = work()
    seconds, used = time.perf_counter() - started, processor_seconds() - used
    return {
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "processor_seconds": round(used, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "tokens_per_processor_s": round(tokens / used, 1),
    }


def write_requests(args: argparse.Namespace, path: Path) -> dict[str, object]:
    """Sample a trace, and write the prompt and the prefixes that rollouts start from."""
    from rollout_speed import spread

    from pts.models.load import ModelOptions, load_model
    from pts.models.prompt import PromptFormat
    from pts.policies.transformers import TransformersPolicy
    from pts.records import Problem, Sampling

    demo = args.model == "demo"
    loaded = load_model(ModelOptions(args.model, dtype=args.dtype))
    policy = TransformersPolicy(loaded, PromptFormat(thinking=True if demo else None))
    prompt = policy.encode(Problem("speed", QUERIES["demo" if demo else "other"], ""))
    traces = policy.sample_traces(prompt, 8, args.seed, Sampling(budget=args.budget))
    trace = max((sampled.completion for sampled in traces), key=len)
    prefixes = [trace[:position] for position in spread(len(trace) - 1, args.positions)]
    dtype = str(loaded.dtype).removeprefix("torch.")
    path.write_text(json.dumps({"prompt": prompt, "prefixes": prefixes, "dtype": dtype}))
    return {
        "dtype": dtype,
        "prompt_tokens": len(prompt),
        "trace_tokens": len(trace),
        "positions": len(prefixes),
    }


def one_engine(args: argparse.Namespace) -> dict[str, float]:
    """Measure one engine in this process."""
    import torch

    from pts.models.options import ModelOptions
    from pts.policies import open_policy
    from pts.records import RolloutRequest, Sampling

    torch.set_num_threads(args.threads)
    given = json.loads(Path(args.requests).read_text())
    prompt, prefixes = tuple(given["prompt"]), [tuple(prefix) for prefix in given["prefixes"]]
    sampling, options = Sampling(budget=args.budget), ModelOptions(args.model, dtype=given["dtype"])

    def requests(seed: int) -> list[RolloutRequest]:
        return [
            RolloutRequest(
                prompt, prefix, n=args.rollouts, seed=seed + place, sampling=sampling, key=str(place)
            )
            for place, prefix in enumerate(prefixes)
        ]

    def drawn(policy, wanted) -> int:
        return sum(
            one.count * (len(one.completion) - len(one.request.prefix)) for one in policy.rollouts(wanted)
        )

    if args.one == "generate":
        from rollout_speed import measure_generate

        from pts.models.load import load_model
        from pts.policies.transformers import TransformersPolicy

        torch.manual_seed(args.seed)
        policy = TransformersPolicy(load_model(options))
        measure_generate(policy, sampling, prompt, prefixes[:1], 0)
        return measured(lambda: int(measure_generate(policy, sampling, prompt, prefixes, args.limit)["tokens"]))
    policy = open_policy(options, engine="vllm" if args.one == "vllm" else "transformers")
    # What is compiled or filled once is no speed.
    drawn(policy, requests(args.seed + 1000)[:2])
    return measured(lambda: drawn(policy, requests(args.seed)))


def run_engine(args: argparse.Namespace, name: str, requests: Path) -> dict[str, float]:
    """Measure one engine in a process of its own."""
    python = args.vllm_python if name == "vllm" else sys.executable
    root = str(Path(__file__).resolve().parents[1])
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, "PYTHONPATH": root, **dict.fromkeys(names, str(args.threads))}
    command = [python, __file__, args.model, "--one", name, "--requests", str(requests)]
    for option in ("budget", "rollouts", "threads", "seed", "limit"):
        command += [f"--{option}", str(getattr(args, option))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--vllm-python", help="Python of an environment with vLLM 0.32")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--positions", type=int, default=32)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--budget", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=600, help="seconds for generate")
    parser.add_argument("--quick", action="store_true", help="8 positions, 4 rollouts each, 60 s for generate")
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--requests", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_engine(args)))
        return
    if args.quick:
        args.positions, args.rollouts, args.limit = 8, 4, 60
    with tempfile.TemporaryDirectory() as folder:
        requests = Path(folder) / "requests.json"
        setting = write_requests(args, requests)
        found = {}
        for name in ENGINES:
            if name == "vllm" and args.vllm_python is None:
                continue
            found[name] = run_engine(args, name, requests)
            print(name, *(f"{key}={value}" for key, value in found[name].items()), flush=True)
    rates = {name: figures["tokens_per_processor_s"] for name, figures in found.items()}
    ratios = {"ours_vs_generate": round(rates["ours"] / rates["generate"], 2)}
    if "vllm" in rates:
        ratios["ours_vs_vllm_cpu"] = round(rates["ours"] / rates["vllm"], 2)
    shared = {name: getattr(args, name) for name in ("model", "threads", "rollouts", "budget")}
    print(json.dumps({**ratios, **found, **shared, **setting}))


if __name__ == "__main__":
    main()
