"""What measured effects allow to be claimed: ranks among calibrated random directions, corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pts.ranks import SIGNIFICANCE, controls_needed
from pts.stats import holm

if TYPE_CHECKING:
    from pts.steering.vector_set import Effect

PRIMARY = "all"
"""The pattern that a set's claim is made for first: the vector of all pairs."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What can be claimed of one pattern's effect.

    `rank` is its place among `controls` random directions. `p_value` is its own; `corrected` allows for the
    `family` of patterns that are tested beside it, and for the test of the first pattern before theirs.
    `needed` is the number of controls below which even a first rank could not be claimed. `clear` says whether
    the interval over problems is above zero.
    """

    pattern: str
    rank: int
    controls: int
    methods: int
    p_value: float
    corrected: float
    family: int
    needed: int
    clear: bool

    @property
    def possible(self) -> bool:
        """Whether there are controls enough for any claim."""
        return self.controls >= self.needed

    @property
    def matched(self) -> bool:
        """Whether a random direction did as well."""
        return self.rank > 1

    @property
    def made(self) -> bool:
        """Whether the vector may be said to raise success more than random directions do."""
        return self.possible and self.clear and self.corrected <= SIGNIFICANCE + 1e-9


def claims(effects: Mapping[str, Effect]) -> dict[str, Claim]:
    """The claims of a set's effects, by pattern: the chance that any of them is false is at most 5%.

    The vector of all pairs (or the only one) is tested first, by itself. The other patterns are one family:
    they are tested where the first passed, with Holm's correction (serial gatekeeping: Westfall and Krishen
    2001). A set without a vector of all pairs is one family.
    """
    first = PRIMARY if PRIMARY in effects else next(iter(effects)) if len(effects) == 1 else None
    own = {name: effect.p_value for name, effect in effects.items()}
    others = [name for name in effects if name != first]
    gate = own[first] if first is not None else 0.0
    others_corrected = holm([own[name] for name in others]).tolist()
    corrected = {name: max(gate, p) for name, p in zip(others, others_corrected, strict=True)}
    if first is not None:
        corrected[first] = own[first]
    return {
        name: _claim(effect, own[name], corrected[name], 1 if name == first else len(others))
        for name, effect in effects.items()
    }


def _claim(effect: Effect, own: float, corrected: float, family: int) -> Claim:
    return Claim(
        effect.pattern,
        effect.rank,
        len(effect.random),
        effect.methods,
        own,
        corrected,
        family,
        controls_needed(effect.methods, family),
        effect.low > 0,
    )


def rank_sentence(claim: Claim) -> str:
    """The rank and what it proves, as part of a sentence."""
    if not claim.controls:
        return "no random direction was measured beside it, so nothing is proved"
    text = (
        f"rank {claim.rank} of {claim.controls + 1} beside {claim.controls} random directions calibrated alike"
    )
    if not claim.possible:
        return f"{text}, which proves nothing: {_needs(claim)}"
    chosen = f" (times {claim.methods}: the best of as many methods)" if claim.methods > 1 else ""
    corrected = ""
    if claim.family > 1 or claim.corrected > claim.p_value:
        corrected = f", {claim.corrected:.3f} corrected ({_family(claim)})"
    return f"{text}: p {claim.p_value:.3f}{chosen}{corrected}"


def _needs(claim: Claim) -> str:
    """How many controls a first rank would need, and why."""
    reasons = [f"the best of {claim.methods} methods"] if claim.methods > 1 else []
    reasons += [f"one of {claim.family} patterns"] if claim.family > 1 else []
    of = f" for {' and '.join(reasons)}" if reasons else ""
    return f"a claim{of} needs at least {claim.needed}"


def _family(claim: Claim) -> str:
    if claim.family > 1:
        return f"Holm, over {claim.family} patterns"
    return "tested after the vector of all pairs"
