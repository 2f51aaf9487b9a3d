"""AutoThink's decoding under its own configuration keys, so that its users change an import and nothing else.

    from pts.decoding import autothink_decode  # was: from optillm.autothink import autothink_decode

What optillm 0.4.0 does (`autothink/processor.py`, `autothink/steering.py`) is done here: thinking is opened in
the prompt, a classifier's HIGH or LOW gives the least and the most tokens of it, an end that comes too soon
becomes one of the thought switches, the end is forced at the most or after `max_thoughts` turns, and once the
text matches a stored record's context, that record's vector is added at every later token. Sampling is at
temperature 1 with no truncation. What differs:

- Draws come from `seed`; the same call gives the same text.
- Contexts are matched exactly, on token ids: the whole context (its last 256 tokens) or its last 12, 8 or 4,
  the longest first. optillm also accepts 70% of the tokens or characters; and it tells its hook each new token
  three times, so that past the prompt nearly nothing else can match.
- The prompt is never steered; optillm, where the prompt itself matches, also adds to its last token.
- Tags are whole token sequences; optillm keeps one token of each. A thought switch counts with a space before
  it too. The default switches are those that the vocabulary can write.
- A completion ends at `max_new_tokens`, by default where the model's positions end; optillm's never does.
- Without `classifier_model` a prompt of more than 128 tokens is taken for HIGH, and a warning says so; optillm
  downloads a classifier. With one, both load it anew at every call, and ours has the labels HIGH and LOW alone.
- `complexity_threshold` is the least probability of HIGH, as in optillm's `is_high_complexity`, which its
  decoder never calls: there, as here without the key, the likelier label decides.
- An unknown key, a record that cannot be read, a layer that is not there: an error, where optillm logs and goes
  on without.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pts.data_files import FileRow, Row, text_fault
from pts.decoding.answers import Answer
from pts.decoding.autothink_config import AutoThinkConfig, autothink_config
from pts.decoding.budget import BudgetGuide
from pts.decoding.context_match import Contexts, Trail
from pts.decoding.limits import TokenLimits
from pts.decoding.routers.adaptive import AdaptiveRouter
from pts.decoding.routers.protocol import Route
from pts.decoding.session import Ask, Draft, Question, Session
from pts.decoding.think_format import ThinkFormat, think_format
from pts.errors import ConfigError, DataError, ModelError
from pts.models.end_tokens import end_token_ids
from pts.models.load import LoadedModel
from pts.models.prompt import PromptFormat
from pts.models.thinking import find_think_tags
from pts.policies import policy_of
from pts.problems.files import local_rows, looks_local
from pts.problems.hub import hub_rows
from pts.problems.source import ProblemSource
from pts.records import Sampling, TokenIds
from pts.steering.formats.optillm import Addition, additions
from pts.steering.hooks import steer
from pts.steering.set_location import RECORDS_NAME, bundled_sets
from pts.steering.vector_files import load_records

logger = logging.getLogger(__name__)

Messages = Sequence[Mapping[str, str]]

THOUGHT_SWITCHES = (
    "Wait,",
    "Alternatively,",
    "However,",
    "Additionally,",
    "Let's consider,",
    "On second thought,",
    "Actually,",
    "Furthermore,",
    "Looking at it differently,",
    "To be thorough,",
)
"""optillm's default `thought_switch_tokens`."""
LONG_PROMPT = 128
"""Tokens beyond which a prompt is taken for a complex one where no classifier is named."""
HIGH, LOW = "HIGH", "LOW"
"""The classifier's labels."""
_CONTEXT_TOKENS, _SUFFIXES = 256, (4, 8, 12)


def autothink_decode(
    model: Any,
    tokenizer: Any,
    messages: Messages,
    request_config: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> str:
    """The reply to a conversation, from the start tag on, its end token included, as optillm returns it.

    The arguments, and what is raised, are those of `autothink_answer`.
    """
    config = autothink_config(request_config or {})
    answer = _answer(model, tokenizer, messages, config, seed, max_new_tokens)
    text: str = tokenizer.decode(list(answer.completion), clean_up_tokenization_spaces=False)
    return f"{config.start_think_token}\n{config.prefill}{text}"


def autothink_answer(
    model: Any,
    tokenizer: Any,
    messages: Messages,
    request_config: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> Answer:
    """The same reply with its label as the route, how sure of that the classifier is, and its token usage.

    `request_config` has AutoThink's keys (`pts.decoding.autothink_config.AutoThinkConfig`); `steering_dataset`
    is a file of vector records, a vector set of ours, which holds such records too, or either on the Hub.
    Raises ConfigError for a setting that is unknown or does not fit, a classifier whose package is missing or
    that has other labels than HIGH and LOW, ModelError for a model without a chat template or whose vocabulary
    cannot write the tags or a classifier that cannot be loaded, DataError for records that cannot be read,
    VectorError for records that do not fit the model. No hook is left on the model.
    """
    config = autothink_config(request_config or {})
    return _answer(model, tokenizer, messages, config, seed, max_new_tokens)


def _answer(
    model: Any,
    tokenizer: Any,
    messages: Messages,
    config: AutoThinkConfig,
    seed: int,
    max_new_tokens: int | None,
) -> Answer:
    ends = end_token_ids(model, tokenizer)
    name = str(getattr(model.config, "name_or_path", "") or "model")
    loaded = LoadedModel(model, tokenizer, name, None, model.device, model.dtype, ends)
    prompt = _prompt(tokenizer, messages, config)
    total = _total(model, prompt, max_new_tokens)
    think = _think(tokenizer, config)
    with ExitStack() as stack:
        found = _stored(config)
        policy = policy_of(loaded)
        if found:
            variants = [[addition.intervention] for addition in found]
            steering = stack.enter_context(steer(model, variants, engine_driven=True))
            stack.enter_context(policy.steered(steering))
        sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=total)
        session = Session(policy, sampling, think)
        question = Question("", _query(messages), seed)
        route = _route(session, config, question, prompt)
        least, most = config.tokens(route.name == HIGH)
        limits = TokenLimits(most + len(think.end), least, None, total, config.max_thoughts - 1)
        contexts = _contexts(tokenizer, found) if found else None
        draft, dropped = _complete(session, prompt, limits, contexts, seed)
        return session.answer(
            question,
            draft,
            "autothink",
            rejected=dropped,
            route=route.name,
            confidence=route.confidence,
            router_seconds=route.seconds,
        )


def _complete(
    session: Session, prompt: TokenIds, limits: TokenLimits, contexts: Contexts | None, seed: int
) -> tuple[Draft, int]:
    """The completion, and how many tokens of it were dropped on the way.

    One that ends while it thinks goes on from there, without its end token and with its thinking closed.
    """
    variant = 0 if contexts is None else 1

    def budget(prefix: TokenIds) -> BudgetGuide:
        trail = None if contexts is None else Trail(contexts, prompt)
        ends = session.policy.end_token_ids
        made = BudgetGuide(limits, session.think, opened=True, end_token_ids=ends, seed=seed, trail=trail)
        for token in prefix:
            made.advance(token)
        return made

    def completed(prefix: TokenIds, so_far: BudgetGuide) -> Draft:
        (draft,) = session.complete([Ask(0, prompt, limits, seed, variant, prefix, so_far)])
        return draft

    draft = completed((), budget(()))
    if draft.stop != "end" or draft.budget.phase == "done":
        return draft, 0
    thoughts = draft.completion[:-1]
    return completed(thoughts, budget(thoughts).end_thinking()), 1


def _prompt(tokenizer: Any, messages: Messages, config: AutoThinkConfig) -> TokenIds:
    """The conversation with a reply that has begun to think. Raises ModelError, DataError."""
    from jinja2 import TemplateError

    if not messages:
        raise ConfigError("a conversation without messages cannot be answered: give at least one.")
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("AutoThink takes messages, and the model has no chat template to write them.")
    begun = {"role": "assistant", "content": f"{config.start_think_token}\n{config.prefill}"}
    try:
        text = tokenizer.apply_chat_template(
            [*map(dict, messages), begun], continue_final_message=True, tokenize=False
        )
    except (TemplateError, ValueError) as error:
        raise ModelError(f"the model's chat template rejects the conversation: {error}") from error
    fault = text_fault(text)
    if fault is not None:
        raise DataError(f"the conversation {fault}; give it as whole UTF-8 text.")
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _total(model: Any, prompt: TokenIds, requested: int | None) -> int:
    """Tokens of a completion at most. Raises ConfigError where the model says nothing of its positions."""
    if requested is not None:
        return requested
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if positions is None:
        raise ConfigError("the model does not say how many positions it has: give max_new_tokens.")
    if positions <= len(prompt):
        raise ConfigError(f"the conversation's {len(prompt)} tokens fill the model's {positions} positions.")
    return int(positions) - len(prompt)


def _think(tokenizer: Any, config: AutoThinkConfig) -> ThinkFormat:
    tags = find_think_tags(tokenizer, config.start_think_token, config.end_think_token)
    assert tags is not None
    words = config.thought_switch_tokens
    if words is None:
        unknown = tokenizer.unk_token_id
        words = tuple(
            word for word in THOUGHT_SWITCHES if unknown not in tokenizer.encode(word, add_special_tokens=False)
        )
    return think_format(tokenizer, tags, PromptFormat(), words, words)


def _stored(config: AutoThinkConfig) -> list[Addition]:
    """What the stored records add; none where no data set is named."""
    source = config.steering_dataset
    if source is None:
        return []
    return additions(_rows(source), source, config.target_layer, config.pattern_strengths)


def _rows(source: str) -> Iterable[Row | FileRow]:
    """Records of optillm's schema: a file, the records beside a vector set, or a data set on the Hub."""
    if (Path(source).expanduser() / RECORDS_NAME).is_file() or source in bundled_sets():
        return [asdict(record) for record in load_records(source)]
    if looks_local(source):
        return local_rows(source, None)
    return hub_rows(ProblemSource(source))


def _contexts(tokenizer: Any, found: Sequence[Addition]) -> Contexts:
    """Each record's context and its ends; of records that end alike, the first, as in optillm."""
    whole: dict[TokenIds, int] = {}
    ends: dict[TokenIds, int] = {}
    for variant, addition in enumerate(found, start=1):
        ids = tuple(tokenizer.encode(addition.context, add_special_tokens=False))[-_CONTEXT_TOKENS:]
        if not ids:
            continue
        whole[ids] = variant
        for size in _SUFFIXES:
            if len(ids) > size:
                ends.setdefault(ids[-size:], variant)
    return Contexts({**ends, **whole}, lasting=True)


def _query(messages: Messages) -> str:
    """What is classified: the last message of the user, or all that was said."""
    questions = [message["content"] for message in messages if message["role"] == "user"]
    return questions[-1] if questions else " ".join(message["content"] for message in messages)


def _route(session: Session, config: AutoThinkConfig, question: Question, prompt: TokenIds) -> Route:
    """HIGH or LOW, by the classifier named or by the prompt's length; its seconds include loading it.

    Raises ConfigError where the classifier's package is missing or its labels are not these two.
    """
    source = config.classifier_model
    if source is None:
        logger.warning(
            "no classifier_model is named: a prompt of more than %d tokens is taken for HIGH.", LONG_PROMPT
        )
        label = HIGH if len(prompt) > LONG_PROMPT else LOW
        return Route(label, {label: 1.0})
    started = time.perf_counter()
    router = AdaptiveRouter(source)
    for label in (HIGH, LOW):
        if label not in router.labels:
            raise ConfigError(
                f"the classifier {source} has no label {label}; AutoThink needs {HIGH} and {LOW}."
            )
    (route,) = router.route(session, [question], [prompt])
    chosen = route.name
    if config.complexity_threshold is not None:
        chosen = HIGH if route.probabilities[HIGH] >= config.complexity_threshold else LOW
    return replace(route, name=chosen, seconds=time.perf_counter() - started)
