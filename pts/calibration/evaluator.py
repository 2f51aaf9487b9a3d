"""Settings measured on problems, each measurement kept in a journal so that a stopped calibration goes on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from pts.calibration.measurer import MeasureHere, Measurer, Stream
from pts.calibration.settings import Setting
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import Outcomes
from pts.records import Problem
from pts.runs.journal import Journal
from pts.steering.hooks import Intervention
from pts.steering.vector_set import GateKind

logger = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str, int, int]
"""A setting's name, the digest of what it adds and where, and the first problem and the one after the last."""

STREAM = 4096
"""Completions of one stream of requests, about: many enough to keep a batch full."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A setting's outcomes on problems `first` to `end`, as the journal keeps them: sums for each problem.

    `digest` is of what the setting added; None in a journal of an earlier version, which does not say.
    """

    setting: str
    first: int
    end: int
    samples: int
    successes: tuple[int, ...]
    tokens: tuple[int, ...]
    cut: tuple[int, ...]
    digest: str | None = None


class Additions(Protocol):
    """What each setting adds: fitted directions (`Directions`), or those of a set (`SetControls`)."""

    def interventions(self, setting: Setting) -> tuple[Intervention, ...]:
        """The setting as what hooks add."""


@dataclass(slots=True)
class Evaluator:
    """Measures settings on one list of problems.

    `journal` is appended to after every setting, and what stands in it is not measured again, as long as
    a setting has the direction and the gate that it had; it belongs to these problems, samples and seed (the
    caller names it so). `observe` hears, as completions come, of their tokens and of how many completions are
    `done` of what was asked so far, those of the journal too. `measurer` makes the completions, or else
    `decoder`.
    """

    decoder: Decoder
    directions: Additions
    problems: Sequence[Problem]
    samples: int
    seed: int
    journal: Path | None = None
    observe: Callable[[int, int], None] | None = None
    done: int = 0
    measurer: Measurer | None = None
    _journal: Journal[Measurement] | None = None
    _known: dict[Key, Outcomes] = field(default_factory=dict)
    _journaled: set[tuple[str, int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.journal is not None:
            self._journal = Journal(self.journal, Measurement, remedy="delete the file to measure again")
            entries = self._journal.read()
            self._known = dict(_outcomes(each) for each in entries if each.samples == self.samples)
        self._journaled = {(name, first, end) for name, _, first, end in self._known}

    def __call__(self, settings: Sequence[Setting], first: int, end: int) -> Mapping[Setting, Outcomes]:
        """Each setting's outcomes on problems `first` to `end`."""
        keys = {setting: (setting.key, self._digest(setting), first, end) for setting in settings}
        todo = [setting for setting in settings if keys[setting] not in self._known]
        self._note_changed([keys[setting] for setting in todo])
        self.done += (len(settings) - len(todo)) * (end - first) * self.samples
        self._measure(list(_streams(todo, (end - first) * self.samples)), first, end)
        return {setting: self._known[key] for setting, key in keys.items()}

    def ranges(self, settings: Sequence[Setting]) -> set[tuple[int, int]]:
        """First and end of the problems that any of these has been measured on together."""
        names = {(setting.key, self._digest(setting)) for setting in settings}
        return {(first, end) for name, digest, first, end in self._known if (name, digest) in names}

    def unsteered(self) -> Outcomes:
        """Outcomes of the model as it is on all problems, with the same random numbers."""
        key = (_UNSTEERED, "", 0, len(self.problems))
        if key in self._known:
            self.done += len(self.problems) * self.samples
        else:
            self._measure([[]], 0, len(self.problems))
        return self._known[key]

    def _measure(self, groups: Sequence[Sequence[Setting]], first: int, end: int) -> None:
        """Measure groups of settings, each in a stream; a group of none is the model as it is."""
        streams = [
            Stream(
                tuple(self.directions.interventions(setting) for setting in group),
                tuple(self.problems[first:end]),
                self.samples,
                self.seed,
            )
            for group in groups
        ]

        def keep(stream: int, number: int, outcomes: Outcomes) -> None:
            setting = groups[stream][number - 1] if number else None
            name = (_UNSTEERED, "") if setting is None else (setting.key, self._digest(setting))
            key = (*name, first, end)
            self._known[key] = outcomes
            if self._journal is not None:
                self._journal.append(_measurement(key, outcomes))

        measurer = MeasureHere(self.decoder) if self.measurer is None else self.measurer
        measurer(streams, keep, self._count)

    @property
    def measured(self) -> Collection[Outcomes]:
        """All that was measured, those of the journal too."""
        return self._known.values()

    def _digest(self, setting: Setting) -> str:
        digests = [intervention_digest(each) for each in self.directions.interventions(setting)]
        return digests[0] if len(digests) == 1 else "+".join(digests)

    def _note_changed(self, todo: Sequence[Key]) -> None:
        """Say it where the journal has a setting's name, but of another direction."""
        changed = [name for name, _, first, end in todo if (name, first, end) in self._journaled]
        if changed:
            logger.warning(
                "%s: %d settings have another direction or gate than when they were measured "
                "(such as %s); they are measured again.",
                self.journal,
                len(changed),
                changed[0],
            )

    def _count(self, completions: int, tokens: int) -> None:
        self.done += completions
        if self.observe is not None:
            self.observe(tokens, self.done)


_UNSTEERED = "unsteered"


def _streams(settings: Sequence[Setting], each: int) -> Iterator[list[Setting]]:
    """Settings that are measured together, `each` completions of each: at one layer with gates of one kind.

    Directions share a batch, but layers and gates do not: a batch pays at every layer for each gate that any of
    its rows has, an entropy gate for a product with the whole vocabulary.
    """
    size = max(1, round(STREAM / each))
    alike: dict[tuple[int, GateKind], list[Setting]] = {}
    for setting in settings:
        alike.setdefault((setting.layer, setting.gate), []).append(setting)
    for group in alike.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def intervention_digest(intervention: Intervention) -> str:
    """SHA-256, in 16 hex digits, of all that decides what is added: layer, vector and gate, to the last bit.

    Not rounded: of two vectors that nearly agree, only one was measured.
    """
    gate, digest = intervention.gate, hashlib.sha256()
    digest.update(repr((intervention.layer, gate.kind, gate.threshold, gate.token_ids)).encode())
    for tensor in (intervention.vector, gate.weight):
        digest.update(b"-" if tensor is None else tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _measurement(key: Key, outcomes: Outcomes) -> Measurement:
    setting, digest, first, end = key
    return Measurement(setting, first, end, outcomes.samples, *outcomes.sums, digest)


def _outcomes(measurement: Measurement) -> tuple[Key, Outcomes]:
    """A measurement's key and outcomes; of an unnamed direction, a key that no setting has."""
    name = measurement.setting
    digest = measurement.digest
    if digest is None:
        digest = "" if name == _UNSTEERED else "unknown"
    sums = (measurement.successes, measurement.tokens, measurement.cut)
    outcomes = Outcomes.of(measurement.samples, *sums)
    return (name, digest, measurement.first, measurement.end), outcomes
