"""Starting vLLM's engine for a model, with settings under which its numbers are those that `pts` counts on."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

from pts.errors import ConfigError, ModelError, one_line
from pts.models.options import ModelOptions
from pts.policies.vllm.installed import require_vllm
from pts.policies.vllm.model_files import read_model_files
from pts.setting_names import setting

_BLOCK = 32
"""Tokens of a block of the CPU's cache: its default of 128 would never share a short prompt."""
_ROWS = 256
_OF_FREE = 0.9
"""What part of a GPU's free memory vLLM may take beside something else."""
_V2 = "VLLM_USE_V2_MODEL_RUNNER"
_RUNNERS = {"0": "V1", "1": "V2"}
_BATCHED = 4096
"""Tokens read at once on a GPU: the logits of so many prompt tokens are held together."""


_REFUSALS = (
    *(ValueError, RuntimeError, OSError, TypeError),
    *(LookupError, NotImplementedError, AssertionError),
)
"""What vLLM raises for a model or setting that it does not take."""
_ADDED: dict[str, Any] = {
    "worker_extension_cls": "pts.policies.vllm.worker.PtsWorker",
    # A guide hears of a token before the next one is drawn.
    "async_scheduling": False,
}
"""What `pts` adds to an engine that steers and takes guides; named here, so that no other vLLM loads it."""
_PROCESSORS = {"V1": "pts.policies.vllm.logits:PtsLogits", "V2": "pts.policies.vllm.logits:PtsLogitsV2"}
"""The logits processor by model runner: each of them takes its own kind alone."""


@dataclass(frozen=True, slots=True)
class Started:
    """A running engine with what `pts` asks about it.

    `rows` is how many completions it writes at once, `positions` how many tokens a prompt and its completion
    may have together, `runner` which of vLLM's two model runners is at work, `eager` whether its passes are
    made by the model's own modules.
    """

    engine: Any
    tokenizer: Any
    config: Any
    end_token_ids: frozenset[int]
    model_id: str
    revision: str | None
    dtype: str
    device: str
    runner: str
    rows: int
    positions: int
    eager: bool


def start_engine(
    options: ModelOptions,
    batch_rows: int | None,
    *,
    steerable: bool = False,
    eager: bool = False,
    beside: bool = False,
    tensor_parallel: int | None = None,
) -> Started:
    """Start vLLM on a model. Raises ConfigError or ModelError, in one line, for what it cannot do.

    A `steerable` engine carries what `pts` adds to vLLM, and goes step by step, by the model runner V1 where
    the environment names none; an `eager` one makes its passes by the model's own modules, which hooks need.
    `beside` something else, one takes of a GPU's memory what is free. `tensor_parallel` processes, each with a
    GPU of its own, hold the model together.
    """
    vllm = require_vllm()
    runner = _steerable_runner() if steerable else None
    files = read_model_files(options)
    config = files.config
    device = _device(options)
    rows = batch_rows or _ROWS
    positions = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    arguments: dict[str, Any] = {
        "model": files.source.name,
        "revision": options.revision,
        "trust_remote_code": options.trust_remote_code,
        "dtype": _dtype(options, config, device),
        "max_num_seqs": rows,
        # Logits as they are: temperature and truncation are pts's own, so q has one definition for all engines.
        "logprobs_mode": "raw_logits",
        "max_logprobs": -1,
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "max_num_batched_tokens": _BATCHED,
    }
    if device == "cpu":
        # A seeded request whose prompt is read in pieces stops vLLM's engine on a CPU.
        whole = {"max_num_batched_tokens": max(_BATCHED, positions or 0), "enable_chunked_prefill": False}
        arguments |= {"block_size": _BLOCK, "enforce_eager": True, **whole}
    if beside and device == "cuda":
        arguments["gpu_memory_utilization"] = _free_share()
    if tensor_parallel is not None:
        # Processes of this machine: within Ray vLLM would choose Ray's.
        arguments |= {"tensor_parallel_size": tensor_parallel, "distributed_executor_backend": "mp"}
    if runner is not None:
        arguments |= _ADDED | {"logits_processors": [_PROCESSORS[runner]]}
        arguments |= {"enforce_eager": True} if eager else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
    except _REFUSALS as error:
        raise ModelError(f"vLLM does not serve {options.spec} here ({_said(error)}).") from error
    settled = engine.vllm_config.model_config
    return Started(
        engine,
        files.tokenizer,
        config,
        files.end_token_ids,
        options.spec,
        files.revision,
        str(settled.dtype).removeprefix("torch."),
        device,
        "V2" if getattr(engine.vllm_config, "use_v2_model_runner", False) else "V1",
        rows,
        int(settled.max_model_len),
        bool(settled.enforce_eager),
    )


def _free_share() -> float:
    """The share of a GPU's memory that vLLM may take where something else is there already."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return round(_OF_FREE * free / total, 3)


def _steerable_runner() -> str:
    """The model runner of an engine that steers: V1 where the environment names none.

    Raises ConfigError where a second process is wanted, or where vLLM could not read what is named.
    """
    if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "0") != "0":
        raise ConfigError(
            "steering, guides and residual streams need vLLM in this process, and "
            "VLLM_ENABLE_V1_MULTIPROCESSING is set: unset it."
        )
    named = os.environ.setdefault(_V2, "0")
    if named not in _RUNNERS:
        raise ConfigError(f"{_V2} is {named!r}, and vLLM takes 0 or 1 there: correct it, or unset it.")
    return _RUNNERS[named]


def _device(options: ModelOptions) -> str:
    """The kind of device that this vLLM was built for. Raises ConfigError where another one was requested."""
    from vllm.platforms import current_platform

    device = str(current_platform.device_type)
    if options.device != "auto" and options.device != device:
        raise ConfigError(
            f"device {options.device} was requested, and vLLM here computes on {device}: use "
            f"{setting('device', 'auto')} (CUDA_VISIBLE_DEVICES chooses a GPU)."
        )
    return device


def _dtype(options: ModelOptions, config: Any, device: str) -> str:
    """The dtype requested; for "auto" the one that the engine transformers would take here."""
    import torch

    from pts.models.hardware import choose_dtype
    from pts.models.load import parameter_count

    asked = options.auto_dtype if options.dtype == "auto" else options.dtype
    parameters = parameter_count(config, options) if asked == "auto" and device == "cpu" else 0
    kind = device if device in ("cpu", "cuda") else "cpu"
    return str(choose_dtype(asked, torch.device(kind), parameters)).removeprefix("torch.")


def _said(error: BaseException) -> str:
    """What an error of vLLM's says, without the address of pydantic's own documentation."""
    return one_line(error).split(" For further information")[0]
