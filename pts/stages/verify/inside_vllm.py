"""The checks of what `pts` does inside vLLM, on an engine that is opened for that in a process of its own."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from pts.errors import PtsError, one_line
from pts.models.prompt import settled_format
from pts.setting_names import Naming, current_naming, named_as
from pts.stages.verify.inputs import VerifyInputs
from pts.verification import INSIDE, CheckResult, checks_inside, subject_of


def checked_inside_vllm(inputs: VerifyInputs) -> dict[str, CheckResult]:
    """The results by name, skipped with the reason where vLLM cannot be opened for them.

    A search's engine steers nothing, and may run compiled graphs and another model runner. Beside it there may
    be no memory for a second one; that of another process is free again when it ends.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            found = pool.submit(_check, inputs, current_naming()).result()
        except BrokenProcessPool:
            died = "the process of an engine that is opened for it died"
            found = tuple(CheckResult(name, "failed", died) for name in INSIDE)
    return {result.name: result for result in found}


def checked_inside_server(inputs: VerifyInputs) -> dict[str, CheckResult]:
    """The results by name in a server that runs already, skipped where it was not started for that."""
    return {result.name: result for result in _checked(inputs)}


def _check(inputs: VerifyInputs, naming: Naming) -> tuple[CheckResult, ...]:
    with named_as(naming):
        return _checked(inputs)


def _checked(inputs: VerifyInputs) -> tuple[CheckResult, ...]:
    from pts.models.tokenizer import load_tokenizer
    from pts.policies import open_policy

    try:
        options = inputs.model_options()
        prompt_format = settled_format(load_tokenizer(options), inputs.prompt_format())
        policy: Any = open_policy(
            options,
            engine=inputs.engine,
            prompt_format=prompt_format,
            batch_rows=inputs.batch_rows,
            steerable=True,
            **inputs.server(),
        )
        subject = subject_of(
            policy,
            inputs.sampling(),
            steerable=policy,
            tokenizer=policy.tokenizer,
            prompt_format=prompt_format,
        )
    except PtsError as error:
        return tuple(CheckResult(name, "skipped", one_line(error)) for name in INSIDE)
    return checks_inside(subject)
