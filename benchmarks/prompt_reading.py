"""What contiguous states at the output layer save while prompts are read (`pts/models/frozen.py`).

    python benchmarks/prompt_reading.py MODEL [--rows 8 16]

Reads the same prompts of about 60 tokens together, as a search does before its first rollouts, with the output
layer as `pts` loads it and as transformers leaves it. `seconds` is the whole pass, `GiB` the peak of resident
memory above what there was before; each pass runs in a process of its own, after one small pass. The last line
of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import psutil
import torch

from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.policies.transformers import TransformersPolicy

QUESTION = "A baker has {a} trays of {b} rolls and sells {c} of them before noon. How many rolls are left?"


def read_prompts(model: str, rows: int, mended: bool) -> tuple[float, float]:
    """Seconds and peak GiB of reading so many prompts."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    policy = TransformersPolicy(load_model(ModelOptions(model)), PromptFormat())
    if not mended:
        policy.loaded.model.get_output_embeddings()._forward_pre_hooks.clear()
    asked = [QUESTION.format(a=index, b=index + 2, c=index + 1) for index in range(2, 6 + rows)]
    prompts = [policy.encode_prompt(question) for question in asked]
    layer = int(policy.identity.layers or 1) // 2
    policy.residuals(prompts[rows:], [layer])
    before = psutil.Process().memory_info().rss
    begun = time.perf_counter()
    policy.residuals(prompts[:rows], [layer])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return time.perf_counter() - begun, max(0, peak - before) / 2**30


def main() -> None:
    """Prints the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--one", choices=("mended", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(read_prompts(options.model, options.rows[0], options.one == "mended")))
        return
    figures: dict[str, float] = {}
    print(f"{'prompts':>8} {'plain: s':>10} {'GiB':>6} {'mended: s':>10} {'GiB':>6} {'ratio':>7}")
    for rows in options.rows:
        cells = {}
        for kind in ("plain", "mended"):
            command = [sys.executable, __file__, options.model, "--rows", str(rows), "--one", kind]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            cells[kind] = json.loads(output.splitlines()[-1])
        ratio = cells["plain"][0] / cells["mended"][0]
        print(
            f"{rows:>8} {cells['plain'][0]:>10.1f} {cells['plain'][1]:>6.2f} {cells['mended'][0]:>10.1f} "
            f"{cells['mended'][1]:>6.2f} {ratio:>7.1f}",
            flush=True,
        )
        figures |= {
            f"plain_vs_mended_{rows}": round(ratio, 1),
            f"plain_gib_{rows}": round(cells["plain"][1], 2),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
