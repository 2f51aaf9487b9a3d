"""What ends a completion, and requests that are complete as they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pts.policies.protocol import Finished
from pts.policies.stop_texts import StopTexts
from pts.policies.transformers.distribution import Draws
from pts.policies.transformers.rows import RowTable
from pts.records import Finish, Rollout, RolloutRequest, Sampling, TokenIds

_STOPS_KEPT = 64
"""Sets of stop texts that are kept ready."""


class CompletionEnds:
    """What ends a completion: the model's end tokens, and the stop texts of its sampling."""

    def __init__(self, token_ids: frozenset[int], tokenizer: Any) -> None:
        self.token_ids = token_ids
        self._ids = np.array(sorted(token_ids), dtype=np.int64)
        self._stops = lru_cache(_STOPS_KEPT)(partial(StopTexts, tokenizer))

    def stops(self, texts: Sequence[str]) -> StopTexts | None:
        """The finder of stop texts; None where there are none."""
        return self._stops(tuple(texts)) if texts else None

    def within(self, completion: TokenIds, sampling: Sampling) -> bool:
        """Whether a completion is at its end: by its last token, or a stop text anywhere in it."""
        if not completion:
            return False
        stops = self.stops(sampling.stop)
        return completion[-1] in self.token_ids or (stops is not None and stops.within(completion))

    def drawn(self, draws: Draws, table: RowTable) -> npt.NDArray[np.bool_]:
        """Which of the drawn tokens [n] end the completion of their row, to which none was added yet."""
        ended: npt.NDArray[np.bool_] = np.isin(draws.tokens, self._ids)
        for place in np.flatnonzero(table.has_stops[draws.rows]).tolist():
            row, token = int(draws.rows[place]), int(draws.tokens[place])
            request = table.requests[row]
            stops = None if request is None else self.stops(request.sampling.stop)
            if stops is not None and stops.may_complete(token):
                made = table.tokens[row, : int(table.made[row])].tolist()
                ended[place] |= stops.completed_by_last([*made, token])
        return ended


def finished_at_once(request: RolloutRequest, ends: CompletionEnds) -> list[Finished] | None:
    """The result of a request that needs no forward pass; None where it needs one.

    A prefix that ends with an end token, holds a stop text or fills the budget is complete as it is: nothing is
    forced after it.
    Raises ValueError for a request that contradicts itself or the budget.
    """
    if not request.prompt:
        raise ValueError("a rollout request needs a prompt of at least one token.")
    if request.force is not None and request.avoid is not None:
        raise ValueError(f"a rollout request cannot force {request.force} and avoid {request.avoid} at once.")
    sampling = request.sampling
    if request.n < 0 or len(request.prefix) > sampling.budget:
        raise ValueError(
            f"a request for n={request.n} from {len(request.prefix)} of {sampling.budget} tokens makes no "
            "sense."
        )
    if request.n == 0:
        return []
    completion, finish = request.prefix, _finish(request.prefix, ends, sampling)
    if finish is None and request.force is not None:
        completion = (*request.prefix, request.force)
        finish = _finish(completion, ends, sampling)
    if finish is None:
        return None
    forced = (float("nan"),) * (len(completion) - len(request.prefix))
    return [Finished(Rollout(request, completion, request.n, finish), forced)]


def _finish(completion: TokenIds, ends: CompletionEnds, sampling: Sampling) -> Finish | None:
    """Why a completion is complete, or None where it is not."""
    if ends.within(completion, sampling):
        return "end"
    return "budget" if len(completion) >= sampling.budget else None
