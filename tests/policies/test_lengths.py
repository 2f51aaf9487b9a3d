"""Models whose state depends on length: right for every row, or refused in one line."""

from contextlib import contextmanager

import pytest
import torch
import transformers as T
from one_sampling import OneSampling
from transformers import AutoModelForCausalLM

from pts.errors import ConfigError, ModelError
from pts.models.load import LoadedModel
from pts.policies.transformers.lengths import length_limit, undeclared_windows
from pts.records import RolloutRequest, Sampling

END, VOCAB = 1, 37
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "eos_token_id": END,
    "bos_token_id": 0,
    "pad_token_id": 0,
}
OLDER = {"vocab_size": VOCAB, "eos_token_id": END, "bos_token_id": 0, "pad_token_id": 0}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 32,
    "factor": 4.0,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}


def neo(window):
    return T.GPTNeoConfig(
        **OLDER,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=window,
        max_position_embeddings=128,
    )


def built(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.3)
    model.eval().requires_grad_(False)
    model.generation_config.pad_token_id = 0
    return LoadedModel(model, None, "tiny", None, torch.device("cpu"), torch.float32, frozenset({END}))


def prompt(length, salt):
    return tuple((salt * 7 + 3 + k * 5) % (VOCAB - 2) + 2 for k in range(length))


def require_generates_own(loaded, lengths, budget):
    """Greedy rollouts of prompts of these lengths, in one batch, are what generate gives each of them alone."""
    policy = OneSampling(loaded, Sampling(temperature=0.0, budget=budget), batch_rows=8)
    requests = [RolloutRequest(prompt(length, at)) for at, length in enumerate(lengths)]
    for rollout in policy.rollouts(requests):
        ids = torch.tensor([rollout.request.prompt])
        written = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=budget
        )
        assert rollout.completion == tuple(written[0, ids.shape[1] :].tolist())


WINDOWED = {
    "mistral": T.MistralConfig(**SHAPE, sliding_window=12),
    "phi3": T.Phi3Config(**SHAPE, sliding_window=12),
    "qwen2": T.Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=12, max_window_layers=1),
    "qwen2 unused": T.Qwen2Config(**SHAPE, use_sliding_window=False, sliding_window=12, max_window_layers=1),
    "gemma2": T.Gemma2Config(**SHAPE, head_dim=8, sliding_window=12, query_pre_attn_scalar=8),
    "gpt-oss": T.GptOssConfig(
        **SHAPE,
        sliding_window=12,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "llama3 rope": T.LlamaConfig(
        **SHAPE,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "mpt": T.MptConfig(**OLDER, d_model=32, n_heads=4, n_layers=2, max_seq_len=128),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_windows_and_fixed_tables_are_right_on_both_sides(name):
    config = WINDOWED[name]
    window = getattr(config, "sliding_window", None)
    require_generates_own(built(config), (1, 5, 11, 20), 12)
    assert getattr(config, "sliding_window", None) == window


@pytest.mark.parametrize("window", [8, 30])
def test_a_window_of_the_key_length_is_refused_before_anything_is_drawn(window):
    loaded = built(neo(window))
    policy = OneSampling(loaded, Sampling(temperature=0.0, budget=40))
    with pytest.raises(ModelError, match=r"gpt_neo does not give rows .* not supported") as refused:
        policy.check_length(1)
    assert "\n" not in str(refused.value)


def test_a_window_that_no_row_reaches_is_no_matter_until_one_does():
    loaded = built(neo(60))
    require_generates_own(loaded, (1, 7, 30), 20)
    policy = OneSampling(loaded, Sampling(temperature=0.0, budget=20))
    with pytest.raises(ModelError, match="not supported"):
        list(policy.rollouts([RolloutRequest(prompt(5, 0)), RolloutRequest(prompt(50, 1))]))


@pytest.mark.parametrize(
    "config",
    [
        T.LlamaConfig(**SHAPE, rope_parameters=LONGROPE),
        T.Phi3Config(**SHAPE, original_max_position_embeddings=32, rope_parameters=LONGROPE),
        T.LlamaConfig(**{**SHAPE, "max_position_embeddings": 32}, rope_parameters=DYNAMIC),
        T.Gemma3TextConfig(
            **{**SHAPE, "max_position_embeddings": 32},
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={
                "full_attention": DYNAMIC,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    ],
    ids=["llama longrope", "phi3 longrope", "llama dynamic", "gemma3 dynamic"],
)
def test_rows_stay_below_the_length_at_which_rotary_tables_change(config):
    loaded = built(config)
    require_generates_own(loaded, (1, 6, 13), 19)
    policy = OneSampling(loaded, Sampling(temperature=0.0, budget=19))
    with pytest.raises(
        ConfigError, match=r"a prompt of 14 tokens and a budget of 19 exceed the .*32 positions"
    ):
        list(policy.rollouts([RolloutRequest(prompt(14, 0))]))


@pytest.mark.parametrize(
    ("config", "family"),
    [
        (T.BloomConfig(**OLDER, hidden_size=32, n_layer=2, n_head=4), "bloom"),
        (
            T.FalconConfig(**OLDER, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True),
            "falcon",
        ),
        (
            T.RwkvConfig(**OLDER, hidden_size=32, num_hidden_layers=2),
            "rwkv",
        ),
        (T.OpenAIGPTConfig(**OLDER, n_embd=32, n_layer=2, n_head=4, n_positions=64), "the model"),
    ],
    ids=["bloom", "falcon with alibi", "rwkv", "gpt without a cache"],
)
def test_a_model_whose_trial_fails_is_refused_in_one_line(config, family):
    loaded = built(config)
    with pytest.raises(ModelError, match=rf"^{family} .*not supported\.$") as refused:
        OneSampling(loaded, Sampling(budget=8))
    assert "\n" not in str(refused.value)


def test_a_shortage_of_memory_is_no_verdict_on_the_model():
    loaded = built(T.LlamaConfig(**SHAPE))
    with running_out_of_memory(loaded.model), pytest.raises(torch.OutOfMemoryError):
        OneSampling(loaded, Sampling(budget=8))


@contextmanager
def running_out_of_memory(model):
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    handle = model.register_forward_pre_hook(full)
    try:
        yield
    finally:
        handle.remove()


def test_the_trial_of_a_large_window_reads_few_tokens():
    loaded = built(T.MistralConfig(**{**SHAPE, "max_position_embeddings": 32768}, sliding_window=4096))
    read = []
    handle = loaded.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    OneSampling(loaded, Sampling(budget=16384))
    handle.remove()
    assert sum(read) < 100


def test_what_a_configuration_says_of_lengths():
    assert undeclared_windows(neo(256)) == (256,)
    assert undeclared_windows(WINDOWED["qwen2"]) == ()
    assert undeclared_windows(WINDOWED["gpt-oss"]) == ()
    limit = length_limit(WINDOWED["mpt"])
    assert limit is not None
    assert limit.tokens == 128
    limit = length_limit(T.Phi3Config(**SHAPE, original_max_position_embeddings=32, rope_parameters=LONGROPE))
    assert limit is not None
    assert limit.tokens == 32
