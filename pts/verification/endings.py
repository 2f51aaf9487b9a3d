"""Do completions end where they must: at the budget, at an end token, at a stop text, and never go on after?"""

from __future__ import annotations

from dataclasses import replace

from pts.records import Rollout
from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import Subject

BUDGETS = "budgets"
END_TOKENS = "end tokens"
STOP_TEXTS = "stop texts"
_DRAWS = 8


def check_budgets(subject: Subject) -> CheckResult:
    """Rollouts from the prompt, and from inside a trace, must keep within the total budget and be counted."""
    prompt = subject.prompts[0]
    trace = subject.one_each([subject.request(prompt, seed=subject.seed + 300)])[0]
    ends = set(subject.policy.end_token_ids)
    asked, wanted = [], []
    for budget in (1, 3, 8):
        for cut in sorted({0, budget // 2, budget - 1}):
            if cut < len(trace) and not ends & set(trace[:cut]):
                sampling = replace(subject.sampling, budget=budget)
                asked.append(subject.request(prompt, trace[:cut], sampling=sampling, n=_DRAWS))
                wanted.append(budget)
    found = subject.completed(asked)
    drawn = [(budget, one) for budget, rollouts in zip(wanted, found, strict=True) for one in rollouts]
    beyond = sum(len(one.completion) > budget for budget, one in drawn)
    cut_early = sum(one.finish == "budget" and len(one.completion) != budget for budget, one in drawn)
    short = sum(sum(one.count for one in rollouts) != _DRAWS for rollouts in found)
    moved = sum(
        one.completion[: len(one.request.prefix)] != one.request.prefix
        for rollouts in found
        for one in rollouts
    )
    figures = (
        f"{len(asked)} requests x {_DRAWS} rollouts: {beyond} beyond their budget, {cut_early} cut before it, "
        f"{moved} without their prefix, {short} requests with another number of rollouts"
    )
    return judged(BUDGETS, not (beyond or cut_early or short or moved), figures)


def check_end_tokens(subject: Subject) -> CheckResult:
    """An end token must end a completion, stand nowhere else, and be followed by nothing."""
    ends = set(subject.policy.end_token_ids)
    if not ends:
        return skipped(END_TOKENS, "the policy has no end tokens")
    asked = [subject.request(prompt, seed=subject.seed + 400, n=_DRAWS) for prompt in subject.prompts]
    found = [one for rollouts in subject.completed(asked) for one in rollouts]
    passed = sum(bool(ends & set(one.completion[:-1])) for one in found)
    unended = sum(
        one.finish == "end" and one.completion[-1] not in ends and not _stopped(subject, one) for one in found
    )
    ended = sum(one.count for one in found if one.finish == "end")
    prompt = subject.prompts[0]
    forced = [subject.request(prompt, force=end) for end in sorted(ends)]
    again = [subject.request(prompt, (end,)) for end in sorted(ends)]
    results = subject.completed([*forced, *again])
    after = sum(
        not all(one.completion == (end,) and one.finish == "end" for one in rollouts)
        for end, rollouts in zip(sorted(ends) * 2, results, strict=True)
    )
    figures = (
        f"{ended} of {sum(one.count for one in found)} rollouts ended by one of {sorted(ends)}: {passed} go on "
        f"after one, {unended} ended without one; {after} of {len(results)} completions that had ended went on"
    )
    return judged(END_TOKENS, not (passed or unended or after), figures)


def _stopped(subject: Subject, rollout: Rollout) -> bool:
    stop = rollout.request.sampling.stop
    return bool(stop) and subject.policy.end_of_stop(rollout.completion, stop) is not None


def check_stop_texts(subject: Subject) -> CheckResult:
    """A text from inside a greedy completion, as a stop text, must end it with the token that completes it."""
    if subject.tokenizer is None:
        return skipped(STOP_TEXTS, "there is no tokenizer")
    greedy = [subject.request(prompt, sampling=subject.greedy) for prompt in subject.prompts]
    asked, wanted = [], []
    for request, completion in zip(greedy, subject.one_each(greedy), strict=True):
        middle = completion[len(completion) // 2 : len(completion) // 2 + 1]
        text = subject.policy.decode(middle).strip()
        if not text or "\ufffd" in text:
            continue
        end = subject.policy.end_of_stop(completion, (text,))
        if end is None:
            continue
        asked.append(replace(request, sampling=replace(subject.greedy, stop=(text,))))
        wanted.append((completion[:end], text))
    if not asked:
        return skipped(STOP_TEXTS, "no completion has a token in its middle that is a text by itself")
    found = subject.one_each(asked)
    ends = [subject.policy.end_of_stop(ids, (text,)) for ids, (_, text) in zip(found, wanted, strict=True)]
    stopped = sum(end == len(ids) for ids, end in zip(found, ends, strict=True))
    # In 16 bits a completion may take another turn once its neighbours have left the batch.
    same = sum(ids == expected for ids, (expected, _) in zip(found, wanted, strict=True))
    good = stopped == len(asked) and (same == len(asked) or not subject.exact)
    figures = (
        f"{stopped} of {len(asked)} completions end with the token that completes their stop text, "
        f"{same} are otherwise unchanged"
    )
    return judged(STOP_TEXTS, good, figures)
