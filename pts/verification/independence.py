"""Does a completion depend on its own request alone: not on where it began, nor on what shares its batch?"""

from __future__ import annotations

from pts.verification.agreement import agreement
from pts.verification.report import CheckResult, judged
from pts.verification.subject import Subject

PREFIXES = "prefixes"
BATCHES = "batches"
_ALONE = 4
"""Requests that are repeated alone."""


def check_prefixes(subject: Subject) -> CheckResult:
    """Greedy completions that begin inside another must go on as it does, all in one batch."""
    whole = dict(zip(subject.prompts, _greedy(subject), strict=True))
    parts = [
        (prompt, completion[:cut])
        for prompt, completion in whole.items()
        for cut in sorted({1, len(completion) // 3, 2 * len(completion) // 3})
        if 0 < cut < len(completion)
    ]
    asked = [subject.request(prompt, prefix, sampling=subject.greedy) for prompt, prefix in parts]
    found = subject.one_each(asked)
    pairs = [(prompt, whole[prompt], continued) for (prompt, _), continued in zip(parts, found, strict=True)]
    same = agreement(subject, pairs)
    return judged(PREFIXES, same.good, f"greedy from inside a completion: {same}")


def check_batches(subject: Subject) -> CheckResult:
    """A request completed alone and among others of all lengths must give the same completion.

    Greedy completions are compared in every number format. Sampled ones decide in float32 alone: in 16 bits the
    size of a batch may change the last digit, and so a draw at the edge between two tokens.
    """
    greedy = _greedy(subject)
    step = max(1, len(subject.prompts) // _ALONE)
    some = list(zip(subject.prompts, greedy, strict=True))[::step][:_ALONE]
    alone = [subject.one_each([subject.request(prompt, sampling=subject.greedy)])[0] for prompt, _ in some]
    pairs = [(prompt, among, by_itself) for (prompt, among), by_itself in zip(some, alone, strict=True)]
    same = agreement(subject, pairs)
    asked = [
        subject.request(prompt, seed=subject.seed + 200 + draw)
        for prompt in subject.prompts
        for draw in range(2)
    ]
    together = subject.completed(asked)
    chosen = list(range(0, len(asked), max(1, len(asked) // _ALONE)))[:_ALONE]
    equal = sum(
        [rollout.completion for rollout in subject.completed([asked[place]])[0]]
        == [rollout.completion for rollout in together[place]]
        for place in chosen
    )
    lengths = sorted(map(len, subject.prompts))
    figures = (
        f"alone and among {len(asked)} of {lengths[0]} to {lengths[-1]} tokens: greedy {same}; "
        f"sampled {equal} of {len(chosen)} equal"
    )
    if not subject.exact:
        figures += f" (not judged in {subject.policy.identity.dtype})"
    if subject.unreached:
        figures += f"; windows not reached: {', '.join(map(str, sorted(subject.unreached)))} tokens"
    return judged(BATCHES, same.good and (equal == len(chosen) or not subject.exact), figures)


def _greedy(subject: Subject) -> list[tuple[int, ...]]:
    return subject.one_each([subject.request(prompt, sampling=subject.greedy) for prompt in subject.prompts])
