"""A vector set as the data of its report: effects beside controls, what calibration saw, and the patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pts.errors import RunError
from pts.evaluation.steered_examples import PatternExamples, read_examples
from pts.report.one_file import Page
from pts.runs.vector_run import VECTORS
from pts.steering.claims import claims, rank_sentence
from pts.steering.pattern_source import source_sentence
from pts.steering.set_location import RECORDS_NAME
from pts.steering.set_measurement import HEADINGS, READING, SetMeasurement, measurement_rows
from pts.steering.vector_algebra import cosines
from pts.steering.vector_files import load_vectors
from pts.steering.vector_set import Effect, SteeringVector, VectorSet

EXAMPLES = 4
"""Pivots that are shown of each pattern: those with the largest |Δ|."""
CONTEXT = 220
"""Characters of the text before a pivot that are shown."""


@dataclass(frozen=True, slots=True)
class Pivot:
    """A pivot that a pattern was made of: the end of its context, its token and its effect."""

    context: str
    token: str
    delta: float


@dataclass(frozen=True, slots=True)
class PatternData:
    """A pattern: how its vector is added, the evidence for it, its effect (None: not measured), its verdict.

    `layer` names the layers of a vector of several, which has no one `norm`.

    `examples` are steered completions, None where the set has none.
    """

    pattern: str
    method: str
    layer: int | str
    strength: float
    norm: float | None
    gate: str
    pairs: float | None
    shift: float | None
    auc: float | None
    halves_cosine: float | None
    effect: Effect | None
    verdict: str | None
    claimed: bool
    pivots: tuple[Pivot, ...]
    examples: PatternExamples | None


@dataclass(frozen=True, slots=True)
class SettingData:
    """A setting that calibration tried, with its share of successes among so many completions."""

    pattern: str
    method: str
    layer: int
    strength: float
    gate: str
    success: float
    n: int


@dataclass(frozen=True, slots=True)
class CosineData:
    """The cosine of two patterns' directions at a layer that both have."""

    first: str
    second: str
    layer: int
    cosine: float


@dataclass(frozen=True, slots=True)
class VectorData:
    """A whole set; `calibration` is empty where the set has no journal of it."""

    name: str
    model: str
    layers: int
    hidden_size: int
    source: str | None
    patterns: tuple[PatternData, ...]
    calibration: tuple[SettingData, ...]
    cosines: tuple[CosineData, ...]
    measurements: tuple[SetMeasurement, ...] = ()
    kind: Literal["vectors"] = "vectors"


def vector_data(path: Path) -> VectorData:
    """What a report shows of the set at `path`. Raises VectorError, RunError where it cannot be read."""
    vectors = load_vectors(str(path))
    made = claims(vectors.effects)
    pivots, examples = _pivots(path), read_examples(path)
    shown = {} if examples is None else examples.patterns
    return VectorData(
        name=path.resolve().name,
        model=vectors.model.id,
        layers=vectors.model.layers,
        hidden_size=vectors.model.hidden_size,
        source=None if vectors.patterns is None else source_sentence(vectors.patterns),
        patterns=tuple(
            _pattern(vectors, vector, made, pivots.get(vector.pattern, ()), shown.get(vector.pattern))
            for vector in vectors.vectors.values()
        ),
        calibration=_calibration(path),
        cosines=tuple(CosineData(*key, value) for key, value in cosines(vectors, vectors).items()),
        measurements=vectors.measurements,
    )


def vector_page(data: VectorData) -> Page:
    """The page of a vector set."""
    claimed = [pattern for pattern in data.patterns if pattern.claimed]
    measured = [pattern for pattern in data.patterns if pattern.effect is not None]
    sentence = "No effect was measured for this set."
    if measured:
        sentence = (
            f"Patterns whose effect was measured: {len(measured)}. Of these {len(claimed)} may be said to "
            "raise success: clear of zero, and more than random directions that were calibrated alike."
        )
    return Page(
        title=f"Steering vectors {data.name}",
        head=[sentence],
        facts=[
            ("Model", (f"{data.model}: {data.layers} layers of width {data.hidden_size}",)),
            ("Patterns", (data.source or "as given",)),
        ],
        warnings=[],
        template="vectors_report.html.j2",
        scripts=("moved.js", "steered.js", "vectors.js"),
        data=data,
        values={
            "measured_later": [("", row) for row in measurement_rows(data.measurements, data.model)],
            "headings": HEADINGS,
            "reading": READING,
        },
    )


def _pattern(
    vectors: VectorSet,
    vector: SteeringVector,
    made: Mapping[str, Any],
    pivots: tuple[Pivot, ...],
    examples: PatternExamples | None,
) -> PatternData:
    evidence, claim = vector.evidence, made.get(vector.pattern)
    return PatternData(
        pattern=vector.pattern,
        method=vector.method,
        layer=vector.where if vector.shares else vector.layer,
        strength=vector.strength,
        norm=None if vector.shares else vector.strength * vectors.residual_norms[vector.layer],
        gate=vector.gate.kind,
        pairs=evidence.get("pairs"),
        shift=evidence.get("shift"),
        auc=evidence.get("auc"),
        halves_cosine=evidence.get("halves_cosine"),
        effect=vectors.effects.get(vector.pattern),
        verdict=None if claim is None else rank_sentence(claim),
        claimed=claim is not None and claim.made,
        pivots=pivots,
        examples=examples,
    )


def record_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of the records of the set at `path`; no row where it has no records. Raises RunError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = path / RECORDS_NAME
    if not where.exists():
        return []
    try:
        rows: list[dict[str, Any]] = pq.read_table(where, columns=list(columns)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{where} cannot be read ({error}): extract the vectors again.") from error
    return rows


def _pivots(path: Path) -> dict[str, tuple[Pivot, ...]]:
    """The strongest pivots of each pattern, from the set's records; none where it has no records."""
    rows = record_rows(path, ("reasoning_pattern", "pivot_context", "pivot_token", "prob_delta"))
    pivots: dict[str, tuple[Pivot, ...]] = {}
    for row in sorted(rows, key=lambda row: -abs(row["prob_delta"])):
        shown = Pivot(row["pivot_context"][-CONTEXT:], row["pivot_token"], row["prob_delta"])
        for name in (row["reasoning_pattern"], "all"):
            if len(pivots.get(name, ())) < EXAMPLES:
                pivots[name] = (*pivots.get(name, ()), shown)
    return pivots


def _calibration(path: Path) -> tuple[SettingData, ...]:
    """Success by setting, over all problems that each was tried on."""
    from pts.calibration.evaluator import Measurement
    from pts.runs.journal import Journal

    where = path / VECTORS.shard
    counted: dict[str, list[int]] = {}
    for line in Journal(where, Measurement).read() if where.exists() else ():
        total = counted.setdefault(line.setting, [0, 0])
        total[0] += sum(line.successes)
        total[1] += len(line.successes) * line.samples
    return tuple(_setting(name, *total) for name, total in counted.items() if name.count("/") == 4)


def _setting(name: str, successes: int, n: int) -> SettingData:
    pattern, method, layer, strength, gate = name.split("/")
    return SettingData(
        pattern, method, int(layer.removeprefix("layer ")), float(strength), gate, successes / n, n
    )
