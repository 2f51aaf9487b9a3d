"""Tiny random models of families with recurrent states, chunked attention or both, for tests."""

from __future__ import annotations

from typing import Any

import torch
import transformers as T
from transformers import AutoModelForCausalLM, PreTrainedConfig

from pts.models.load import LoadedModel
from tests.policies.tiny import END, VOCAB

TOKENS: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "eos_token_id": END,
    "bos_token_id": 0,
    "pad_token_id": 0,
}
ATTENTION: dict[str, Any] = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
DELTA: dict[str, Any] = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}


def config_of(name: str) -> PreTrainedConfig:
    """The configuration of a family, with chunks of a scan or of attention shorter than the tests' prompts."""
    both = TOKENS | ATTENTION
    if name == "lfm2":
        kinds = ["conv", "full_attention", "conv"]
        return T.Lfm2Config(**both, intermediate_size=48, layer_types=kinds, block_auto_adjust_ff_dim=False)
    if name == "qwen3_next":
        return T.Qwen3NextConfig(**both, **DELTA, **EXPERTS, intermediate_size=48, decoder_sparse_step=1)
    if name == "qwen3_5":
        return T.Qwen3_5TextConfig(**both, **DELTA, intermediate_size=48)
    if name == "qwen3_5_moe":
        return T.Qwen3_5MoeTextConfig(**both, **DELTA, **EXPERTS)
    if name == "granitemoehybrid":
        kinds = ["linear_attention", "full_attention", "linear_attention"]
        return T.GraniteMoeHybridConfig(
            **both,
            **MAMBA,
            intermediate_size=48,
            shared_intermediate_size=48,
            layer_types=kinds,
            num_local_experts=4,
            num_experts_per_tok=2,
            position_embedding_type="rope",
        )
    if name == "falcon_h1":
        return T.FalconH1Config(**both, **MAMBA, intermediate_size=48, mamba_d_ssm=64, head_dim=8)
    if name == "bamba":
        return T.BambaConfig(**both, **MAMBA, intermediate_size=48, attn_layer_indices=[1])
    if name == "mamba2":
        return T.Mamba2Config(
            **TOKENS, num_heads=4, head_dim=16, n_groups=1, state_size=8, expand=2, chunk_size=8
        )
    if name == "mamba":
        return T.MambaConfig(**TOKENS, state_size=8)
    if name == "falcon_mamba":
        return T.FalconMambaConfig(**TOKENS, state_size=8)
    return _others(name)


def _others(name: str) -> PreTrainedConfig:
    both = TOKENS | ATTENTION
    if name == "recurrent_gemma":
        return T.RecurrentGemmaConfig(**both, intermediate_size=48, lru_width=32, attention_window_size=8)
    if name == "minimax":
        return T.MiniMaxConfig(
            **both, intermediate_size=48, num_local_experts=4, num_experts_per_tok=2, head_dim=8, block_size=8
        )
    if name == "llama4":
        return T.Llama4TextConfig(
            **both,
            intermediate_size=48,
            intermediate_size_mlp=48,
            attention_chunk_size=8,
            num_local_experts=4,
            head_dim=8,
            layer_types=["chunked_attention", "full_attention", "chunked_attention"],
            no_rope_layers=[1, 0, 1],
        )
    if name == "jamba":
        return T.JambaConfig(
            **both,
            intermediate_size=48,
            attn_layer_period=2,
            attn_layer_offset=1,
            num_experts=4,
            mamba_d_state=8,
            mamba_dt_rank=4,
            use_mamba_kernels=False,
        )
    if name == "nemotron_h":
        t = {k: v for k, v in both.items() if k != "num_hidden_layers"}
        return T.NemotronHConfig(
            **t,
            layers_block_type=["linear_attention", "mlp", "full_attention"],
            intermediate_size=48,
            mamba_num_heads=4,
            mamba_head_dim=16,
            ssm_state_size=8,
            n_groups=1,
            chunk_size=8,
            head_dim=8,
        )
    if name == "olmo_hybrid":
        return T.OlmoHybridConfig(
            **both,
            intermediate_size=48,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        )
    if name == "zamba2":
        return T.Zamba2Config(
            **both,
            intermediate_size=48,
            mamba_d_state=8,
            mamba_ngroups=1,
            n_mamba_heads=4,
            chunk_size=8,
            layers_block_type=["linear_attention", "hybrid", "linear_attention"],
            attention_head_dim=16,
        )
    if name == "rwkv":
        return T.RwkvConfig(**TOKENS)
    raise ValueError(name)


def tiny_family(name: str, *, vocab: int = VOCAB, spread: float = 0.3) -> LoadedModel:
    """A random model of a family in float32; `spread` is the standard deviation of its weights."""
    torch.manual_seed(0)
    config = config_of(name)
    config.vocab_size = vocab
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, spread)
    model.eval().requires_grad_(False)
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = 0
    return LoadedModel(model, None, name, None, torch.device("cpu"), torch.float32, frozenset({END}))
