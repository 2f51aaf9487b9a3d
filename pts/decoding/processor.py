"""Think budgets under transformers' own `generate`: the machine of `BudgetGuide` for every row of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from transformers import LogitsProcessor

from pts.decoding.budget import BudgetGuide
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import ThinkFormat
from pts.errors import ConfigError
from pts.policies.guide import Wish
from pts.policies.transformers.wishes import grant
from pts.seeds import derive_seed


class BudgetProcessor(LogitsProcessor):
    """Keeps each row of one call of `generate` within its limits.

    `end_token_ids` are those that generate stops at (its eos_token_id); where a row's answer or total is used
    up the first of them is forced, and written after the limit. A row that ended is left alone. `seed` chooses
    continuations: one for all (each row has draws of its own) or one for each row, in the order of generate's
    rows (num_return_sequences of a prompt stand together). Left padding, a cache, streaming and several end
    tokens are fine. generate's own temperature and truncation come after this, so a forced token stays one.
    Beam search and a draft model rewrite what was written: they are refused, and so is a second call.

        budget = BudgetProcessor(TokenLimits(thinking=32), think, end_token_ids=model.end_token_ids)
        written = model.generate(**inputs, logits_processor=[budget])
        spent = budget.finish(written)

    Raises ConfigError where limits need thinking and `think` is None, have no end token to force, or pause.
    """

    def __init__(
        self,
        limits: TokenLimits,
        think: ThinkFormat | None = None,
        *,
        end_token_ids: Iterable[int],
        seed: int | Sequence[int] = 0,
    ) -> None:
        if limits.pause:
            raise ConfigError(
                "generate cannot pause where a thought turns: use pts.decode for such a strategy."
            )
        self._limits = limits
        self._think = think
        self._ends = tuple(end_token_ids)
        self._seed = seed
        if not self._ends and (limits.answer is not None or limits.total is not None):
            raise ConfigError("a limit on the answer or the total needs an end token to force: give one.")
        # What the limits and the format may be is said before the first token, not after a prompt was read.
        BudgetGuide(limits, think, end_token_ids=self._ends)
        self.budgets: list[BudgetGuide] = []
        self._seen: torch.Tensor | None = None
        self._ended: list[bool] = []
        self._cut: list[bool] = []
        self._moved: list[int] = []

    @property
    def injected(self) -> list[int]:
        """Tokens put into each row so far, a forced end token included; whole after `finish`."""
        return [len(budget.injected) + cut for budget, cut in zip(self.budgets, self._cut, strict=True)]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The next token's logits [rows, vocabulary], forced or changed in the rows whose budget wants it."""
        self._hear(input_ids)
        self._moved = [-1] * len(input_ids)
        wishes = []
        for row, (budget, ended) in enumerate(zip(self.budgets, self._ended, strict=True)):
            self._cut[row] = not ended and budget.stopped is not None
            wish = Wish(forced=self._ends[0]) if self._cut[row] else None if ended else budget.wish()
            if wish is not None:
                wishes.append((row, wish))
        if not wishes:
            return scores
        changed = scores.clone()
        self._moved = grant(changed, wishes).tolist()
        return changed  # type: ignore[return-value]

    def finish(self, sequences: torch.Tensor) -> list[BudgetGuide]:
        """The rows' budgets at the end of what generate returned [rows, tokens], which it does not show itself.

        An end token that was forced after a limit is in none of their counts but `injected`.
        """
        if self._seen is None or sequences.shape[1] == self._seen.shape[1] + 1:
            self._hear(sequences)
        return self.budgets

    def _hear(self, ids: torch.Tensor) -> None:
        """Begin with the prompts, or go on with the token written since."""
        if self._seen is None:
            self._begin(ids)
        else:
            self._require_next(ids, self._seen)
            for row, token in enumerate(ids[:, -1].tolist()):
                self._advance(row, token)
        self._seen = ids.clone()

    def _begin(self, ids: torch.Tensor) -> None:
        for row, prompt in enumerate(ids.tolist()):
            opened = self._think is not None and self._think.is_open(tuple(prompt))
            self.budgets.append(
                BudgetGuide(
                    self._limits,
                    self._think,
                    opened=opened,
                    end_token_ids=self._ends,
                    seed=self._seed_of(row, len(ids)),
                )
            )
        self._ended = [False] * len(ids)
        self._cut = [False] * len(ids)

    def _advance(self, row: int, token: int) -> None:
        if self._ended[row]:
            return
        if self._cut[row]:
            self._ended[row] = True
            return
        self.budgets[row].advance(token, token == self._moved[row])
        self._ended[row] = token in self._ends

    def _seed_of(self, row: int, rows: int) -> int:
        if isinstance(self._seed, int):
            return derive_seed(self._seed, "row", row)
        if len(self._seed) != rows:
            raise ConfigError(f"seeds are given for {len(self._seed)} rows; the batch has {rows}.")
        return self._seed[row]

    def _require_next(self, ids: torch.Tensor, before: torch.Tensor) -> None:
        """Raise ConfigError where rows were rewritten: each must be what it was, with one token more."""
        if ids.shape != (len(before), before.shape[1] + 1) or not torch.equal(ids[:, :-1], before):
            raise ConfigError(
                "the rows are not those of the step before with a token more: make one BudgetProcessor for "
                "each call of generate, without beam search (num_beams=1) and without a draft model."
            )
