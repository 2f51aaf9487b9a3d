"""Do single steps give a token the probability that one pass over the whole completion gives it?"""

from __future__ import annotations

from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import Subject

NAME = "steps and passes"
_MOST = 1e-3
"""Largest difference in probability in float32."""
_MEAN = 0.03
"""Mean difference in 16 bits: bfloat16 was measured at 0.013, with single positions at 0.2."""
_SPREAD = 0.1
"""Five times the spread of single differences in 16 bits, about 0.02."""
_CUT = 0.02
"""Share of tokens that may lie just beyond the edge of the truncation in a pass, and so have probability 0."""


def check_steps(subject: Subject) -> CheckResult:
    """Compare the probability that each token was drawn with to that of `next_token_probs`."""
    if subject.steerable is None:
        return skipped(NAME, "the engine does not give the probability that a token was drawn with")
    differences: list[float] = []
    cut = 0
    requests = [
        subject.request(prompt, seed=subject.seed + 100 + place) for place, prompt in enumerate(subject.prompts)
    ]
    for finished in subject.steerable.finished(requests):
        request, completion = finished.rollout.request, finished.rollout.completion
        along = subject.policy.next_token_probs(request.prompt, completion, subject.sampling)
        for place, stepped in enumerate(finished.new_probs):
            passed = along[place].prob(completion[place])
            cut += passed == 0.0
            if passed > 0.0:
                differences.append(abs(stepped - passed))
    positions = len(differences) + cut
    most, mean = max(differences, default=0.0), sum(differences) / max(1, len(differences))
    # Few tokens may lie where rounding matters: their mean is allowed to be further off.
    allowed = _MEAN + _SPREAD / max(1, len(differences)) ** 0.5
    bounded = most <= _MOST if subject.exact else mean <= allowed
    bound = f"largest at most {_MOST:g}" if subject.exact else f"mean at most {allowed:.2g}"
    figures = (
        f"{positions} tokens: largest difference in probability {most:.1e}, mean {mean:.1e} ({bound}); "
        f"{cut} at the edge of the truncation"
    )
    return judged(NAME, bounded and cut <= max(1, _CUT * positions), figures)
