"""What vLLM's two model runners read in a pass, and the logits processors that they have loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

LABEL = "pts"
"""The key in a request's extra arguments under which `pts` names its completion."""
DRAWN = "pts_drawn"
"""The key that says that `pts` draws the completion's tokens."""


class Row(NamedTuple):
    """One request's part of a forward pass: tokens `start` to `start + size` of the pass.

    The first of them is at position `first` of the request's sequence. `label` is None for a request that
    `pts` does not follow.
    """

    label: str | None
    start: int
    size: int
    first: int


class Batch(Protocol):
    """A model runner's batch, as it stands when a pass begins."""

    def processors(self) -> Sequence[Any]:
        """The logits processors that may change which token is the likeliest."""

    def rows(self) -> list[Row]:
        """The requests of the pass that is about to be made, in its order."""


class BatchV1:
    """The batch of the model runner V1, which keeps its requests' parameters."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def processors(self) -> Sequence[Any]:
        """The logits processors that may change which token is the likeliest."""
        found: Sequence[Any] = self._runner.input_batch.logitsprocs.non_argmax_invariant
        return found

    def rows(self) -> list[Row]:
        """The requests of the pass that is about to be made, in its order."""
        runner, batch = self._runner, self._runner.input_batch
        names = batch.req_ids[: batch.num_reqs]
        extras = (runner.requests[name].sampling_params.extra_args or {} for name in names)
        labels = [extra.get(LABEL) for extra in extras]
        return _rows(labels, runner.query_start_loc.np, batch.num_computed_tokens_cpu)


class BatchV2:
    """The batch of the model runner V2, which makes a new one for every pass: the last one is kept here.

    It forgets its requests' parameters. So their labels are those that the logits processor of `pts` was told,
    by the request's slot.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._last: Any = None
        prepare: Callable[..., Any] = runner.prepare_inputs

        def prepared(*args: Any, **kwargs: Any) -> Any:
            self._last = prepare(*args, **kwargs)
            return self._last

        runner.prepare_inputs = prepared

    def processors(self) -> Sequence[Any]:
        """All of the sampler's logits processors."""
        found: Sequence[Any] = getattr(self._runner.sampler, "logits_processors", ())
        return found

    def rows(self) -> list[Row]:
        """The requests of the pass that is about to be made, in its order."""
        batch = self._last
        slots: dict[int, str | None] = {}
        for processor in self.processors():
            slots |= getattr(processor, "pts_labels", {})
        labels = [slots.get(slot) for slot in batch.idx_mapping_np.tolist()]
        return _rows(labels, batch.query_start_loc_np, batch.num_computed_tokens_np)


def _rows(labels: Sequence[str | None], bounds: Any, computed: Any) -> list[Row]:
    """Rows from arrays of where each one starts in the pass [rows + 1], and of what was read before [rows]."""
    count = len(labels)
    starts, firsts = bounds[: count + 1].tolist(), computed[:count].tolist()
    return [
        Row(label, starts[row], starts[row + 1] - starts[row], firsts[row]) for row, label in enumerate(labels)
    ]
