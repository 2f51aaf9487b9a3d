"""Are greedy completions those of the model's own `generate`?"""

from __future__ import annotations

from typing import Any

from pts.models.load import LoadedModel
from pts.records import TokenIds
from pts.verification.agreement import agreement
from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import Subject

NAME = "generate"


def check_generate(subject: Subject) -> CheckResult:
    """Complete each prompt greedily by the policy, all in one batch, and one by one by `generate`."""
    if subject.loaded is None:
        return skipped(NAME, "the engine holds no model of transformers to compare with")
    loaded = subject.loaded
    greedy = subject.greedy
    asked = [subject.request(prompt, sampling=greedy) for prompt in subject.prompts]
    pairs = [
        (request.prompt, completion, _generated(loaded, request.prompt, greedy.budget))
        for request, completion in zip(asked, subject.one_each(asked), strict=True)
    ]
    same = agreement(subject, pairs)
    return judged(NAME, same.good, f"greedy against transformers' generate: {same}")


def _generated(loaded: LoadedModel, prompt: TokenIds, tokens: int) -> TokenIds:
    """The new tokens of `generate`, without chance, and with none of the model's own settings of generation."""
    import torch
    from transformers import GenerationConfig

    ends = sorted(loaded.end_token_ids)
    settings: Any = GenerationConfig
    config = settings(do_sample=False, max_new_tokens=tokens, eos_token_id=ends, pad_token_id=ends[0])
    ids = torch.tensor([prompt], device=loaded.device)
    own = loaded.model.generation_config
    loaded.model.generation_config = config
    try:
        written = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    finally:
        loaded.model.generation_config = own
    return tuple(written[0, len(prompt) :].tolist())
