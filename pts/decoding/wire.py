"""Think tags and contexts as JSON values, to be sent to a server, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pts.decoding.context_match import Contexts
from pts.decoding.think_format import ThinkFormat
from pts.models.think_tag import Tag, TextTag, TokenTag
from pts.policies.vllm.wire import CONTEXTS, THINK


def described_think(think: ThinkFormat) -> dict[str, Any]:
    """Think tags as JSON values, without what only a prompt is read by."""
    return {
        "kind": THINK,
        "start": list(think.start),
        "end": list(think.end),
        "empty": list(think.empty),
        "continuations": [list(ids) for ids in think.continuations],
        "switches": [list(ids) for ids in think.switches],
        "sentence_ends": sorted(think.sentence_ends),
        "start_tag": _described_tag(think.start_tag),
        "end_tag": _described_tag(think.end_tag),
    }


def think_of(content: Mapping[str, Any], tokenizer: Any) -> ThinkFormat:
    """The think tags that were described, of a model with this tokenizer."""
    return ThinkFormat(
        tuple(content["start"]),
        tuple(content["end"]),
        tuple(content["empty"]),
        tuple(tuple(ids) for ids in content["continuations"]),
        tuple(tuple(ids) for ids in content["switches"]),
        frozenset(content["sentence_ends"]),
        _tag(content["start_tag"], tokenizer),
        _tag(content["end_tag"], tokenizer),
    )


def described_contexts(contexts: Contexts) -> dict[str, Any]:
    """Contexts as JSON values."""
    return {
        "kind": CONTEXTS,
        "variants": [[list(ids), variant] for ids, variant in contexts.variants.items()],
        "lasting": contexts.lasting,
    }


def contexts_of(content: Mapping[str, Any]) -> Contexts:
    """The contexts that were described."""
    return Contexts({tuple(ids): variant for ids, variant in content["variants"]}, lasting=content["lasting"])


def _described_tag(tag: Tag | None) -> dict[str, Any] | None:
    if tag is None:
        return None
    return {"ids": list(tag.ids), "text": tag.text if isinstance(tag, TextTag) else None}


def _tag(content: Mapping[str, Any] | None, tokenizer: Any) -> Tag | None:
    if content is None:
        return None
    ids, text = tuple(content["ids"]), content["text"]
    return TokenTag(ids) if text is None else TextTag(tokenizer, text, ids)
