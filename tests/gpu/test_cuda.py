"""On a CUDA device: rollouts against `generate`, the sampler, steering, budgets and memory, in each dtype.

Random models, no files and no network. Sums in half precision depend on the batch that they are in, so a greedy
choice between two tokens of nearly the same logit may fall either way: completions are compared up to such a
place, and the place must be one.
"""

from __future__ import annotations

import gc
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import Qwen3Config, Qwen3ForCausalLM

import pts
from pts.models.load import LoadedModel
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling
from pts.steering.hooks import Intervention, steer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

END = 1
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.4, torch.float16: 0.06}
"""Difference of two logits below which rounding may decide which is larger: twice the largest seen between one
pass over a completion and steps of one token, on the CPU. The logits have a standard deviation of 3."""


def random_model(dtype, *, vocab=4096, hidden=256, layers=4, seed=0):
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=16384,
        initializer_range=3.0 / hidden**0.5,
        tie_word_embeddings=True,
        eos_token_id=END,
    )
    model = Qwen3ForCausalLM(config).eval().requires_grad_(False).to("cuda", dtype)
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = 0
    return LoadedModel(model, None, "random", None, model.device, dtype, frozenset({END}))


@pytest.fixture(scope="module", params=DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def loaded(request):
    return random_model(request.param)


def prompt_of(length, salt=0, vocab=4096):
    return tuple((salt * 131 + 7 + step * 53) % (vocab - 2) + 2 for step in range(length))


def requests_of(budget, sampling):
    made = []
    for index, length in enumerate((3, 17, 64, 200)):
        prompt = prompt_of(length, index)
        for prefix in ((), prompt_of(5, index + 9), prompt_of(budget // 2, index)):
            made.append(RolloutRequest(prompt, prefix, n=2, seed=index, key=str(len(made)), sampling=sampling))
    return made


def same_or_tied(loaded, prompt, ours, theirs):
    """Whether two greedy completions are equal up to a place where rounding decides."""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if at is None:
        return len(ours) == len(theirs)
    ids = torch.tensor([prompt + theirs[:at]], device="cuda")
    logits = loaded.model(ids, use_cache=False).logits[0, -1].float()
    return float((logits[ours[at]] - logits[theirs[at]]).abs()) < CLOSE[loaded.dtype]


def test_greedy_rollouts_equal_generate(loaded):
    sampling = Sampling(temperature=0.0, budget=48)
    policy = TransformersPolicy(loaded, batch_rows=7)
    requests = requests_of(48, sampling)
    found = {rollout.request.key: rollout.completion for rollout in policy.rollouts(requests)}
    exact = 0
    for request in requests:
        ids = torch.tensor([request.prompt + request.prefix], device="cuda")
        new = 48 - len(request.prefix)
        output = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new
        )
        theirs = tuple(output[0, len(request.prompt) :].tolist())
        assert same_or_tied(loaded, request.prompt, found[request.key], theirs)
        exact += found[request.key] == theirs
    # In half precision the next near tie is never far.
    assert exact >= (len(requests) if loaded.dtype == torch.float32 else 1)


def test_drawn_tokens_follow_the_exact_distribution(loaded):
    sampling = Sampling(temperature=1.0, top_k=20, top_p=0.95, budget=3)
    policy = TransformersPolicy(loaded)
    prompt, n = prompt_of(40), 20_000
    (first,) = policy.next_token_probs(prompt, (0,), sampling)
    counts: Counter[int] = Counter()
    requests = [RolloutRequest(prompt, n=n // 20, seed=s, key=str(s), sampling=sampling) for s in range(20)]
    for rollout in policy.rollouts(requests):
        counts[rollout.completion[0]] += rollout.count
    # Half precision moves a probability by a per cent or so between a pass over many tokens and one of one.
    likely = first.probs * n > 20
    expected = first.probs[likely] / first.probs[likely].sum()
    seen = np.array([counts[int(token)] for token in first.ids[likely]], dtype=float)
    assert set(counts) <= set(first.ids.tolist()) or loaded.dtype != torch.float32
    if loaded.dtype == torch.float32:
        assert chisquare(seen, expected * seen.sum()).pvalue > 1e-4
    assert np.abs(seen / seen.sum() - expected).max() < 0.03


def test_what_shares_the_batch_changes_nothing_in_single_precision():
    loaded = random_model(torch.float32, seed=3)
    sampling = Sampling(temperature=1.0, top_k=8, budget=40)
    requests = requests_of(40, sampling)

    def outcome(rows, asked):
        drawn: dict[str, Counter] = {}
        for rollout in TransformersPolicy(loaded, batch_rows=rows).rollouts(asked):
            drawn.setdefault(rollout.request.key, Counter())[rollout.completion] += rollout.count
        return drawn

    wide, narrow = outcome(256, requests), outcome(3, requests[::-1])
    same = sum(wide[key] == narrow[key] for key in wide)
    # Single precision rounds too: a draw at the very edge between two tokens may fall either way.
    assert same >= len(requests) - 1


def test_steering_is_what_a_hook_by_hand_adds_and_other_rows_are_untouched(loaded):
    layer, sampling = 2, Sampling(temperature=0.0, budget=32)
    torch.manual_seed(5)
    vector = 4.0 * torch.nn.functional.normalize(torch.randn(256), dim=0)
    requests = [
        RolloutRequest(prompt_of(20, salt), variant=salt % 2, key=str(salt), sampling=sampling)
        for salt in range(6)
    ]
    plain, variants = TransformersPolicy(loaded), [(Intervention(layer, vector),)]
    with steer(loaded.model, variants, engine_driven=True) as on, plain.steered(on) as policy:
        found = {r.request.key: r.completion for r in policy.rollouts(requests)}

    def add(_module, _args, output):
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        # The prompt's last token is read by the first step, as a decode position.
        hidden[:, -1] += vector.to(hidden.device, hidden.dtype)
        return output

    changed = 0
    for request in requests:
        ids = torch.tensor([request.prompt], device="cuda")
        handle = loaded.model.model.layers[layer].register_forward_hook(add) if request.variant else None
        try:
            written = loaded.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=32
            )
            theirs = tuple(written[0, 20:].tolist())
            assert same_or_tied_steered(loaded, request, found[request.key], theirs)
        finally:
            if handle is not None:
                handle.remove()
        plain = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=32
        )
        changed += bool(request.variant) and theirs != tuple(plain[0, 20:].tolist())
    assert changed


def same_or_tied_steered(loaded, request, ours, theirs):
    """Equal, or different from a place on where half precision may decide."""
    if ours == theirs:
        return True
    at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    if loaded.dtype == torch.float32:
        return False
    if not request.variant:
        return same_or_tied(loaded, request.prompt, ours, theirs)
    return at > 0


def test_the_demo_model_thinks_within_its_budget_and_finds_what_the_cpu_finds(tmp_path):
    gpu = pts.load_model("demo", device="cuda", dtype="float32")
    cpu = pts.load_model("demo", device="cpu", dtype="float32")
    questions = [f"What is {a} + {b} - 4 ?" for a, b in ((17, 5), (27, 8), (13, 9), (45, 6))]
    kept = pts.decode(gpu, questions, strategy="budget:8", budget=96)
    assert all(answer.usage.budget_kept for answer in kept)
    settings = {"limit": 8, "levels": [2]}
    here = pts.search(gpu, output=tmp_path / "gpu", **settings)
    there = pts.search(cpu, output=tmp_path / "cpu", **settings)
    places = [
        {(f.dataset_item_id, f.trace, f.position, f.pivot_token_id) for f in run.findings}
        for run in (here, there)
    ]
    assert len(places[0] & places[1]) >= 0.8 * len(places[1]) > 0
    deltas = {(f.dataset_item_id, f.trace, f.position): f.prob_delta for f in there.findings}
    for finding in here.findings:
        other = deltas.get((finding.dataset_item_id, finding.trace, finding.position))
        assert other is None or abs(other - finding.prob_delta) < 0.3


def test_memory_stays_within_the_grant_at_a_real_vocabulary():
    loaded = random_model(torch.bfloat16, vocab=151_936, hidden=128, layers=4)
    grant = 1 << 30
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=1024)
    long = prompt_of(900, 1, 151_936)
    requests = [
        RolloutRequest(prompt_of(64, 2, 151_936), long, n=64, seed=s, key=str(s), sampling=sampling)
        for s in range(16)
    ]
    for warm in (requests[:1], requests):
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        policy = TransformersPolicy(loaded, memory_bytes=grant)
        delivered = sum(rollout.count for rollout in policy.rollouts(warm))
        assert delivered == 64 * len(warm)
        peak = torch.cuda.max_memory_allocated() - before
    assert peak < grant


def test_out_of_memory_halves_the_rows_and_changes_no_draw(caplog):
    loaded = random_model(torch.float32, layers=8)
    sampling = Sampling(temperature=1.0, top_k=8, budget=600)
    requests = [
        RolloutRequest(prompt_of(100), prompt_of(560, s), n=40, seed=s, key=str(s), sampling=sampling)
        for s in range(16)
    ]

    def outcome(policy):
        drawn: dict[str, Counter] = {}
        for rollout in policy.rollouts(requests):
            drawn.setdefault(rollout.request.key, Counter())[rollout.completion] += rollout.count
        return drawn

    free = outcome(TransformersPolicy(loaded, batch_rows=512))
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    used = torch.cuda.memory_allocated()
    # A policy that is told it has far more than there is.
    torch.cuda.set_per_process_memory_fraction((used + (1 << 30)) / total)
    try:
        policy = TransformersPolicy(loaded, batch_rows=512, memory_bytes=64 << 30)
        tight = outcome(policy)
        limit = policy.work.row_limit
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert limit < 512, "memory did not run out: nothing was tested"
    assert sum(free[key] == tight[key] for key in free) >= len(free) - 1
