"""The effect of chosen settings, measured once on problems that nothing was chosen on."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from pts.calibration.divergence import kl_per_token
from pts.calibration.evaluator import Evaluator
from pts.calibration.settings import Setting
from pts.evaluation.outcomes import Outcomes
from pts.records import RolloutRequest
from pts.seeds import derive_seed
from pts.stats import bootstrap_mean_interval
from pts.steering.vector_set import Effect

logger = logging.getLogger(__name__)

LEVEL = 0.95
KL_PROBLEMS = 64
NOT_ASKED = "it was not asked for"
"""Why there is no divergence where `measure_effects` was told to leave it out."""


def measure_effects(
    evaluator: Evaluator,
    chosen: Mapping[str, Setting],
    controls: Sequence[Setting],
    methods: int = 1,
    *,
    divergence: bool = True,
) -> dict[str, Effect]:
    """The effect of each pattern's setting, beside those of the random controls, by pattern.

    All are measured on the same problems with the same seeds; the interval is a bootstrap over problems.
    `methods` is how many methods the settings are the best of. Without a `divergence`, or where measuring it
    fails, everything else stands and the effect says why it has none.
    """
    count = len(evaluator.problems)
    unsteered = evaluator.unsteered()
    steered = evaluator([*chosen.values(), *controls], 0, count)
    random = tuple(steered[control].success - unsteered.success for control in controls)
    return {
        pattern: _effect(evaluator, pattern, setting, unsteered, steered[setting], random, methods, divergence)
        for pattern, setting in chosen.items()
    }


def _effect(
    evaluator: Evaluator,
    pattern: str,
    setting: Setting,
    unsteered: Outcomes,
    steered: Outcomes,
    random: tuple[float, ...],
    methods: int,
    divergence: bool,
) -> Effect:
    kl, left_out = _kl_or_reason(evaluator, setting) if divergence else (None, NOT_ASKED)
    low, high = bootstrap_mean_interval(steered.rates - unsteered.rates, LEVEL, evaluator.seed)
    return Effect(
        pattern=pattern,
        problems=len(evaluator.problems),
        samples=steered.samples,
        unsteered=unsteered.success,
        steered=steered.success,
        difference=steered.success - unsteered.success,
        low=low,
        high=high,
        level=LEVEL,
        random=random,
        tokens_unsteered=unsteered.tokens_each,
        tokens_steered=steered.tokens_each,
        kl_per_token=kl,
        methods=methods,
        kl_left_out=left_out,
        cut_unsteered=unsteered.cut_share,
        cut_steered=steered.cut_share,
    )


def _kl_or_reason(evaluator: Evaluator, setting: Setting) -> tuple[float | None, str | None]:
    """KL per token, or why there is none: what was measured before it is not lost with it."""
    try:
        kl = _kl(evaluator, setting)
    except Exception as error:
        reason = f"measuring it failed ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"
    else:
        if math.isfinite(kl):
            return kl, None
        reason = f"it came out as {kl}"
    logger.warning("%s: the set is written without its KL divergence: %s.", setting.pattern, reason)
    return None, reason


def _kl(evaluator: Evaluator, setting: Setting) -> float:
    """KL per token on one steered completion each of some problems."""
    decoder = evaluator.decoder
    variant = evaluator.directions.interventions(setting)
    with decoder.steered([variant]) as policy:
        requests = [
            RolloutRequest(
                policy.encode(problem),
                seed=derive_seed(evaluator.seed, "divergence", problem.id),
                variant=1,
                key=problem.id,
                sampling=decoder.sampling,
            )
            for problem in evaluator.problems[:KL_PROBLEMS]
        ]
        rollouts = list(policy.rollouts(requests))
    return kl_per_token(
        decoder.loaded.model, variant, rollouts, decoder.layers_path, memory_bytes=decoder.memory_bytes
    )
