"""Requests that are complete as they are: no forward pass is needed for them."""

from __future__ import annotations

from pts.policies.transformers.rows import Finished
from pts.records import Finish, Rollout, RolloutRequest, TokenIds


def finished_at_once(
    request: RolloutRequest, end_token_ids: frozenset[int], budget: int
) -> list[Finished] | None:
    """The result of a request that needs no forward pass; None where it needs one.

    A prefix that ends with an end token, or fills the budget, is complete as it is: nothing is forced after it.
    Raises ValueError for a request that contradicts itself or the budget.
    """
    if not request.prompt:
        raise ValueError("a rollout request needs a prompt of at least one token.")
    if request.force is not None and request.avoid is not None:
        raise ValueError(f"a rollout request cannot force {request.force} and avoid {request.avoid} at once.")
    if request.n < 0 or len(request.prefix) > budget:
        raise ValueError(
            f"a request for n={request.n} from {len(request.prefix)} of {budget} tokens makes no sense."
        )
    if request.n == 0:
        return []
    completion, finish = request.prefix, _finish(request.prefix, end_token_ids, budget)
    if finish is None and request.force is not None:
        completion = (*request.prefix, request.force)
        finish = _finish(completion, end_token_ids, budget)
    if finish is None:
        return None
    forced = (float("nan"),) * (len(completion) - len(request.prefix))
    return [Finished(Rollout(request, completion, request.n, finish), forced)]


def _finish(completion: TokenIds, end_token_ids: frozenset[int], budget: int) -> Finish | None:
    """Why a completion is complete, or None where it is not."""
    if completion and completion[-1] in end_token_ids:
        return "end"
    return "budget" if len(completion) >= budget else None
