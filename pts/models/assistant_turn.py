"""What a prompt writes at its end for the assistant's turn, and whether that opens thinking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pts.models.prompt import PromptFormat, assistant_text, thinking_modes
from pts.models.thinking import ThinkTags
from pts.records import TokenIds

_MARGIN = 16
"""Tokens that are read before the assistant's turn, so that none of it is missed."""


@dataclass(frozen=True, slots=True, eq=False)
class AssistantTurn:
    """The beginnings of the assistant's turn that a chat template writes, in its modes; none for plain prompts.

    Texts are compared without white space: decoding and the template may space them differently.
    """

    tokenizer: Any
    start: str
    end: str
    beginnings: tuple[str, ...]

    def opens(self, prompt: TokenIds) -> bool:
        """Whether the prompt ends within thinking.

        By the beginning of the assistant's turn that it ends with; else, where it is none of the template's,
        by a tag at its very end.
        """
        start, end = self._places(prompt)
        return start > end

    def closes(self, prompt: TokenIds) -> bool:
        """Whether the prompt itself says that there is no thinking, by an end of it."""
        start, end = self._places(prompt)
        return end > start

    def _places(self, prompt: TokenIds) -> tuple[int, int]:
        """Where the tags last stand in the assistant's turn; −1 for one that does not."""
        longest = max((len(text.encode()) for text in self.beginnings), default=0)
        tail = prompt[-(longest + len(self.start.encode()) + _MARGIN) :]
        text = _bare(self.tokenizer.decode(list(tail), clean_up_tokenization_spaces=False))
        for beginning in sorted(self.beginnings, key=len, reverse=True):
            if beginning and text.endswith(beginning):
                return beginning.rfind(self.start), beginning.rfind(self.end)
        return (1 if text.endswith(self.start) else -1), (1 if text.endswith(self.end) else -1)


def assistant_turn(tokenizer: Any, tags: ThinkTags, prompt_format: PromptFormat) -> AssistantTurn:
    """The assistant's turn of prompts in a format, in each of the template's modes."""
    beginnings: list[str] = []
    if prompt_format.chat_template and getattr(tokenizer, "chat_template", None):
        plain = replace(prompt_format, thinking=None)
        modes: tuple[bool | None, ...] = (None, *thinking_modes(tokenizer, "?", plain))
        beginnings = [_bare(assistant_text(tokenizer, replace(plain, thinking=mode))) for mode in modes]
    return AssistantTurn(tokenizer, _bare(tags.start), _bare(tags.end), tuple(dict.fromkeys(beginnings)))


def _bare(text: str) -> str:
    return "".join(text.split())
