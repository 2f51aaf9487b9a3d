"""A vector set in the terminal: its patterns, how well they hold on held-out pairs, and what they do."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pts.evaluation.measured import Measured
from pts.ranks import controls_needed
from pts.report.rendering import plain_table
from pts.steering.claims import Claim, claims, rank_sentence
from pts.steering.pattern_source import groups_without, source_sentence
from pts.steering.set_measurement import HEADINGS, READING, measurement_rows
from pts.steering.vector_set import Effect, VectorSet

VECTOR_COLUMNS = 112
"""Columns that the tables of a set need."""
UNCOMPARED = (
    "The interval is over problems and of these vectors alone. Whether random directions do as much is not "
    "measured here: add --random 19."
)


def vector_report(vectors: VectorSet) -> RenderableType:
    """Patterns, what they are made of, how they are added; effects with interval and controls; a verdict."""
    model = vectors.model
    head = Text(f"{model.id}: {model.layers} layers of width {model.hidden_size}, revision {model.revision}")
    parts: list[RenderableType] = [head, _patterns(vectors)]
    if vectors.patterns is not None:
        parts.append(Text(source_sentence(vectors.patterns)))
        parts += [Text(line) for line in groups_without(vectors.patterns)]
    if vectors.effects:
        parts += [_effects(vectors), Text(_cut(vectors))]
    parts += [Text(line, style=style) for line, style in _verdicts(vectors)]
    parts += [Text(line, style="yellow") for line in _left_out(vectors)]
    if vectors.measurements:
        parts += [_measured_later(vectors), Text(READING)]
    return Group(*parts)


def measured_report(measured: Measured) -> RenderableType:
    """One problem decoded both ways, and success without and with steering on all of them."""
    parts: list[RenderableType] = []
    if measured.example is not None:
        example = measured.example
        parts += [
            Text(f"{example.query}  ({example.answer})", style="bold"),
            Text(f"unsteered: {example.unsteered}", style="red"),
            Text(f"steered:   {example.steered}\n", style="green"),
        ]
    plain, steered = measured.unsteered, measured.steered
    count = len(plain.successes)
    parts.append(
        Text(
            f"{count} problems x {plain.samples}: success {plain.success:.3f} unsteered, "
            f"{steered.success:.3f} steered, "
            f"difference {measured.difference:+.3f} ({measured.low:+.3f} to {measured.high:+.3f}); tokens "
            f"{plain.tokens_each:.0f} -> {steered.tokens_each:.0f} a completion; cut by the budget "
            f"{plain.cut_share:.0%} -> {steered.cut_share:.0%}."
        )
    )
    parts.append(Text(_compared(measured) if measured.random else UNCOMPARED))
    if measured.example is not None:
        parts.append(Text("The completions above are of the first problem that only the steered model solved."))
    return Group(*parts)


def _compared(measured: Measured) -> str:
    """The place among the random vectors, and what it tests."""
    found = measured.random_differences
    count, needed = len(found), controls_needed()
    if measured.place is None:
        among = f"(mean {sum(found) / count:+.3f}, best {max(found):+.3f})"
    else:
        seen = [len(each.successes) for each in measured.random]
        last = [one for one, problems in zip(found, seen, strict=True) if problems == max(seen)]
        among = f"in a race (the last {len(last)}, on {max(seen)} problems: best {max(last):+.3f})"
    text = (
        f"Beside {count} random vectors of the same layers, norms and gates {among}: "
        f"rank {measured.rank} of {count + 1}"
    )
    if count < needed:
        return f"{text}, which proves nothing: a test at 5% needs {needed} of them."
    return (
        f"{text}, p {measured.p_value:.3f} for the direction. Strength and sign were chosen for these vectors "
        "and not for the random ones, so the p-value may be too small."
    )


def _patterns(vectors: VectorSet) -> Table:
    headings = ("layer", "strength", "norm", "gate", "pairs", "held-out shift", "AUC", "halves cos")
    table = plain_table("Vectors", ("pattern", "method"), headings)
    for vector in vectors.vectors.values():
        evidence = vector.evidence
        table.add_row(
            vector.pattern,
            vector.method,
            vector.where,
            f"{vector.strength:g}",
            _number(None if vector.shares else vector.strength * vectors.residual_norms[vector.layer], ".1f"),
            vector.gate.kind,
            _pairs(evidence),
            _number(evidence.get("shift"), "+.2f"),
            _number(evidence.get("auc"), ".2f"),
            _number(evidence.get("halves_cosine"), "+.2f"),
        )
    return table


def _pairs(evidence: Mapping[str, int | float | None]) -> str:
    """Pairs that a vector was fitted to, and behind a plus those of the screen."""
    screened = evidence.get("screened_pairs")
    return _number(evidence.get("pairs"), "d") + (f" + {screened}" if screened else "")


def _effects(vectors: VectorSet) -> Table:
    first = next(iter(vectors.effects.values()))
    title = f"Effect on {first.problems} test problems × {first.samples}"
    headings = ("unsteered", "steered", "difference", "interval", "best random", "rank", "tokens", "KL/token")
    table = plain_table(title, ("pattern",), headings)
    for effect in vectors.effects.values():
        table.add_row(
            effect.pattern,
            f"{effect.unsteered:.3f}",
            f"{effect.steered:.3f}",
            f"{effect.difference:+.3f}",
            f"{effect.low:+.3f} to {effect.high:+.3f}",
            _number(max(effect.random, default=None), "+.3f"),
            f"{effect.rank} of {len(effect.random) + 1}" if effect.random else "–",
            f"{effect.tokens_unsteered:.0f} → {effect.tokens_steered:.0f}",
            _number(effect.kl_per_token, ".3f"),
        )
    return table


def _measured_later(vectors: VectorSet) -> Table:
    # Without the last column, which the terminal has no room for.
    table = plain_table("Measured later", HEADINGS[:1], HEADINGS[1:-1])
    for row in measurement_rows(vectors.measurements, vectors.model.id):
        table.add_row(*row[:-1])
    return table


def _cut(vectors: VectorSet) -> str:
    """What the budget cut of the completions behind the effects, at most."""
    shares = [(effect.cut_unsteered, effect.cut_steered) for effect in vectors.effects.values()]
    known = [(plain, steered) for plain, steered in shares if plain is not None and steered is not None]
    if len(known) < len(shares):
        return "Cut by the budget: unknown; the version that measured it did not count it."
    plain, steered = (max(column) for column in zip(*known, strict=True))
    return f"Cut by the budget: {plain:.1%} of the completions unsteered, at most {steered:.1%} steered."


def _verdicts(vectors: VectorSet) -> list[tuple[str, str]]:
    if not vectors.effects:
        return [("No effect was measured for this set.", "bold")]
    made = claims(vectors.effects)
    return [_verdict(effect, made[name]) for name, effect in vectors.effects.items()]


def _left_out(vectors: VectorSet) -> list[str]:
    """Each pattern's effect that has no divergence, with the reason where the set says one."""
    return [
        f"{effect.pattern}: no KL per token: {effect.kl_left_out}."
        for effect in vectors.effects.values()
        if effect.kl_per_token is None and effect.kl_left_out is not None
    ]


def _verdict(effect: Effect, claim: Claim) -> tuple[str, str]:
    rank = rank_sentence(claim)
    if claim.made:
        return (
            f"{effect.pattern}: raises success, clear of zero, and more than random directions do: {rank}.",
            "green",
        )
    if not claim.clear:
        return f"{effect.pattern}: no effect found: the interval is not clear of zero; {rank}.", "yellow"
    if claim.matched:
        return f"{effect.pattern}: no effect found: a random direction did as well; {rank}.", "yellow"
    return f"{effect.pattern}: not proved to be more than a random direction's effect: {rank}.", "yellow"


def _number(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(int(value) if form == "d" else value, form)
