"""The directory of reference means: made once for a model, its problems and its sampler, and used again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.records import Problem
from pts.runs.directory import open_run
from pts.runs.manifest import differences, text_digest
from pts.runs.settle import settle_manifest
from pts.seeds import derive_seed
from pts.setting_names import setting
from pts.stages.train.inputs import AdaptThinkInputs
from pts.training.references import (
    REFERENCES,
    Reference,
    draw_references,
    half_width,
    reference_journal,
)

if TYPE_CHECKING:
    from pts.policies import SteerablePolicy
    from pts.training.run_files import TrainingResolved
    from pts.training.samples import Asker

logger = logging.getLogger(__name__)


def reference_means(
    inputs: AdaptThinkInputs,
    resolved: TrainingResolved,
    problems: Sequence[Problem],
    digests: Mapping[str, str],
    policy: SteerablePolicy,
    asker: Asker,
    observe: Callable[[str, int, float], None],
) -> dict[str, Reference]:
    """The references of all problems, drawn where they are not there yet.

    Raises RunError for a directory whose references are of another model, sampler, number or problem: what is
    there is kept.
    """
    path = inputs.references_directory()
    settings = {
        "model": resolved.model_id,
        "model_revision": resolved.model_revision,
        "prompt_digest": resolved.prompt_digest,
        "temperature": inputs.temperature,
        "budget": inputs.sampling().budget,
        "samples": inputs.reference_samples,
        "no_thinking": list(resolved.no_thinking or ()),
        "opener": inputs.opener,
        "grader": resolved.grader,
        "seed": inputs.seed,
    }
    with open_run(path, REFERENCES) as directory:
        earlier = directory.manifest
        changed = [] if earlier is None else differences(earlier.settings, settings)
        if changed:
            raise RunError(
                f"{path} holds references of another model or sampler ({'; '.join(changed)}): give another "
                f"{setting('references')}, or delete that directory to draw them again."
            )
        journal = reference_journal(directory)
        _require_same_problems(str(path), journal.read(), digests)
        settle_manifest(
            directory,
            settings=settings,
            resolved={"dataset_id": resolved.dataset_id},
            environment={"device": policy.identity.device},
            problems=list(digests.values()),
        )
        found = draw_references(
            problems,
            digests,
            journal,
            policy,
            asker,
            inputs.reference_samples,
            derive_seed(inputs.seed, "references"),
            lambda tokens, share: observe("references", tokens, share),
        )
    logger.info(
        "%s: the unchanged model's thinking solves %.3f of %d problems; each problem's mean of %d completions "
        "is known to ±%.2f.",
        path,
        fmean(reference.mean for reference in found.values()),
        len(found),
        inputs.reference_samples,
        half_width(inputs.reference_samples),
    )
    return found


def references_digest(references: Mapping[str, Reference]) -> str:
    """A digest of all reference means."""
    return text_digest(f"{one.problem} {one.successes} {one.n}" for one in references.values())[:16]


def _require_same_problems(where: str, known: Sequence[Reference], digests: Mapping[str, str]) -> None:
    """Raise RunError where a problem is no longer the one that was asked."""
    for reference in known:
        if digests.get(reference.problem, reference.digest) != reference.digest:
            raise RunError(
                f"{where} was made with other data: problem {reference.problem} changed since. Give another "
                f"{setting('references')}, or delete that directory to draw them again."
            )
