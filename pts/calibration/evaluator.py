"""Settings measured on problems, each measurement kept in a journal so that a stopped calibration goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pts.calibration.settings import Directions, Setting
from pts.errors import RunError
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import Outcomes, run_variants
from pts.records import Problem
from pts.runs.files import append_bytes

CHUNK = 24
"""Settings of one stream of requests: what a kill may lose."""


@dataclass(slots=True)
class Evaluator:
    """Measures settings on one list of problems.

    `journal` is appended to after every few settings, and what stands in it is not measured again; it belongs
    to these problems, samples and seed (the caller names it so). `observe` hears, as completions come, of their
    tokens and of how many completions are `done` of what was asked so far, those of the journal too.
    """

    decoder: Decoder
    directions: Directions
    problems: Sequence[Problem]
    samples: int
    seed: int
    journal: Path | None = None
    observe: Callable[[int, int], None] | None = None
    done: int = 0
    _known: dict[tuple[str, int, int], Outcomes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.journal is not None and self.journal.exists():
            self._known = _read_journal(self.journal, self.samples)

    def __call__(self, settings: Sequence[Setting], first: int, end: int) -> Mapping[Setting, Outcomes]:
        """Each setting's outcomes on problems `first` to `end`."""
        todo = [setting for setting in settings if (setting.key, first, end) not in self._known]
        self.done += (len(settings) - len(todo)) * (end - first) * self.samples
        for start in range(0, len(todo), CHUNK):
            self._measure(todo[start : start + CHUNK], first, end)
        return {setting: self._known[setting.key, first, end] for setting in settings}

    def unsteered(self) -> Outcomes:
        """Outcomes of the model as it is on all problems, with the same random numbers."""
        key = (_UNSTEERED, 0, len(self.problems))
        if key in self._known:
            self.done += len(self.problems) * self.samples
        else:
            self._measure([], 0, len(self.problems))
        return self._known[key]

    def _measure(self, settings: Sequence[Setting], first: int, end: int) -> None:
        variants = [[self.directions.intervention(setting)] for setting in settings]
        numbers = range(1, len(settings) + 1) if settings else [0]
        with self.decoder.steered(variants) as policy:
            measured = run_variants(
                policy,
                self.problems[first:end],
                self.decoder.grade,
                list(numbers),
                self.samples,
                self.seed,
                self._count,
            )
        keys = [setting.key for setting in settings] or [_UNSTEERED]
        found = {(key, first, end): measured[number] for key, number in zip(keys, numbers, strict=True)}
        if self.journal is not None:
            append_bytes(self.journal, b"".join(_line(*key, outcomes) for key, outcomes in found.items()))
        self._known |= found

    def _count(self, completions: int, tokens: int) -> None:
        self.done += completions
        if self.observe is not None:
            self.observe(tokens, self.done)


_UNSTEERED = "unsteered"


def _line(key: str, first: int, end: int, outcomes: Outcomes) -> bytes:
    entry = {
        "setting": key,
        "first": first,
        "end": end,
        "samples": outcomes.samples,
        "successes": outcomes.successes.tolist(),
        "tokens": outcomes.tokens.tolist(),
        "cut": outcomes.cut.tolist(),
    }
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _read_journal(path: Path, samples: int) -> dict[tuple[str, int, int], Outcomes]:
    """What a journal holds; a last line without its newline is what a kill leaves, and is cut off the file."""
    known = {}
    *lines, half = path.read_bytes().split(b"\n")
    if half:
        os.truncate(path, path.stat().st_size - len(half))
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            sums = (np.asarray(entry[name], dtype=np.int64) for name in ("successes", "tokens", "cut"))
            if entry["samples"] == samples:
                known[entry["setting"], entry["first"], entry["end"]] = Outcomes(samples, *sums)
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} line {number} cannot be read ({error}); delete the file to measure anew."
            ) from error
    return known
