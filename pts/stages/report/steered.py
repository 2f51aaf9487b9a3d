"""The completions of a search read with a vector set, for its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError, DataError
from pts.report.steered_data import SteeredRun, SteeringData
from pts.runs.manifest import read_manifest
from pts.runs.search_run import SEARCH, SearchResults, read_search
from pts.setting_names import setting
from pts.stages.report.inputs import ReportInputs

if TYPE_CHECKING:
    from pts.steering.vector_set import VectorSet

PHASE = "reading steered"


def steered_run(
    inputs: ReportInputs, vectors: str, observe: Callable[[str, int, float], None] | None = None
) -> SteeredRun:
    """What `vectors` do to the completions of the search that the inputs name.

    `observe` gets the phase, the number of tokens just read, and the share done. Raises PtsError, in one line:
    for what is no search, a model that cannot be loaded, or a set that does not fit it.
    """
    from pts.evaluation.steered_traces import read_steered
    from pts.stages.search.reload import load_again
    from pts.steering import interventions, load_vectors
    from pts.steering.vector_algebra import require_fits, require_model

    (source,) = inputs.sources
    run = _search(source)
    loaded_set = load_vectors(vectors)
    variant = interventions(loaded_set, inputs.pattern)
    if run.resolved.model_revision is not None and not inputs.same_shape:
        # Known before the model is loaded, which may take minutes.
        require_model(loaded_set, run.resolved.model_id, run.resolved.model_revision)
    strengths = dict(inputs.pattern) if inputs.pattern else {next(iter(loaded_set.vectors)): 1.0}
    fitted = _fitted(loaded_set, run, list(strengths))
    search = load_again(run, inputs.device, trust_remote_code=inputs.trust_remote_code)
    require_fits(loaded_set, search.loaded, same_shape=inputs.same_shape)
    read = read_steered(
        search.loaded.model,
        run.results,
        variant,
        search.sampling,
        reported=[(finding.problem, finding.candidate) for finding in run.findings],
        layers_path=loaded_set.model.layers_path,
        observe=None if observe is None else lambda tokens, share: observe(PHASE, tokens, share),
    )
    return SteeredRun(
        SteeringData(
            name=Path(vectors).name,
            added=tuple(_added(loaded_set, name, factor) for name, factor in strengths.items()),
            read=len(read.traces),
            of=sum(len(result.traces) for result in run.results),
            fitted=fitted,
        ),
        read,
    )


def _search(source: Path) -> SearchResults:
    """The search at `source`. Raises ConfigError for another run, DataError for one without completions."""
    manifest = read_manifest(source) if source.is_dir() else None
    if manifest is not None and manifest.kind != SEARCH.name:
        raise ConfigError(
            f"{setting('vectors')} steers the completions of a search, and {source} is no search "
            f"({manifest.kind}): leave it out."
        )
    run = read_search(source)
    if not any(result.traces for result in run.results):
        raise DataError(f"{source} has no completion yet that could be read with {setting('vectors')}.")
    return run


def _added(vectors: VectorSet, name: str, factor: float) -> str:
    """How one pattern is added, in words."""
    vector = vectors.vector(name)
    return f"{name} ({vector.layers_named}, strength {vector.strength * factor:g}, gate {vector.gate.kind})"


def _fitted(vectors: VectorSet, run: SearchResults, patterns: Sequence[str]) -> int | None:
    """On how many of the searched problems these patterns have pivots; None where the set has no records."""
    from pts.report.vector_data import record_rows
    from pts.steering.pair_records import ALL
    from pts.steering.set_location import RECORDS_NAME

    if vectors.directory is None or not (vectors.directory / RECORDS_NAME).exists():
        return None
    rows = record_rows(vectors.directory, ("pivot_context", "reasoning_pattern"))
    contexts = [row["pivot_context"] for row in rows if ALL in patterns or row["reasoning_pattern"] in patterns]
    made_of = "\n".join(contexts)
    return sum(bool(result.traces) and result.query in made_of for result in run.results)
