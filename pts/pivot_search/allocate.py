"""Where the screen's next rollouts tell most about large effects for a token spent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pts.pivot_search.posterior import Belief
from pts.pivot_search.values import Floats, Ints

AGAIN = 0.2
"""What is left to learn at a fork that was just given a draw: others tell as much of the values, and more."""
LEAST_LINK = 1e-6
"""Of neighbouring values' correlation: what is learned of one says at least this little about the other."""

UPSTREAM = 0.3
"""How much the variance that earlier effects depend on counts; at 1 more is spent and as much found."""


def information(belief: Belief, opened: npt.NDArray[np.bool_], share: Floats) -> Floats:
    """What one off-trace draw at each fork tells about large effects of the open candidates, in nats [F].

    A draw at fork j tells about O_j, which is V_j unless the fork itself matters. What V_j may be beside its
    mean is made by effects nearby; the part of them that is large and open counts (`share` is 1 − q, [F]).
    """
    large = np.where(opened, belief.pivotal_variance, 0.0)
    near = _within_reach(large, belief.link) / np.maximum(
        _within_reach(belief.effect_variance, belief.link), 1e-12
    )
    own = np.minimum(large / np.maximum(share, 1e-6) ** 2, belief.off_trace_variance)
    told = np.maximum(near * belief.value_told, own) + UPSTREAM * _upstream(large, belief, share)
    told = np.minimum(told, belief.off_trace_variance)
    spread = np.maximum(belief.off_trace_mean * (1.0 - belief.off_trace_mean), 1e-4)
    nats: Floats = 0.5 * np.log1p(told / spread)
    return nats


def _upstream(large: Floats, belief: Belief, share: Floats) -> Floats:
    """The variance of each off-trace value that large effects of earlier candidates depend on [F].

    By fact 4 the value after fork i holds O_j with weight w_i(j) = ∏_{i<k<j} q_k (1 − q_j), and Δ_i holds that
    times 1 − q_i. The squares fall along the way, so one pass forward sums them.
    """
    effect = np.maximum(belief.effect_variance, 1e-12)
    amounts = large / effect * share**2 / effect
    reach, carried = np.empty_like(amounts), 0.0
    for k, (amount, stay) in enumerate(zip(amounts.tolist(), (1.0 - share).tolist(), strict=True)):
        reach[k] = carried
        carried = carried * stay**2 + amount
    explained = np.minimum(reach * share**2 * belief.off_trace_variance, 1.0)
    depended_on: Floats = belief.off_trace_variance * explained
    return depended_on


def _within_reach(amounts: Floats, link: Floats) -> Floats:
    """The sum of `amounts` over all forks, each weighted by the squared correlation along the way [F]."""
    forward, backward = np.empty_like(amounts), np.empty_like(amounts)
    kept = link**2
    carried = 0.0
    for k, (amount, keep) in enumerate(zip(amounts.tolist(), kept.tolist(), strict=True)):
        carried = carried * keep
        forward[k] = carried
        carried += amount
    carried = 0.0
    for k in range(len(amounts) - 1, -1, -1):
        carried += amounts[k]
        backward[k] = carried
        carried *= kept[k]
    summed: Floats = forward + backward
    return summed


def spread_draws(nats: Floats, cost: Floats, belief: Belief, most: int, price: float) -> Ints:
    """At most `most` draws over the forks [F], each where it tells most for a token spent.

    A draw lowers what is left to learn at its fork, and nearby by as much as the values are correlated. The
    first must tell `price` nats a token, the others half of it: few looks rather than many small ones.
    """
    given = np.zeros(len(nats), dtype=np.int64)
    left = nats.copy()
    distance = np.cumsum(-2.0 * np.log(np.maximum(belief.link, LEAST_LINK)))
    for _ in range(most):
        worth = left / cost
        best = int(np.argmax(worth))
        if worth[best] < (price / 2.0 if given.any() else price):
            break
        given[best] += 1
        # 2·nats is about the variance in units of one draw's own: a draw leaves 1 / (1 + that) of it.
        learned = 1.0 - 1.0 / (1.0 + 2.0 * left[best])
        left *= 1.0 - learned * np.exp(-np.abs(distance - distance[best]))
        left[best] *= AGAIN
    return given
