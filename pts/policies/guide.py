"""What besides the model decides how a completion goes on: steering, budgets, forced tokens, early ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pts.records import TokenIds


class StepSteering(Protocol):
    """What makes the variants of requests differ: told of each forward pass before it is made.

    A pass that it is not told of is the model's own.
    """

    def begin_step(self, variants: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> None:
        """The next pass reads one token [rows] a row, by these variants [rows] (0: the model as it is)."""


class PassSteering(StepSteering, Protocol):
    """One that knows passes over many tokens of a row, too (`pts.steering.hooks.steer` gives one)."""

    def begin_pass(self, variants: Any, tokens: Any, where: Any = None) -> None:
        """The next pass reads `tokens` [rows, n], a tensor; `where` [rows, n] says which may be steered."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a guide wants of the next token, before any truncation.

    `forced` is the one token that may come; with it the others mean nothing. The tokens `banned` may not come.
    Where one of them would have, `heir` comes instead: it takes the highest logit of the banned ones where that
    is above its own, so it is drawn whatever the sampler.

        Wish(banned=(end,), heir=wait)  # what would have ended goes on
    """

    forced: int | None = None
    banned: TokenIds = ()
    heir: int | None = None


class Guide(Protocol):
    """Follows one completion token by token; the engine asks it before every draw and tells it what came.

    It never sees logits: it says what it wants, and the engine does that for all rows of a batch at once.
    `injected` are the positions of the completion's tokens that the model did not choose.
    """

    @property
    def injected(self) -> TokenIds:
        """Positions in the completion, from 0, of tokens that were put there."""

    @property
    def skipped(self) -> TokenIds:
        """Positions in the completion, from 0, of tokens that were read without steering."""

    def steered(self, variant: int) -> int:
        """The variant of the pass that reads the last token, of a request of `variant`; 0 is none."""

    def wish(self) -> Wish | None:
        """What it wants of the next token; None, most steps, where that is the model's alone to choose."""

    def advance(self, token: int, moved: bool = False) -> bool:
        """Hear of the next token, drawn or forced; True where the completion must end with it.

        `moved`: the token is the wish's heir, and stands where a banned one would have been drawn.
        """

    def fork(self) -> Guide:
        """A copy, for a completion that goes another way from here."""
