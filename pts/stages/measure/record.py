"""What a measurement writes for later: its figures into its directory, and its result into the set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import RunError
from pts.evaluation.measured import LEVEL, Example, Measured
from pts.runs.files import replace_text
from pts.runs.manifest import list_problems
from pts.steering.set_measurement import SetMeasurement, with_measurement

if TYPE_CHECKING:
    from pts.records import Problem
    from pts.stages.measure.inputs import MeasureInputs
    from pts.stages.search.reload import Loaded
    from pts.steering.vector_set import VectorSet

FIGURES = "measured.json"


def write_figures(folder: Path, measured: Measured) -> None:
    """Write what was measured into the measurement's directory. Raises RunError."""
    example = None if measured.example is None else asdict(measured.example)
    figures = {**measured.figures(), "example": example}
    replace_text(folder / FIGURES, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def kept_example(folder: Path) -> Example | None:
    """The example that an earlier command of the same measurement found; None where there is none.

    Raises RunError for a file that cannot be read.
    """
    path = folder / FIGURES
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text()).get("example")
        return None if found is None else Example(**found)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path} cannot be read: delete it; what was measured is kept beside it.") from error


def record(
    inputs: MeasureInputs,
    vectors: VectorSet,
    search: Loaded,
    problems: Sequence[Problem],
    measured: Measured,
) -> None:
    """Write the result into the set, in the place of the same one on the first of these problems.

    Raises RunError, VectorError.
    """
    from pts.problems import problem_digest
    from pts.steering.vector_files import load_vectors, save_vectors

    folder = Path(inputs.vectors).expanduser()
    plain, steered = measured.unsteered, measured.steered
    strengths = {next(iter(vectors.vectors)): 1.0} if inputs.strengths is None else inputs.strengths
    digests = [problem_digest(problem) for problem in problems]

    def digest_of_first(count: int) -> str:
        return list_problems(digests[:count]).fingerprint

    made = SetMeasurement(
        dataset=_data_name(inputs, vectors),
        problems_digest=digest_of_first(len(problems)),
        model=vectors.model.id if inputs.model is None else Path(inputs.model).name,
        revision=search.loaded.revision,
        strengths=dict(strengths),
        problems=len(problems),
        samples=plain.samples,
        seed=inputs.seed,
        unsteered=plain.success,
        steered=steered.success,
        difference=measured.difference,
        low=measured.low,
        high=measured.high,
        level=LEVEL,
        tokens_unsteered=plain.tokens_each,
        tokens_steered=steered.tokens_each,
        cut_unsteered=plain.cut_share,
        cut_steered=steered.cut_share,
        random=measured.random_differences,
        random_problems=tuple(len(each.successes) for each in measured.random),
        rank=measured.rank if measured.random else None,
        race=measured.place is not None,
    )
    # Read again: another command may have recorded something while this one measured.
    now = load_vectors(folder)
    save_vectors(replace(now, measurements=with_measurement(now.measurements, made, digest_of_first)), folder)


def _data_name(inputs: MeasureInputs, vectors: VectorSet) -> str:
    """The data set as people know it: its name or id, of a file its name alone, with what was chosen of it."""
    if inputs.dataset is None:
        searched = vectors.provenance["search"]
        assert isinstance(searched, Mapping)
        return f"{searched['dataset']}, fresh problems"
    path = Path(inputs.dataset).expanduser()
    name = path.name if path.exists() else inputs.dataset
    return ", ".join([name, *(each for each in (inputs.config, inputs.split) if each is not None)])
