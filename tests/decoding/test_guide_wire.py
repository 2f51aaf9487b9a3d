"""A guide that is sent to a server in the middle of a completion goes on there as it would have here."""

import json
import random

import pytest

from pts.decoding.budget import BudgetGuide
from pts.decoding.context_match import Contexts, Trail
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import find_think_format
from pts.decoding.wire import contexts_of, think_of
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.models.tokenizer import load_tokenizer

LIMITS = [
    TokenLimits(thinking=5, total=30),
    TokenLimits(thinking=0, total=30),
    TokenLimits(least_thinking=20, total=30),
    TokenLimits(answer=2, switches=1, total=30),
    TokenLimits(pause=True, pause_after=4, total=30),
]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(ModelOptions("demo"))


def sent(guide, tokenizer):
    state = json.loads(json.dumps(guide.described()))
    think = None if state["think"] is None else think_of(state["think"], tokenizer)
    contexts = None if state["contexts"] is None else contexts_of(state["contexts"])
    return BudgetGuide.restored(state, think, contexts)


def says(guide):
    trail = (guide.skipped, guide.steered(3))
    return guide.wish(), guide.injected, guide.stopped, guide.thinking, guide.answer, guide.switches, *trail


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("matched", [False, True])
def test_it_goes_on_as_it_would_have(tokenizer, limits, matched):
    think = find_think_format(tokenizer, PromptFormat(thinking=True))
    draws = random.Random(4)
    contexts = Contexts({(token,): 0 for token in range(0, 60, 3)}) if matched else None
    trail = None if contexts is None else Trail(contexts, (5, 6))
    here = BudgetGuide(limits, think, opened=True, end_token_ids=(2,), seed=2**60 + 1, trail=trail)
    there = sent(here, tokenizer)
    wishes = 0
    for step in range(28):
        if step == 9:
            there = sent(here, tokenizer)
        wish = here.wish()
        wishes += wish is not None
        token = draws.choice([*range(3, 100), *think.end])
        moved = wish is not None and wish.heir is not None and token in wish.banned
        token = wish.heir if moved else wish.forced if wish is not None and wish.forced is not None else token
        assert here.advance(token, moved) == there.advance(token, moved)
        assert says(here) == says(there)
    needs = limits.least_thinking > 0 or limits.thinking is not None
    assert wishes or not needs
