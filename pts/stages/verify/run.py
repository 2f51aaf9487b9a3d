"""From a model's name to a report on what a search counts on."""

from __future__ import annotations

from collections.abc import Callable

from pts.models.hardware import settle_threads
from pts.models.load import load_model
from pts.models.prompt import settled_format
from pts.policies import policy_of
from pts.stages.verify.inputs import VerifyInputs
from pts.verification import CheckResult, VerificationReport, quick_verify, subject_of, verify


def run_verification(
    inputs: VerifyInputs, observe: Callable[[CheckResult], None] | None = None
) -> VerificationReport:
    """Load the model and make the checks; `observe` hears of each as it is done. Raises PtsError."""
    loaded = load_model(inputs.model_options())
    settle_threads(loaded.device, loaded.model.num_parameters())
    prompt_format = settled_format(loaded.tokenizer, inputs.prompt_format())
    policy = policy_of(loaded, prompt_format, batch_rows=inputs.batch_rows)
    subject = subject_of(
        policy, inputs.sampling(), steerable=policy, loaded=loaded, prompt_format=prompt_format
    )
    return (quick_verify if inputs.quick else verify)(subject, observe)
