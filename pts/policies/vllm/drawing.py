"""Completions whose tokens `pts` draws itself, from vLLM's logits: guided, steered, with their probabilities.

Their draws are those of the engine transformers: the same streams, the same truncation, the same guides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pts.errors import ModelError
from pts.policies.guide import Guide
from pts.policies.protocol import Finished
from pts.policies.transformers.complete import CompletionEnds
from pts.policies.transformers.distribution import (
    Draws,
    draw,
    joined,
    log_totals,
    next_tokens,
    with_own_probs,
)
from pts.policies.transformers.draws import child_keys, root_key
from pts.policies.transformers.wishes import grant, wishes_of
from pts.policies.vllm.passes import Followed
from pts.records import Finish, Rollout, RolloutRequest, Sampling, TokenIds
from pts.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Drawn:
    """The token that was drawn for a completion and that vLLM has not reported yet."""

    token: int
    prob: float
    moved: bool


@dataclass(slots=True, eq=False)
class Drawing:
    """One completion under way: its tokens with their probabilities, its stream of draws, its guide.

    `own_probs` asks for the model's own probabilities. `followed` is set where it is steered,
    `label` once it is under way.
    """

    request: RolloutRequest
    ends: CompletionEnds
    key: int
    guide: Guide | None
    own_probs: bool
    tokens: list[int]
    followed: Followed | None
    probs: list[float] = field(default_factory=list)
    ended: bool = False
    drawn: Drawn | None = None
    label: str = ""

    @property
    def given(self) -> TokenIds:
        """What the completion begins with: prefix and forced token."""
        request = self.request
        return request.prefix if request.force is None else (*request.prefix, request.force)

    @property
    def avoid(self) -> int:
        """The token that may not come next; −1 for none."""
        first = len(self.tokens) == len(self.request.prefix)
        return self.request.avoid if self.request.avoid is not None and first else -1

    def hear(self, new: list[int], before: int) -> int | None:
        """Take the new tokens from index `before` on; how many there are where the completion ends, else None.

        Raises ModelError where vLLM wrote another token than was drawn.
        """
        for index in range(before, len(new)):
            drawn, self.drawn = self.drawn, None
            if self._take(new[index], drawn):
                return index + 1
        return None

    def replay(self, new: Sequence[int], drawn: Sequence[Sequence[float]]) -> None:
        """Take a whole completion that was drawn elsewhere: its new tokens, and what was drawn for each.

        That is the token, its probability, and whether it is a wish's heir. A token after the end is left out.
        Raises ModelError where the two do not agree, or where the completion has no end.
        """
        for token, entry in zip(new, drawn, strict=False):
            if self._take(token, Drawn(int(entry[0]), float(entry[1]), bool(entry[2]))):
                return
        if len(self.tokens) < self.request.sampling.budget:
            raise ModelError(
                f"the server ended a completion after {len(new)} tokens, of which {len(drawn)} were drawn: its "
                "logits processors do not act as pts needs them."
            )

    def _take(self, token: int, drawn: Drawn | None) -> bool:
        """Take the next token; True where the completion ends with it."""
        if drawn is None or drawn.token != token:
            was = "none was drawn" if drawn is None else f"{drawn.token} was drawn"
            raise ModelError(
                f"vLLM wrote token {token} where {was}: its logits processors do not act as pts needs them "
                "(use the engine transformers)."
            )
        self.key = int(child_keys(np.array([self.key], dtype=np.uint64), np.array([token]))[0])
        self.tokens.append(token)
        self.probs.append(drawn.prob)
        stopped = self.guide is not None and self.guide.advance(token, drawn.moved)
        stops = self.ends.stops(self.request.sampling.stop)
        completed = stops is not None and stops.completed_by_last(self.tokens)
        self.ended = token in self.ends.token_ids or completed
        return self.ended or stopped

    def finished(self) -> Finished:
        """The completion as a result. Raises ModelError where passes that should have been steered were not."""
        written = len(self.probs)
        if self.followed is not None and self.followed.read < written - 1:
            raise ModelError(
                f"steering heard of {self.followed.read} of the {written - 1} steps of a completion: vLLM goes "
                "by its hooks, so nothing of it can be trusted (use the engine transformers)."
            )
        finish: Finish = "end" if self.ended else "budget"
        start = len(self.request.prefix)
        forced = [math.nan] * (len(self.tokens) - start - written)
        probs = [*forced, *self.probs]
        if self.guide is not None:
            injected = set(self.guide.injected)
            probs = [math.nan if start + at in injected else prob for at, prob in enumerate(probs)]
        return Finished(Rollout(self.request, tuple(self.tokens), 1, finish), tuple(probs), self.guide)


def drawings(request: RolloutRequest, ends: CompletionEnds, own_probs: bool) -> list[Drawing]:
    """The completions of a request, each with a stream of its own; the first has the request's own."""
    root, found = root_key(request), []
    for index in range(request.n):
        guide = None if request.guide is None else request.guide()
        followed = Followed(len(request.prompt), request.variant, guide) if request.variant else None
        key = root if index == 0 else derive_seed(root, index) % 2**64
        drawing = Drawing(request, ends, key, guide, own_probs, [], followed)
        drawing.tokens += drawing.given
        found.append(drawing)
    return found


class Drawer:
    """Draws the next tokens of all completions under way that a pass has logits of."""

    def __init__(self) -> None:
        self.under_way: dict[str, Drawing] = {}

    @torch.inference_mode()
    def draw(self, logits: torch.Tensor, rows: Sequence[tuple[int, str]]) -> None:
        """Draw a token for each of the rows, by label, and leave only it in `logits` [batch, vocabulary]."""
        found = [self.under_way[label] for _, label in rows]
        at = torch.tensor([row for row, _ in rows], device=logits.device)
        own = logits[at]
        totals = log_totals(own) if any(drawing.own_probs for drawing in found) else None
        wishes = wishes_of([drawing.guide for drawing in found])
        moved = grant(own, wishes) if wishes else None
        draws = _draws(own, found)
        plain = None if totals is None else with_own_probs(draws, own, totals).probs
        for place, drawing in enumerate(found):
            token = int(draws.tokens[place])
            probs = plain if plain is not None and drawing.own_probs else draws.probs
            heir = moved is not None and int(moved[place]) == token
            drawing.drawn = Drawn(token, float(probs[place]), heir)
        logits[at] = -torch.inf
        logits[at, torch.from_numpy(draws.tokens).to(logits.device)] = 0.0


def _draws(logits: torch.Tensor, found: Sequence[Drawing]) -> Draws:
    """One draw for each row of `logits` [rows, vocabulary]; rows of one sampler together."""
    groups: dict[Sampling, list[int]] = {}
    for place, drawing in enumerate(found):
        groups.setdefault(replace(drawing.request.sampling, budget=1, stop=()), []).append(place)
    parts = []
    for sampling, places in groups.items():
        rows = np.array(places)
        own = logits if len(groups) == 1 else logits[torch.from_numpy(rows).to(logits.device)]
        avoid = np.array([found[place].avoid for place in places], dtype=np.int64)
        keys = np.array([found[place].key for place in places], dtype=np.uint64)
        drawn = draw(next_tokens(own, sampling, avoid), keys, np.ones(len(places), dtype=np.int64))
        parts.append(replace(drawn, rows=rows[drawn.rows]))
    return joined(parts)
