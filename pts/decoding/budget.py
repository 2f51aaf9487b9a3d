"""The thinking budget of one completion, as a state machine over its tokens.

`idle` until thinking begins, `counting` while it lasts, `forcing` while its end is put in, `done` after it; the
states are those of llama.cpp's reasoning budget. Thinking that begins again counts on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

from pts.decoding.context_match import Contexts, Trail
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import ThinkFormat
from pts.decoding.wire import described_contexts, described_think
from pts.errors import ConfigError
from pts.policies.guide import Wish
from pts.records import TokenIds
from pts.seeds import derive_seed

Phase: TypeAlias = Literal["idle", "counting", "forcing", "done"]
StopReason: TypeAlias = Literal["answer limit", "total limit", "pause"]

_COUNTS = ("thinking", "answer", "switches", "stopped", "phase", "_replaced", "_resumed")
_TOKENS = ("injected", "queue", "tail")
"""Where a guide is: what it has counted, and its lists of tokens and positions."""


class BudgetGuide:
    """Keeps one completion within its limits (a `pts.policies.guide.Guide`).

    `thinking` and `answer` count its tokens so far, `switches` its turns of thought; `stopped` says which limit
    ended it. `opened`: the prompt ends within thinking. `listen`, where it is set, hears of every token.
    `trail`, where there is one, says where the completion is steered; without one that is everywhere.
    Raises ConfigError where limits need thinking and `think` is None, or a minimum has no continuation.
    """

    def __init__(
        self,
        limits: TokenLimits,
        think: ThinkFormat | None = None,
        *,
        opened: bool = False,
        end_token_ids: Iterable[int] = (),
        seed: int = 0,
        trail: Trail | None = None,
    ) -> None:
        if think is None and limits.needs_thinking:
            raise ConfigError("a limit on thinking needs think tags, and none of this model are known.")
        if think is not None and limits.least_thinking > 0 and not think.continuations:
            raise ConfigError("a minimum of thinking needs a continuation that the vocabulary can write.")
        self.limits = limits
        self.thinking = self.answer = self.switches = 0
        self.stopped: StopReason | None = None
        self.listen: Callable[[int], None] | None = None
        self.phase: Phase = "counting" if opened else "idle"
        self._think = think
        self._ends = tuple(end_token_ids)
        self._seed = seed
        self._trail = trail
        self._injected: list[int] = []
        self._queue: list[int] = []
        self._replaced = 0
        self._tail: list[int] = []
        self._resumed = 0
        if think is not None and limits.thinking == 0:
            self._queue = list(think.empty)
            self.phase = "forcing" if self._queue else "done"  # a prompt may have closed thinking itself
        self._hold()

    @property
    def total(self) -> int:
        """Tokens so far."""
        return self.thinking + self.answer

    @property
    def injected(self) -> TokenIds:
        """Positions, from 0, of the tokens that were put in."""
        return tuple(self._injected)

    @property
    def skipped(self) -> TokenIds:
        """Positions, from 0, of the tokens that were read without steering."""
        return () if self._trail is None else self._trail.skipped

    def steered(self, variant: int) -> int:
        """The variant of the pass that reads the last token, of a request of `variant`; 0 is none."""
        return variant if self._trail is None else self._trail.steered(variant)

    def wish(self) -> Wish | None:
        """The next token of a sequence that is put in, or a continuation in the place of an end too soon.

        Of an end of several tokens only the last is replaced, since those before may begin something else.
        """
        if self._queue:
            return Wish(forced=self._queue[0])
        if self._think is None or self.phase != "counting" or self.thinking >= self.limits.least_thinking:
            return None
        ends = (*self._ends, *self._think.closing.completing(self._tail))
        return Wish(banned=ends, heir=self._continuation()[0])

    def advance(self, token: int, moved: bool = False) -> bool:
        """Count a token, forced or drawn; True where a limit ends the completion with it.

        `moved`: it is the first of a continuation, in the place of an end.
        """
        position = self.total
        if self._queue and token == self._queue[0]:
            self._queue.pop(0)
            self._injected.append(position)
        elif moved:
            self._queue = list(self._continuation()[1:])
            self._injected.append(position)
            self._replaced += 1
        self._tail.append(token)
        if self._trail is not None:
            self._trail.hear(token)
        self._count()
        self._stop(token)
        if self.listen is not None:
            self.listen(token)
        return self.stopped is not None

    def fork(self) -> BudgetGuide:
        """A copy that goes its own way."""
        other = copy.copy(self)
        other._injected, other._queue, other._tail = list(self._injected), list(self._queue), list(self._tail)
        other._trail = None if self._trail is None else self._trail.fork()
        return other

    def continued(self, limits: TokenLimits) -> BudgetGuide:
        """The same completion at the same token under other limits, no longer stopped."""
        other = self.fork()
        other.limits, other.stopped, other._resumed = limits, None, self.total
        other._hold()
        return other

    def end_thinking(self, opening: TokenIds = ()) -> BudgetGuide:
        """The same completion with its thinking closed by force from here on, where it is open.

        The answer then begins with `opening`, put in too.
        """
        other = self.fork()
        other.stopped = None
        if other.phase in ("counting", "forcing"):
            other._force_end()
            other._queue += opening
        return other

    def described(self) -> dict[str, Any]:
        """Where it is, as JSON values: a server follows the completion by them. `listen` is not among them."""
        return {
            "limits": asdict(self.limits),
            "think": None if self._think is None else described_think(self._think),
            "contexts": None if self._trail is None else described_contexts(self._trail.contexts),
            "trail": None if self._trail is None else self._trail.described(),
            "ends": list(self._ends),
            "seed": self._seed,
            **{name: getattr(self, name) for name in _COUNTS},
            **{name: list(getattr(self, f"_{name}")) for name in _TOKENS},
        }

    @classmethod
    def restored(
        cls, state: Mapping[str, Any], think: ThinkFormat | None, contexts: Contexts | None
    ) -> BudgetGuide:
        """One that is where another one was, with that one's think tags and contexts."""
        trail = None if contexts is None else Trail.restored(contexts, state["trail"])
        guide = cls(
            TokenLimits(**state["limits"]),
            think,
            end_token_ids=state["ends"],
            seed=int(state["seed"]),
            trail=trail,
        )
        for name in _COUNTS:
            setattr(guide, name, state[name])
        for name in _TOKENS:
            setattr(guide, f"_{name}", list(state[name]))
        return guide

    def before_turn(self) -> tuple[BudgetGuide, int]:
        """The same completion before the word by which its thought has just turned, and that word's tokens.

        As it is, and 0, where it ends otherwise.
        """
        switches = () if self._think is None else self._think.switches
        size = max((len(switch) for switch in switches if self._ends_with(switch)), default=0)
        other = self.fork()
        if size and self.phase == "counting":
            other._tail = other._tail[:-size]
            other.thinking -= size
            other.switches -= 1
            other._injected = [at for at in other._injected if at < other.total]
            other.stopped = None
            return other, size
        return other, 0

    def _count(self) -> None:
        """Count the token last written and move between phases."""
        think = self._think
        if self.phase in ("counting", "forcing"):
            self.thinking += 1
        else:
            self.answer += 1
        if think is None:
            return
        if self.phase in ("idle", "done"):
            opening = think.opening.completed_by(self._tail)
            if opening:
                self.phase = "counting"
                self.thinking += opening
                self.answer -= opening
                self._hold()
        elif think.closing.completed_by(self._tail):
            self.phase = "done"
        else:
            self._turn(think)
            self._hold()

    def _turn(self, think: ThinkFormat) -> None:
        """Notice that a thought turned."""
        if any(self._ends_with(switch) for switch in think.switches):
            self.switches += 1
            if self.limits.switches is not None and self.switches > self.limits.switches:
                self._force_end()

    def _hold(self) -> None:
        """Begin to force the end where the thinking has just room for it.

        An end that is begun is completed then, early: one more token of the model's own could break it off.
        """
        limit = self.limits.thinking
        if limit is None or self._think is None or self.phase != "counting":
            return
        if self.thinking + len(self._think.end) >= limit:
            self._force_end()

    def _force_end(self) -> None:
        self.phase, self._queue = "forcing", list(self._rest_of_end())

    def _rest_of_end(self) -> TokenIds:
        """What is still to be written of the end sequence, given what has been."""
        assert self._think is not None
        end = self._think.end
        begun = next((size for size in range(len(end) - 1, 0, -1) if self._ends_with(end[:size])), 0)
        return end[begun:]

    def _stop(self, token: int) -> None:
        limits = self.limits
        if token in self._ends:
            return
        if limits.answer is not None and self.phase == "done" and self.answer >= limits.answer:
            self.stopped = "answer limit"
        elif limits.total is not None and self.total >= limits.total:
            self.stopped = "total limit"
        elif limits.pause and self.phase == "counting" and not self._queue and self._may_pause(token):
            self.stopped = "pause"

    def _may_pause(self, token: int) -> bool:
        think, after = self._think, self.limits.pause_after
        assert think is not None
        if after is not None and self.total - self._resumed >= after and token in think.sentence_ends:
            return True
        return any(self._ends_with(switch) for switch in think.switches)

    def _ends_with(self, sequence: TokenIds) -> bool:
        return not sequence or tuple(self._tail[-len(sequence) :]) == sequence

    def _continuation(self) -> TokenIds:
        """The continuation of the next end that is replaced, drawn by the seed."""
        assert self._think is not None
        choices = self._think.continuations
        return choices[derive_seed(self._seed, "continuation", str(self._replaced)) % len(choices)]
