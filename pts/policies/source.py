"""Where a policy gets its requests from: a source that may have more later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol, TypeAlias, runtime_checkable

from pts.records import RolloutRequest


@runtime_checkable
class RolloutSource(Protocol):
    """Requests for rollouts, given out as a policy has room for them."""

    def take(self, n: int) -> Sequence[RolloutRequest]:
        """At most `n` requests, in order; fewer, or none, where no more are ready now.

        More may be ready once a rollout was delivered. So a policy stops only when `take` gives none while
        nothing is under way.
        """


class RequestQueue:
    """The requests of an iterable as a source; they are read as they are taken.

    Example:
        >>> queue = RequestQueue([RolloutRequest((1, 2), seed=0), RolloutRequest((1, 2), seed=1)])
        >>> [request.seed for request in queue.take(5)]
        [0, 1]
    """

    def __init__(self, requests: Iterable[RolloutRequest]) -> None:
        self._requests = iter(requests)

    def take(self, n: int) -> list[RolloutRequest]:
        """At most the next `n` requests; an empty list once there are no more."""
        return list(islice(self._requests, n))


RolloutRequests: TypeAlias = RolloutSource | Iterable[RolloutRequest]
"""What a policy draws rollouts for."""


def as_source(requests: RolloutRequests) -> RolloutSource:
    """The source itself, or plain requests as one."""
    return requests if isinstance(requests, RolloutSource) else RequestQueue(requests)
