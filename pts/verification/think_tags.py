"""Can the model's thinking be found, written and closed by a budget?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pts.decoding.budget import BudgetGuide
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import ThinkFormat, find_think_format
from pts.errors import PtsError
from pts.models.prompt import thinking_modes
from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import QUESTIONS, Subject

NAME = "think tags"
_THINKING = 6
"""Tokens of thinking allowed beside those that close it."""


def check_think_tags(subject: Subject) -> CheckResult:
    """The tags must be found, and a budget must close thinking in time where the engine takes guides."""
    if subject.tokenizer is None:
        return skipped(NAME, "there is no tokenizer")
    try:
        think = find_think_format(subject.tokenizer, subject.prompt_format)
    except PtsError as error:
        return judged(NAME, False, str(error))
    if think is None:
        return skipped(NAME, "the model has none that are known")
    modes = thinking_modes(subject.tokenizer, QUESTIONS[0], subject.prompt_format)
    switch = "with a switch" if modes else "without a switch"
    tags = f"{_text(subject, think.start)} and {_text(subject, think.end)}, chat template {switch}"
    if subject.steerable is None:
        return judged(NAME, True, f"{tags}; closing by a budget was not tried: the engine takes no guides")
    late, rows, limit = _closed_late(subject, think)
    figures = f"{tags}; a budget of {limit} tokens closed the thinking in time in {rows - late} of {rows} rows"
    return judged(NAME, late == 0, figures)


def _closed_late(subject: Subject, think: ThinkFormat) -> tuple[int, int, int]:
    """How many of how many sampled completions thought longer than a budget of tokens, and the budget."""
    assert subject.steerable is not None
    thinking = _THINKING + len(think.end)
    sampling = replace(subject.sampling, budget=thinking + len(think.start) + 6)
    limits = TokenLimits(thinking=thinking, total=sampling.budget)
    prompts = [prompt if think.is_open(prompt) else prompt + think.start for prompt in subject.prompts]
    ends = subject.policy.end_token_ids
    asked = [
        subject.request(
            prompt,
            sampling=sampling,
            seed=subject.seed + 500,
            guide=partial(BudgetGuide, limits, think, opened=True, end_token_ids=ends),
        )
        for prompt in dict.fromkeys(prompts)
    ]
    late = 0
    for finished in subject.steerable.finished(asked):
        completion = finished.rollout.completion
        thought, _ = think.split(completion, True)
        ended = finished.rollout.finish == "end" and len(completion) <= thinking
        late += len(thought) > thinking and not ended
    return late, len(asked), thinking


def _text(subject: Subject, ids: tuple[int, ...]) -> str:
    text: str = subject.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return text.strip()
