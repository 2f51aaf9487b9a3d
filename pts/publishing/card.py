"""The card of a vector set: where it comes from, what it does, what was measured and what was not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pts.publishing.card_text import (
    CARD_NAME,
    base_model,
    front_matter,
    is_untouched,
    marked,
    parquet_config,
    signed,
    size_category,
    table,
)
from pts.ranks import SIGNIFICANCE
from pts.runs.codec import to_json
from pts.runs.files import replace_text
from pts.steering.claims import Claim, claims, rank_sentence
from pts.steering.pattern_source import groups_without, source_sentence
from pts.steering.vector_set import Effect, Gate, SteeringVector, VectorSet

RECORDS = "records.parquet"
_GATES = {
    "always": "at every decode position",
    "probe": "where a linear probe on the residual stream fires",
    "entropy": "where the logit lens's entropy exceeds {threshold:.3g} nats",
    "tokens": "after {count} chosen tokens",
}


def vector_set_card(
    vectors: VectorSet,
    name: str,
    repo_id: str | None,
    size: int,
    *,
    repo_type: str = "dataset",
    license_id: str | None = None,
) -> str:
    """The README.md of a vector set, header included.

    `size` is the number of rows of records.parquet, 0 where there is none. The header links the file only
    where it has rows and the repository is a data set. A licence is named only where one is given, here or as
    the provenance's `license`.
    """
    stated = license_id or _text(vectors.provenance.get("license"))
    sections = [
        _header(vectors, stated, size, repo_type),
        f"# {name}\n",
        _what_it_is(vectors),
        "## Use\n",
        _usage(name, repo_id, size, repo_type),
        "## Patterns\n",
        _patterns(vectors),
        "## Measured effect\n",
        _effects(vectors),
        _MEANING,
        "## Where it comes from\n",
        _origin(vectors, stated),
    ]
    return marked("\n".join(sections))


def write_card(
    vectors: VectorSet,
    directory: Path,
    repo_id: str | None = None,
    size: int = 0,
    *,
    license_id: str | None = None,
) -> None:
    """Write a vector set's README.md into its directory, unless somebody has edited the one that is there.

    Raises RunError where the system refuses.
    """
    path = directory / CARD_NAME
    if path.exists() and not is_untouched(path.read_text(encoding="utf-8")):
        return
    replace_text(path, vector_set_card(vectors, directory.resolve().name, repo_id, size, license_id=license_id))


def _header(vectors: VectorSet, stated: str | None, size: int, repo_type: str) -> str:
    dataset = repo_type == "dataset"
    return front_matter(
        {
            "license": stated,
            "library_name": None if dataset else "pts",
            "base_model": base_model(vectors.model.id, vectors.model.revision),
            "tags": ["pts", "steering-vectors", "pivotal-token-search"],
            "size_categories": [size_category(size)] if dataset and size else None,
            "configs": parquet_config(RECORDS) if dataset and size else None,
        }
    )


def _what_it_is(vectors: VectorSet) -> str:
    model, count = vectors.model, len(vectors.vectors)
    made = "One direction" if count == 1 else f"{count} directions"
    return (
        f"{made} in the residual stream of `{model.id}` ({model.layers} decoder layers, width "
        f"{model.hidden_size}), made from pivotal tokens: the places where the model's own completions "
        "turned towards a right or a wrong answer. Adding a direction while the model decodes is meant to "
        f"make it take the better turn more often. {_verdict(vectors)}\n"
    )


def _verdict(vectors: VectorSet) -> str:
    if not vectors.effects:
        return "**No effect was measured: nothing here shows that these vectors help.**"
    made = claims(vectors.effects)
    proved = [name for name, claim in made.items() if claim.made]
    if not proved and any(claim.clear and not claim.matched for claim in made.values()):
        return (
            "**Nothing is proved: success rose, but the test against random directions below does not show "
            "that any other direction would have done less.**"
        )
    if not proved:
        return "**No effect was found: the measurement below does not show that these vectors help.**"
    which = ", ".join(f"`{name}`" for name in proved)
    rest = set(_named(vectors)) - set(proved)
    others = f" For {', '.join(f'`{name}`' for name in sorted(rest))} that was not shown." if rest else ""
    return (
        f"**On problems held out for the test, success rose with {which}, and more than with random directions "
        f"that were calibrated alike (tested at {SIGNIFICANCE:.0%}).**{others}"
    )


def _named(vectors: VectorSet) -> list[str]:
    """The patterns, and what else an effect was measured of."""
    return list(dict.fromkeys([*vectors.vectors, *vectors.effects]))


def _usage(name: str, repo_id: str | None, size: int, repo_type: str) -> str:
    text = (
        "```python\n"
        "from pts.steering import load_vectors\n\n"
        f'vectors = load_vectors("{repo_id or name}")\n'
        "for pattern, vector in vectors.vectors.items():\n"
        "    # float32 [hidden], to add to the output of decoder layer vector.layer where the gate opens\n"
        "    added = vectors.added(pattern)\n"
        "    print(pattern, vector.layer, vector.gate.kind, round(float(added.norm()), 3))\n"
        "```\n"
        "\nTo steer a loaded transformers model, put `model.generate(...)` inside "
        "`with steer(model, [interventions(vectors)]):` (both from `pts.steering`).\n"
    )
    if repo_id is not None:
        text += (
            '\n`load_vectors(..., revision="v1")` pins a version; every push of other content has a tag of '
            "its own.\n"
        )
    if size and repo_id is not None and repo_type == "dataset":
        text += (
            "\nThe pivotal tokens that the vectors were made from, in the fields that optillm's AutoThink "
            "reads (`steering_vector` is the pivot's own, `cluster_vector` its pattern's):\n\n"
            "```python\n"
            "from datasets import load_dataset\n\n"
            f'records = load_dataset("{repo_id}", split="train")\n'
            "```\n"
        )
    return text


def _patterns(vectors: VectorSet) -> str:
    rows = [
        [
            f"`{name}`",
            vector.method,
            vector.layer,
            f"{vector.strength:.3g}",
            _gate(vector.gate),
            _evidence(vector),
        ]
        for name, vector in vectors.vectors.items()
    ]
    return (
        table(
            ["pattern", "made by", "layer", "strength", "added", "evidence"],
            rows,
        )
        + "\nLayers are outputs of decoder blocks, counted from 0. Strength is the norm that is added, in "
        "multiples of the residual stream's mean norm at that layer; a user's strength 1.0 is this one. "
        "Evidence is about the pairs that the direction was fitted to or held out from, not about decoding, "
        "and has no interval. "
        "Directions of other layers, where the file has them, were not calibrated.\n\n"
        "The gate is part of the vector: it decides at each step whether anything is added. **A GGUF control "
        "vector has no gate**: exported, a direction is added at every position, which is another "
        "intervention than the one measured here, and may well do harm.\n" + _source(vectors)
    )


def _source(vectors: VectorSet) -> str:
    """What the patterns are made of, and whose pairs have no vector of their own."""
    source = vectors.patterns
    if source is None:
        return ""
    lines = [f"\n{source_sentence(source)}", "`all` is made of every pair."]
    if source.basis == "clusters":
        lines.append(
            "A cluster is named by the words at its pivots where they are evidence, and `unlabelled` "
            "otherwise; clusters of one name are numbered. That contrasts fall into clusters does not show "
            "that a cluster's vector steers better than that of all pairs: the measured effects below do, or "
            "do not."
        )
    without = "".join(f"- {line}.\n" for line in groups_without(source))
    return " ".join(lines) + "\n" + (f"\n{without}" if without else "")


def _gate(gate: Gate) -> str:
    return _GATES[gate.kind].format(threshold=gate.threshold, count=len(gate.token_ids))


def _evidence(vector: SteeringVector) -> str:
    parts = [f"{key.replace('_', ' ')} {_number(value)}" for key, value in vector.evidence.items()]
    return "; ".join(parts) or "none recorded"


def _effects(vectors: VectorSet) -> str:
    text = "".join(f"- `{name}`: {line}\n" for name, line in _findings(vectors))
    if vectors.effects:
        head = [
            "pattern",
            "problems × samples",
            "unsteered",
            "steered",
            "difference",
            "interval",
            "random directions",
            "tokens",
            "KL a token",
        ]
        text += "\n" + table(head, [_effect_row(name, effect) for name, effect in vectors.effects.items()])
    return text


def _findings(vectors: VectorSet) -> Iterator[tuple[str, str]]:
    made = claims(vectors.effects)
    for name in _named(vectors):
        effect = vectors.effects.get(name)
        yield name, "no effect measured." if effect is None else _finding(effect, made[name])


def _finding(effect: Effect, claim: Claim) -> str:
    change = (
        f"success {effect.unsteered:.3f} → {effect.steered:.3f}, {signed(effect.difference)} "
        f"[{signed(effect.low)}, {signed(effect.high)}]"
    )
    rank = rank_sentence(claim)
    if claim.made:
        return f"{change}; {rank}."
    if effect.high < 0:
        return f"**no effect found; success fell**: {change}; {rank}."
    if not claim.clear:
        return f"**no effect found**: {change}; the interval holds zero; {rank}."
    if claim.matched:
        return f"**no effect found**: {change}, but a random direction, calibrated alike, did as well; {rank}."
    return f"**not proved**: {change}; {rank}."


def _effect_row(name: str, effect: Effect) -> list[object]:
    if effect.random:
        mean = sum(effect.random) / len(effect.random)
        rank = f"rank {effect.rank} of {len(effect.random) + 1}"
        controls = f"{len(effect.random)}: mean {signed(mean)}, max {signed(max(effect.random))}; {rank}"
    else:
        controls = "not run"
    return [
        f"`{name}`",
        f"{effect.problems} × {effect.samples}",
        f"{effect.unsteered:.3f}",
        f"{effect.steered:.3f}",
        signed(effect.difference),
        f"[{signed(effect.low)}, {signed(effect.high)}] at {effect.level:.0%}",
        controls,
        f"{effect.tokens_unsteered:.1f} → {effect.tokens_steered:.1f}",
        _divergence(effect),
    ]


def _divergence(effect: Effect) -> str:
    if effect.kl_per_token is not None:
        return f"{effect.kl_per_token:.3g}"
    return "not measured" if effect.kl_left_out is None else f"left out: {effect.kl_left_out}"


_MEANING = """## What the numbers mean
- *Unsteered* and *steered* are success rates on test problems on which nothing was chosen, with the \
sampler and budget of the provenance below. The difference pairs them by problem; its interval is a \
bootstrap over problems, for each pattern on its own: with several patterns, one interval in twenty \
at 95% misses. It says what this very vector does, not whether another direction would do the same.
- *Random directions* went through the same calibration: the same choice of layer, strength, sign and \
gate, by success on the same problems, and they are measured on the same test problems. The unit of \
this test is the direction. If the fitted direction were as good as a random one, each *rank* among them \
would be equally likely, so p is the rank (ties count against the vector) over the number of directions, \
times the number of methods that the vector is the best of. With fewer than 19 random directions a rank \
proves nothing.
- The vector of all pairs is tested first, by itself. The patterns are tested after it where it passed, \
with Holm's correction, so that the chance of any false claim on this page is at most 5%. A claim also \
needs an interval above zero.
- *Tokens* are the mean length of a completion: a gain that comes with longer answers costs that \
much more. *KL a token* is in nats, between steered and unsteered next-token distributions.
- None of it says anything about another model or revision, other problems, another sampler or \
budget, or another strength, layer or gate. A pattern's name describes the tokens it was made from, \
not a mechanism.
"""


def _origin(vectors: VectorSet, stated: str | None) -> str:
    facts: list[tuple[str, object]] = [
        ("model", vectors.model.id),
        ("model revision", vectors.model.revision or "not recorded"),
        ("licence", stated or "none stated; the model's and the data's own terms apply"),
        *_flat(vectors.provenance),
    ]
    rows = [[key, _shown(value)] for key, value in facts if key != "license"]
    return table(["what", "value"], rows)


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} / ")
        else:
            yield name, value


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(to_json(value), ensure_ascii=False)
    return text if len(text) <= 300 else text[:299] + "…"


def _number(value: float | int | None) -> str:
    if value is None:
        return "not measured"
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
