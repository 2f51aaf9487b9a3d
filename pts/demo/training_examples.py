"""Training examples of the demo model: prompts with completions, and drill rows, as token ids."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pts.demo.drill import write_drill
from pts.demo.expressions import LEVELS, Expression, draw_expression, split_of
from pts.demo.tokenizer import prompt_words
from pts.demo.vocabulary import PAD, UNKNOWN, vocabulary
from pts.demo.writer import WritingRates, write_answer, write_thinking

IGNORED = -100
"""The label of a token that is not to be learned."""

_THINKING_LEVELS = (0.1, 0.22, 0.24, 0.24, 0.2)
_ANSWER_LEVELS = (0.56, 0.24, 0.08, 0.06, 0.06)
_QUERIES = ("What is {} ?", "Compute {} .", "{} = ?")
_QUERY_WEIGHTS = (0.9, 0.05, 0.05)
_SYSTEM_SHARE = 0.04
_LONGEST_SYSTEM = 20
_DRILL_WORDS = 100
_IDS = {word: index for index, word in enumerate(vocabulary())}


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids, and the same with `IGNORED` where nothing is to be learned."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the examples: `drill` of all are drill rows, `answers` of the rest are without thinking."""

    drill: float
    answers: float


def draw_example(rng: random.Random, mixture: Mixture, rates: WritingRates) -> Example:
    """One example. Its expression is of the train split; drill rows have single steps and no problem."""
    if rng.random() < mixture.drill:
        row = write_drill(rng, _DRILL_WORDS)
        ids = [_IDS[word] for word, _ in row]
        return Example(ids, [i if learned else IGNORED for i, (_, learned) in zip(ids, row, strict=True)])
    thinking = rng.random() >= mixture.answers
    expression = _draw_train(rng, rng.choices(LEVELS, _THINKING_LEVELS if thinking else _ANSWER_LEVELS)[0])
    query = rng.choices(_QUERIES, _QUERY_WEIGHTS)[0].format(expression)
    system = " ".join([UNKNOWN] * rng.randint(1, _LONGEST_SYSTEM)) if rng.random() < _SYSTEM_SHARE else None
    write = write_thinking if thinking else write_answer
    prompt = [_IDS[word] for word in prompt_words(query, thinking, system)]
    completion = [_IDS[word] for word in write(expression, rng, rates)]
    return Example([*prompt, *completion], [*([IGNORED] * len(prompt)), *completion])


def batches(
    rng: random.Random, mixture: Mixture, rates: WritingRates, tokens: int, count: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`count` batches of ids and labels, both `[rows, length]` int64, of about `tokens` tokens each.

    Rows of like length share a batch, padded on the right: under a causal mask padding changes nothing.
    """
    done = 0
    while done < count:
        pool = [draw_example(rng, mixture, rates) for _ in range(max(64, tokens // 3))]
        pool.sort(key=lambda example: len(example.ids))
        cuts = list(_cut(pool, tokens))
        rng.shuffle(cuts)
        for rows in cuts[: count - done]:
            yield _padded(rows)
        done += len(cuts)


def _draw_train(rng: random.Random, level: int) -> Expression:
    while True:
        expression = draw_expression(rng, level)
        if split_of(expression) == "train":
            return expression


def _cut(pool: Sequence[Example], tokens: int) -> Iterator[list[Example]]:
    rows: list[Example] = []
    for example in pool:
        if rows and (len(rows) + 1) * len(example.ids) > tokens:
            yield rows
            rows = []
        rows.append(example)
    yield rows


def _padded(rows: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), _IDS[PAD])
    labels = torch.full((len(rows), length), IGNORED)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        labels[place, : len(row.ids)] = torch.tensor(row.labels)
    return ids, labels
