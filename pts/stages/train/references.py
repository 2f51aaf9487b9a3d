"""The directory of reference means: made once for a model, its problems and its sampler, and used again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from pts.runs.manifest import text_digest
from pts.seeds import derive_seed
from pts.stages.train.kept_draws import drawn_by, kept_draws
from pts.stages.train.reinforcement_inputs import AdaptThinkInputs
from pts.training.references import (
    REFERENCES,
    Reference,
    draw_references,
    half_width,
    reference_journal,
)

if TYPE_CHECKING:
    from pts.policies import SteerablePolicy
    from pts.stages.train.subject import Subject
    from pts.training.samples import Asker

logger = logging.getLogger(__name__)


def reference_means(
    inputs: AdaptThinkInputs,
    subject: Subject,
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
        **drawn_by(inputs, subject),
        "temperature": inputs.temperature,
        "budget": inputs.sampling().budget,
        "samples": inputs.reference_samples,
        "opener": inputs.opener,
    }
    with kept_draws(
        path, REFERENCES, settings, subject, lambda directory: reference_journal(directory).read()
    ) as directory:
        found = draw_references(
            subject.problems,
            subject.digests,
            reference_journal(directory),
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
