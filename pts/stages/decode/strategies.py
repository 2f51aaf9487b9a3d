"""From the inputs of a stage to the options that strategies are built from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pts.decoding.auto import length_router
from pts.decoding.escalate import second_model
from pts.decoding.limits import ThinkingBudget
from pts.decoding.registry import check_strategy, make_strategy, strategy_names, uses
from pts.decoding.routers.adaptive import AdaptiveRouter
from pts.decoding.routers.files import router_digest
from pts.decoding.routers.length import LengthRouter
from pts.decoding.routers.named import named_router, stored_router, with_classes
from pts.decoding.routers.probe import ProbeRouter
from pts.decoding.routers.protocol import ClassBudgets, Router
from pts.decoding.scorer_file import named_scorer
from pts.decoding.strategy_options import StrategyOptions
from pts.decoding.think_format import find_think_format
from pts.errors import ConfigError
from pts.models.fingerprint import fingerprint
from pts.models.load import load_model
from pts.models.prompt import settled_format
from pts.setting_names import setting
from pts.stages.decode.inputs import AnswerInputs
from pts.stages.decode.strategy_inputs import AmountText, StrategyInputs, amount
from pts.steering.vector_set import VectorSet


def strategy_options(
    inputs: StrategyInputs,
    requested: Sequence[str],
    vectors: VectorSet | None,
    *,
    others: Sequence[str] = (),
    same_shape: bool = False,
) -> StrategyOptions:
    """The options for the strategies `requested` and `others` beside them, but for a second model.

    The router is the one named, else that stored with the vectors, else prompt length with a warning; it is
    there only where a strategy asks one. Raises PtsError in one line for a strategy that there is not, a value
    outside its range, or an option that no strategy asked for has a use for.
    """
    for spec in (*requested, *others):
        check_strategy(spec)
    _require_used(inputs, requested)
    _require_words_used(inputs, requested)
    options = _plain_options(inputs)
    for spec in requested:
        if not uses(spec, "router"):
            make_strategy(spec, options)
    if any(uses(spec, "router") for spec in (*requested, *others)):
        options = _with_router(inputs, options, vectors, same_shape)
    return options


def with_second_model(
    options: StrategyOptions, inputs: AnswerInputs, written_on: str | None = None
) -> StrategyOptions:
    """The options with the second model loaded, where one is named.

    It samples, and is asked, as the first is, on the same day where its chat template writes one; its think
    tags are its own. Raises PtsError.
    """
    if inputs.second_model is None:
        return options
    loaded = load_model(
        replace(
            inputs.model_options(),
            spec=inputs.second_model,
            revision=inputs.second_revision,
            dtype=inputs.second_dtype or "auto",
            adapter=None,
        )
    )
    prompt_format = settled_format(loaded.tokenizer, replace(inputs.prompt_format(), written_on=written_on))
    think = find_think_format(
        loaded.tokenizer,
        prompt_format,
        continuations=inputs.continuations or None,
        switches=inputs.switches or None,
    )
    second = second_model(loaded, inputs.sampling(), prompt_format, think, inputs.batch_rows)
    return replace(options, second=second)


def class_budgets(texts: Sequence[str]) -> ClassBudgets:
    """Budgets of a router's classes from texts such as `easy=0.2-0.4`: least and most thinking.

    `easy=64` is a most alone, `hard=0.7-` a least alone, `none=0` no thinking. Raises ConfigError for a text
    that is none of them, a class named twice, or an amount outside its range.
    """
    found: dict[str, ThinkingBudget] = {}
    for text in texts:
        name, equals, limits = text.partition("=")
        least, dash, most = limits.partition("-")
        if not dash:
            least, most = "", limits
        if not name or not equals or not (least or most) or limits.startswith("-"):
            raise ConfigError(
                f"class-budget is {text!r}; give a class and its thinking, such as easy=64 or easy=0.2-0.4."
            )
        if name in found:
            raise ConfigError(f"class-budget names the class {name} twice: once is enough.")
        what = f"class-budget {name}"
        found[name] = ThinkingBudget(_amount(what, most), _amount(what, least) or 0)
    return found


def _amount(name: str, text: AmountText | None) -> int | float | None:
    return amount(name, text or None)


def _require_used(inputs: StrategyInputs, requested: Sequence[str]) -> None:
    """Raise ConfigError for an option that none of the strategies asked for has a use for."""
    for option, part in inputs.given_parts().items():
        if not any(uses(spec, part) for spec in requested):
            users = ", ".join(name for name in strategy_names() if uses(name, part))
            raise ConfigError(
                f"{option} has no effect on {_strategies(requested)}: leave it out, or choose one of {users}."
            )


def _strategies(names: Sequence[str]) -> str:
    return f"the strategy {names[0]}" if len(names) == 1 else f"the strategies {', '.join(names)}"


def _require_words_used(inputs: StrategyInputs, requested: Sequence[str]) -> None:
    """Raise ConfigError for continuations or switches where no end of thinking is replaced, no turn watched."""
    names = {spec.partition(":")[0] for spec in requested}
    for option, words, limit, value, used_by in (
        (
            setting("continuations"),
            inputs.continuations,
            setting("min_thinking"),
            inputs.min_thinking,
            ("min", "auto"),
        ),
        (
            setting("switches"),
            inputs.switches,
            setting("max_switches"),
            inputs.max_switches,
            ("early-exit",),
        ),
    ):
        if words and value is None and names.isdisjoint(used_by):
            raise ConfigError(
                f"{option} has no effect on {_strategies(requested)} without {limit}: leave it out, add "
                f"{limit}, "
                f"or choose one of {', '.join(used_by)}."
            )


def _plain_options(inputs: StrategyInputs) -> StrategyOptions:
    budget = ThinkingBudget(
        amount("thinking-budget", inputs.thinking_budget),
        amount("min-thinking", inputs.min_thinking) or 0,
        amount("answer-budget", inputs.answer_budget),
        inputs.max_switches,
    )
    return StrategyOptions(
        budget=budget,
        exit_threshold=inputs.exit_threshold,
        exit_step=amount("exit-step", inputs.exit_step),
        trial_tokens=inputs.trial_tokens,
        trial_opening=inputs.trial_opening,
        scorer=None if inputs.scorer is None else named_scorer(inputs.scorer),
        reject_step=amount("reject-step", inputs.reject_step),
        reject_share=inputs.reject_share,
        escalate_threshold=inputs.escalate_threshold,
        escalate_over=inputs.escalate_over,
    )


def _with_router(
    inputs: StrategyInputs, options: StrategyOptions, vectors: VectorSet | None, same_shape: bool
) -> StrategyOptions:
    given, price = class_budgets(inputs.class_budget), inputs.token_price
    directory = None if vectors is None else vectors.directory
    if inputs.router is not None:
        router: Router = named_router(
            inputs.router, directory, price=price, same_shape=same_shape, budgets=given
        )
    else:
        stored = stored_router(directory, price, same_shape)
        if stored is None and price is not None:
            raise ConfigError(
                f"{setting('token_price')} needs a fitted router, and there is none: give {setting('router')}."
            )
        router = LengthRouter() if stored is None else stored
    budgets = with_classes(router, given) if given else None
    if inputs.router is None and isinstance(router, LengthRouter):
        router = length_router()  # which says so, now that nothing is wrong
    return replace(options, router=router, budgets=budgets)


def options_digests(options: StrategyOptions, inputs: StrategyInputs) -> dict[str, str]:
    """The digests of the options that come from files."""
    found: dict[str, str] = {}
    if isinstance(options.router, ProbeRouter):
        found["router"] = router_digest(options.router.fitted)
    if isinstance(options.router, AdaptiveRouter) and Path(options.router.source).is_dir():
        found["router"] = fingerprint(Path(options.router.source))
    if inputs.scorer is not None and inputs.scorer != "likelihood":
        source = Path(inputs.scorer.rpartition(":")[0])
        found["scorer"] = hashlib.sha256(source.read_bytes()).hexdigest()
    return found


def second_model_found(options: StrategyOptions) -> str | None:
    """The second model's id and revision; None where there is none."""
    if options.second is None:
        return None
    identity = options.second().policy.identity
    return f"{identity.model_id} ({identity.revision})"


def second_model_settled(options: StrategyOptions) -> tuple[str | None, str | None]:
    """The second model's dtype, and the date of its prompts where its template writes one; None for neither."""
    if options.second is None:
        return None, None
    policy = options.second().policy
    return policy.identity.dtype, policy.prompt_format.written_on
