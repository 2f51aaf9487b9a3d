"""The two ways in which an answer can begin, with thinking and without, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pts.decoding.think_format import ThinkFormat, find_think_format
from pts.errors import ConfigError, ModelError
from pts.models.prompt import PromptFormat, encode_prompt
from pts.records import TokenIds
from pts.setting_names import setting

OWN = "own"
"""An opener of this name is none: the model begins to think as it likes."""


@dataclass(frozen=True, slots=True)
class Modes:
    """How answers begin after a prompt.

    `lead` is what both modes share and the prompt lacks, such as a tag that opens thinking. After it an answer
    without thinking begins with `no_thinking`, one with thinking with `opener` (empty: as the model likes, but
    for the first token of `no_thinking`). `opened` says that thinking is open after prompt and lead.
    """

    lead: TokenIds
    no_thinking: TokenIds
    opener: TokenIds
    opened: bool
    think: ThinkFormat

    def thinks(self, completion: Sequence[int]) -> bool:
        """Whether a completion does not begin as one without thinking does."""
        return tuple(completion[: len(self.no_thinking)]) != self.no_thinking

    def split(self, completion: TokenIds) -> tuple[TokenIds, TokenIds]:
        """A completion's thinking, with the tag that closes it, and its answer (empty where it has none)."""
        return self.think.split(completion, self.opened)


def find_modes(
    tokenizer: Any,
    prompt_format: PromptFormat,
    start: str | None = None,
    end: str | None = None,
    opener: str = OWN,
    required_by: str = "training",
) -> Modes:
    """The modes of a model, by its chat template and think tags (or the tags `start` and `end`).

    Raises ModelError for a model that does not think or cannot do without, ConfigError for an `opener` that
    the vocabulary cannot write or that begins as an answer without thinking does.
    """
    think = find_think_format(tokenizer, prompt_format, start, end, required_by=required_by)
    assert think is not None
    prompt = encode_prompt(tokenizer, "?", prompt_format)
    lead = () if think.is_open(prompt) or think.empty[: len(think.start)] != think.start else think.start
    no_thinking = think.empty[len(lead) :]
    if not no_thinking:
        raise ModelError(
            "the prompt has closed thinking already, so answers with and without thinking begin alike: leave "
            f"{setting('thinking', False)} out, or use a model whose chat template leaves the choice."
        )
    return Modes(
        lead,
        no_thinking,
        _opener(tokenizer, opener, no_thinking),
        think.is_open(prompt) or bool(lead),
        think,
    )


def _opener(tokenizer: Any, opener: str, no_thinking: TokenIds) -> TokenIds:
    """The forced first tokens of a thinking answer. Raises ConfigError."""
    if opener == OWN:
        return ()
    ids = tuple(tokenizer.encode(opener, add_special_tokens=False))
    if not ids or (tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids):
        raise ConfigError(f"the opener {opener!r} cannot be written with the model's vocabulary.")
    if ids[0] == no_thinking[0]:
        raise ConfigError(
            f"the opener {opener!r} begins as an answer without thinking does: give another "
            f"{setting('opener')}."
        )
    return ids
