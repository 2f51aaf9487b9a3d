"""The directory of what the unchanged model drew before a training: made once, and used again by the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pts.errors import RunError
from pts.runs.directory import RunDirectory, RunKind, open_run
from pts.runs.manifest import differences
from pts.runs.settle import settle_manifest
from pts.setting_names import setting
from pts.stages.train.inputs import TrainingInputs

if TYPE_CHECKING:
    from pts.stages.train.subject import Subject


class OfProblem(Protocol):
    """What is kept of a problem."""

    @property
    def problem(self) -> str:
        """The problem's id."""

    @property
    def digest(self) -> str:
        """The problem's digest, when it was asked."""


def drawn_by(inputs: TrainingInputs, subject: Subject) -> dict[str, object]:
    """The settings that decide what is drawn: the model, its prompt, and the grader."""
    modes = subject.modes
    return {
        "model": subject.loaded.model_id,
        "model_revision": subject.loaded.revision,
        "prompt_digest": subject.digest,
        "no_thinking": [] if modes is None else list(modes.no_thinking),
        "grader": subject.grader_name,
        "seed": inputs.seed,
    }


@contextmanager
def kept_draws(
    path: Path,
    kind: RunKind,
    settings: Mapping[str, object],
    subject: Subject,
    known: Callable[[RunDirectory], Sequence[OfProblem]],
) -> Iterator[RunDirectory]:
    """The directory, held, with its manifest written; `known` reads what is kept there.

    The option that names the directory is called as the kind. Raises RunError for a directory whose draws are
    of another model, sampler, number or problem: what is there is kept.
    """
    remedy = f"Give another {setting(kind.name)}, or delete that directory to draw them again."
    with open_run(path, kind, kind.name) as directory:
        earlier = directory.manifest
        changed = [] if earlier is None else differences(earlier.settings, settings)
        if changed:
            raise RunError(
                f"{path} holds {kind.name} of another model or sampler ({'; '.join(changed)}). {remedy}"
            )
        for one in known(directory):
            if subject.digests.get(one.problem, one.digest) != one.digest:
                raise RunError(
                    f"{path} was made with other data: problem {one.problem} changed since. {remedy}"
                )
        settle_manifest(
            directory,
            settings=settings,
            resolved={"dataset_id": subject.problem_set.name},
            environment={"device": str(subject.loaded.device)},
            problems=list(subject.digests.values()),
        )
        yield directory
