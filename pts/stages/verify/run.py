"""From a model's name to a report on what a search counts on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pts.models.prompt import PromptFormat, settled_format
from pts.policies.open import VLLM
from pts.policies.vllm import installed
from pts.stages.shared.engine import open_engine
from pts.stages.verify.inputs import VerifyInputs
from pts.stages.verify.inside_vllm import checked_inside_server, checked_inside_vllm
from pts.verification import CheckResult, VerificationReport, quick_verify, verify


def run_verification(
    inputs: VerifyInputs, observe: Callable[[CheckResult], None] | None = None
) -> VerificationReport:
    """Open the model and make the checks; `observe` hears of each as it is done. Raises PtsError."""

    def settle(tokenizer: Any) -> PromptFormat:
        return settled_format(tokenizer, inputs.prompt_format())

    # What acts inside vLLM does so on one GPU alone, which may have no room for the model.
    here = (
        inputs.engine == VLLM and inputs.tensor_parallel is None and installed.installed_version() is not None
    )
    apart: dict[str, CheckResult] = {}
    if inputs.endpoint is not None and not inputs.quick:
        apart = checked_inside_server(inputs)
    elif here and not inputs.quick:
        apart = checked_inside_vllm(inputs)
    options = {**inputs.server(), **inputs.parallel_options()}
    opened = open_engine(inputs.model_options(), inputs.engine, settle, inputs.batch_rows, options)
    subject = replace(opened.subject(inputs.sampling()), made_apart=apart)
    return (quick_verify if inputs.quick else verify)(subject, observe)
