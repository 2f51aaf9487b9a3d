"""`pts.write_report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pts.api.settings import loaded_or_none, stage_inputs
from pts.models.held import holding
from pts.models.load import LoadedModel
from pts.steering.vector_set import VectorSet


def write_report(
    *paths: str | Path,
    output: str | Path | None = None,
    vectors: VectorSet | str | Path | None = None,
    model: LoadedModel | None = None,
    **settings: Any,
) -> Path:
    """Write the report of what is at `paths` (a run or a set, or two searches) to `output`; where it is.

    Without `output` the file is named after what it shows, in the working directory. A report that is there is
    replaced, any other file is not. With `vectors`, as `pts.load_vectors` takes or returns them, the report of
    a search also shows what they do to its completions: `model` is the one that was searched, None to load it,
    and `settings` are the options of `pts report`, such as `pattern={"all": 1.5}`. Raises PtsError, in one
    line, for what cannot be shown.

        pts.write_report("runs/first")
        pts.write_report("runs/small", "runs/large", output="both.html")
        pts.write_report("runs/first", vectors="vectors/first")
    """
    from pts.errors import ConfigError
    from pts.stages.report.inputs import ReportInputs
    from pts.stages.report.run import run_report
    from pts.steering.set_location import source_of

    named = source_of(vectors) if isinstance(vectors, VectorSet) else vectors
    if vectors is not None and named is None:
        raise ConfigError("these vectors are in no directory: save them with pts.save_vectors, and name that.")
    fixed = {"paths": [str(path) for path in paths], "output": output, "vectors": named}
    with holding(loaded_or_none(model)):
        return run_report(stage_inputs(ReportInputs, "pts.write_report", settings, fixed))
