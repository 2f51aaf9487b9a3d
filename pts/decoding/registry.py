"""The strategies by name, as a user gives them: `full`, `budget:64`, ..."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pts.decoding.auto import make_auto
from pts.decoding.best_of import BestOf
from pts.decoding.early_exit import EarlyExit
from pts.decoding.escalate import Escalate
from pts.decoding.instructions import DRAFT, Instructed, concise
from pts.decoding.limits import ThinkingBudget
from pts.decoding.own_choice import OwnChoice
from pts.decoding.reject import Reject
from pts.decoding.strategies import Plain, Strategy
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError
from pts.plugins import load_plugin, plugin_names


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """One strategy of the list: `make` builds it from its name, its argument and the options.

    `argument` is what stands for the number in the list, such as N; None where there is none. `uses` are the
    options that it reads: fields of `StrategyOptions` and of `ThinkingBudget`, but those that it sets itself.
    """

    argument: str | None
    summary: str
    source: str
    make: Callable[[str, int, StrategyOptions], Strategy]
    uses: frozenset[str] = frozenset()


_LIMITS = frozenset({"thinking", "least_thinking", "answer", "switches"})


def _plain(budget: Callable[[int], ThinkingBudget]) -> Callable[[str, int, StrategyOptions], Strategy]:
    return lambda name, number, options: Plain(name, budget(number).within(options.budget))


def _early_exit(name: str, _: int, options: StrategyOptions) -> Strategy:
    chosen = _given(
        threshold=options.exit_threshold,
        step=options.exit_step,
        trial_tokens=options.trial_tokens,
        opening=options.trial_opening,
    )
    return EarlyExit(name, **chosen, budget=options.budget)


def _reject(name: str, number: int, options: StrategyOptions) -> Strategy:
    chosen = _given(scorer=options.scorer, step=options.reject_step, share=options.reject_share)
    return Reject(name, number, **chosen, budget=options.budget)


def _escalate(name: str, _: int, options: StrategyOptions) -> Strategy:
    chosen = _given(threshold=options.escalate_threshold, over=options.escalate_over)
    return Escalate(name, options.second, **chosen, budget=options.budget)


def _given(**chosen: Any) -> dict[str, Any]:
    """The options that were chosen."""
    return {name: option for name, option in chosen.items() if option is not None}


STRATEGIES: Mapping[str, StrategyEntry] = {
    "full": StrategyEntry(
        None,
        "think and answer freely, within the total limit",
        "the model's default",
        _plain(lambda _: ThinkingBudget()),
        _LIMITS,
    ),
    "nothink": StrategyEntry(
        None,
        "answer at once: thinking is closed before it begins",
        "Ma et al., NoThinking, 2025",
        _plain(lambda _: ThinkingBudget(thinking=0)),
        frozenset({"answer"}),
    ),
    "budget": StrategyEntry(
        "N",
        "at most N tokens of thinking, then its end is forced",
        "Muennighoff et al., s1, 2025",
        _plain(lambda number: ThinkingBudget(thinking=number)),
        _LIMITS - {"thinking"},
    ),
    "min": StrategyEntry(
        "N",
        "at least N tokens of thinking: an end before that becomes a continuation",
        "Muennighoff et al., s1, 2025",
        _plain(lambda number: ThinkingBudget(least_thinking=number)),
        _LIMITS - {"least_thinking"},
    ),
    "model": StrategyEntry(
        None,
        "the model decides by its own first tokens whether it thinks",
        "Zhang et al., AdaptThink, 2025",
        lambda name, _number, options: OwnChoice(name, replace(options.budget, least_thinking=0)),
        _LIMITS - {"least_thinking"},
    ),
    "auto": StrategyEntry(
        None,
        "a router decides for each question: no thinking, a little, or much",
        "codelion, AutoThink, 2025",
        make_auto,
        frozenset({"answer", "switches", "router", "budgets"}),
    ),
    "draft": StrategyEntry(
        None,
        "ask for reasoning in terse notes (for models that follow instructions)",
        "Xu et al., Chain of Draft, 2025",
        lambda name, _number, options: Instructed(name, options.budget, DRAFT),
        _LIMITS,
    ),
    "concise": StrategyEntry(
        "N",
        "ask for at most N words in all (for models that follow instructions)",
        "Nayab et al., Concise Thoughts, 2024",
        lambda name, number, options: Instructed(name, options.budget, concise(number)),
        _LIMITS,
    ),
    "early-exit": StrategyEntry(
        None,
        "stop thinking once a trial answer is confident",
        "Yang et al., DEER, 2025",
        _early_exit,
        _LIMITS | {"exit_threshold", "exit_step", "trial_tokens", "trial_opening"},
    ),
    "best-of": StrategyEntry(
        "N",
        "N completions, and the answer that most of them give",
        "Wang et al., self-consistency, 2022",
        lambda name, number, options: BestOf(name, number, options.budget),
        _LIMITS,
    ),
    "reject": StrategyEntry(
        "N",
        "N branches, the worst share of them dropped every few tokens by a scorer",
        "Sun et al., speculative rejection, 2024",
        _reject,
        _LIMITS | {"scorer", "reject_step", "reject_share"},
    ),
    "escalate": StrategyEntry(
        None,
        "a second model answers where the first one's answer is not confident",
        "Ong et al., RouteLLM, 2024; Chuang et al., Self-REF, 2024",
        _escalate,
        _LIMITS | {"second", "escalate_threshold", "escalate_over"},
    ),
}


def make_strategy(spec: str, options: StrategyOptions) -> Strategy:
    """The strategy that a text such as `budget:64` names. Raises ConfigError as `check_strategy` does."""
    number = check_strategy(spec)
    return find_strategy(spec.partition(":")[0]).make(spec, number, options)


def uses(spec: str, option: str) -> bool:
    """Whether a strategy such as `budget:64` has a use for an option, named as in `StrategyEntry.uses`."""
    return option in find_strategy(spec.partition(":")[0]).uses


def strategy_names() -> list[str]:
    """The names of all strategies: the bundled ones, then those of other packages."""
    return [*STRATEGIES, *plugin_names("strategy", STRATEGIES)]


def find_strategy(name: str) -> StrategyEntry:
    """The strategy of a name, bundled or of an installed package (`docs/extending.md`).

    Raises ConfigError for an unknown name, with the nearest known one, and for a package that registers what is
    no StrategyEntry, or cannot be imported.
    """
    added = load_plugin("strategy", name, STRATEGIES)
    if name in STRATEGIES:
        return STRATEGIES[name]
    if added is None:
        names = strategy_names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."
        raise ConfigError(f"there is no strategy {name!r}: {hint}")
    if not isinstance(added, StrategyEntry):
        raise ConfigError(
            f"the strategy {name} of another package is a {type(added).__name__}; it must be a StrategyEntry."
        )
    return added


def check_strategy(spec: str) -> int:
    """The number in a text such as `budget:64`, 0 where the strategy takes none.

    Raises ConfigError as `find_strategy` does, and for a number that is missing, below 1, or not wanted.
    """
    name, colon, argument = spec.partition(":")
    entry = find_strategy(name)
    if entry.argument is None:
        if colon:
            raise ConfigError(f"strategy {name} takes no number, and {spec!r} gives one.")
        return 0
    if not argument.isdigit() or int(argument) < 1:
        raise ConfigError(
            f"strategy {name} needs a whole number above 0, such as {name}:64; {spec!r} gives none."
        )
    return int(argument)
