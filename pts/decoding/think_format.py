"""How a model's thinking begins, ends and turns, as token sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pts.errors import ConfigError, ModelError
from pts.models.assistant_turn import AssistantTurn, assistant_turn
from pts.models.prompt import PromptFormat, encode_prompt, thinking_modes
from pts.models.think_tag import Tag, TokenTag, last_end, make_tag
from pts.models.thinking import ThinkTags, find_think_tags, require_think_tags
from pts.records import TokenIds

CONTINUATIONS = ("Wait",)
"""What replaces an end of thinking that comes too soon (Muennighoff et al., s1, 2025)."""
SWITCHES = ("Wait", "Alternatively", "However", "Additionally")
"""Openings of a sentence at which a thought is taken to turn."""
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "\n")
_SENTENCE_PIECES = (*_SENTENCE_ENDS, "Ċ", "<0x0A>", " ", "Ġ", "▁", "Ĥ", "Ł", "ģ")
"""The same as vocabularies write them: bytes of the byte-level alphabet, spaces."""


@dataclass(frozen=True, slots=True)
class ThinkFormat:
    """The token sequences between which a model thinks.

    `empty` is what stands for no thinking after a prompt: the chat template's own way where it has one.
    `continuations` may replace an end of thinking, one chosen at random; a thought turns
    where one of `switches` is written. `sentence_ends` are the tokens that end a sentence or a line.
    `start` and `end` are the tags as they are put in; `start_tag` and `end_tag` recognise them however the
    model writes them (None: as these very tokens), `turn` what a prompt writes for the assistant.
    """

    start: TokenIds
    end: TokenIds
    empty: TokenIds
    continuations: tuple[TokenIds, ...]
    switches: tuple[TokenIds, ...]
    sentence_ends: frozenset[int] = frozenset()
    start_tag: Tag | None = None
    end_tag: Tag | None = None
    turn: AssistantTurn | None = None

    @property
    def opening(self) -> Tag:
        """How the tag that opens thinking is recognised."""
        return TokenTag(self.start) if self.start_tag is None else self.start_tag

    @property
    def closing(self) -> Tag:
        """How the tag that closes thinking is recognised."""
        return TokenTag(self.end) if self.end_tag is None else self.end_tag

    def is_open(self, prompt: TokenIds) -> bool:
        """Whether a prompt ends within thinking: what is written for the assistant's turn opens it.

        A tag in the question or in an earlier turn does not count.
        """
        if self.turn is not None:
            return self.turn.opens(prompt)
        return last_end(self.opening, prompt) > last_end(self.closing, prompt)

    def split(self, completion: TokenIds, opened: bool) -> tuple[TokenIds, TokenIds]:
        """A completion's thinking, tags and what stands before it included, and its answer.

        A completion that never closes its thinking has no answer; one that never opens it is all answer.
        """
        cut = last_end(self.closing, completion)
        if cut >= 0:
            return completion[:cut], completion[cut:]
        if opened or last_end(self.opening, completion) >= 0:
            return completion, ()
        return (), completion


def think_format(
    tokenizer: Any,
    tags: ThinkTags,
    prompt_format: PromptFormat,
    continuations: Sequence[str] | None = None,
    switches: Sequence[str] | None = None,
) -> ThinkFormat:
    """The think tags with all that a budget needs.

    By default `CONTINUATIONS` and `SWITCHES`, as far as the vocabulary can write them. Raises ConfigError for
    words given that it cannot.
    """
    follow = [_written(tokenizer, word) for word in (CONTINUATIONS if continuations is None else continuations)]
    turns = [_written(tokenizer, form) for word in (switches or SWITCHES) for form in (word, f" {word}")]
    for kind, given, found in (
        ("continuation", continuations or (), follow),
        ("thought switch", switches or (), turns[::2]),
    ):
        for word, ids in zip(given, found, strict=False):
            if ids is None:
                raise ConfigError(f"the {kind} {word!r} cannot be written with the model's vocabulary.")
    turn = assistant_turn(tokenizer, tags, prompt_format)
    return ThinkFormat(
        tags.start_ids,
        tags.end_ids,
        _empty(tokenizer, tags, prompt_format, turn),
        tuple(ids for ids in follow if ids is not None),
        tuple(dict.fromkeys(ids for ids in turns if ids is not None)),
        _sentence_ends(tokenizer),
        make_tag(tokenizer, tags.start, tags.start_ids),
        make_tag(tokenizer, tags.end, tags.end_ids),
        turn,
    )


def find_think_format(
    tokenizer: Any,
    prompt_format: PromptFormat,
    start: str | None = None,
    end: str | None = None,
    continuations: Sequence[str] | None = None,
    switches: Sequence[str] | None = None,
    required_by: str | None = None,
) -> ThinkFormat | None:
    """The model's think format, or that of the tags named; None where the model does not think.

    Raises ModelError, where `required_by` names what needs thinking, for a model that has none, and for named
    tags that the model does not know.
    """
    named = start is not None or end is not None
    if required_by is None and not named:
        tags = find_think_tags(tokenizer)
    else:
        try:
            tags = require_think_tags(tokenizer, start, end)
        except ModelError as error:
            if named or required_by is None:
                raise
            raise ModelError(f"{required_by} needs a model that thinks: {error}") from error
    return None if tags is None else think_format(tokenizer, tags, prompt_format, continuations, switches)


def _empty(tokenizer: Any, tags: ThinkTags, prompt_format: PromptFormat, turn: AssistantTurn) -> TokenIds:
    """What the chat template adds to a prompt for no thinking; else the tags that the prompt lacks."""
    plain = replace(prompt_format, thinking=None)
    if plain.chat_template and not getattr(tokenizer, "chat_template", None):
        return tags.start_ids + tags.end_ids
    prompt = encode_prompt(tokenizer, "?", plain)
    if plain.chat_template and thinking_modes(tokenizer, "?", plain):
        refused = encode_prompt(tokenizer, "?", replace(plain, thinking=False))
        if refused[: len(prompt)] == prompt and len(refused) > len(prompt):
            return refused[len(prompt) :]
    if turn.closes(prompt):
        return ()
    return tags.end_ids if turn.opens(prompt) else tags.start_ids + tags.end_ids


def _sentence_ends(tokenizer: Any) -> frozenset[int]:
    """The tokens whose text ends in a full stop, a question or exclamation mark, or a line break.

    Only those whose piece can be one are decoded: a vocabulary may have hundreds of thousands.
    """
    pieces = tokenizer.get_vocab().items()
    likely = [index for piece, index in pieces if piece.endswith(_SENTENCE_PIECES)]
    texts = [tokenizer.decode([index], clean_up_tokenization_spaces=False) for index in likely]
    return frozenset(
        index for index, text in zip(likely, texts, strict=True) if text.rstrip(" ").endswith(_SENTENCE_ENDS)
    )


def _written(tokenizer: Any, word: str) -> TokenIds | None:
    """A word's ids, None where the vocabulary cannot write it."""
    ids = tuple(tokenizer.encode(word, add_special_tokens=False))
    return None if not ids or tokenizer.unk_token_id in ids else ids
