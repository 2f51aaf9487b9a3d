"""`pts.search`, and the run that it returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pts.api.problems import Problems, dataset_of
from pts.api.settings import loaded_or_none, model_inputs, stage_inputs
from pts.models.held import holding
from pts.models.load import LoadedModel
from pts.runs.finding_records import PivotalSentence, PivotalToken
from pts.runs.search_run import SearchResults, read_search
from pts.runs.search_summary import SearchSummary, search_summary

if TYPE_CHECKING:
    import pandas as pd

RUNS = Path("runs")
_TOP = 10
"""Findings that a run shows of itself."""


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A search's results, as its directory `path` holds them; `model` is the one that was searched, if loaded.

    run = pts.search("demo", limit=20)
    print(run.findings[0].prob_delta)
    run.to_pandas()
    """

    path: Path
    model: LoadedModel | None = None

    @cached_property
    def results(self) -> SearchResults:
        """Everything that the directory holds."""
        return read_search(self.path)

    @cached_property
    def findings(self) -> list[PivotalToken]:
        """The pivotal tokens or sentences, those with the largest |Δ| first."""
        from pts.runs.pivotal_tokens import pivotal_tokens

        return pivotal_tokens(self.results, self.results.findings)

    @property
    def summary(self) -> SearchSummary:
        """The run in numbers."""
        return search_summary(self.results)

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row a finding; its columns are the fields of the records."""
        import pandas as pd

        rows = [asdict(finding) for finding in self.findings]
        kind = PivotalToken if self.results.unit == "token" else PivotalSentence
        return pd.DataFrame(rows, columns=list(kind.__dataclass_fields__))

    def __repr__(self) -> str:
        """The report of `pts show`, as text."""
        from pts.report.rendering import as_text
        from pts.report.terminal import run_report

        return as_text(run_report(self.results, top=_TOP))

    def _repr_html_(self) -> str:
        from pts.report.notebook import run_html

        return run_html(self.results, _TOP)


def search(
    model: LoadedModel | str = "demo",
    problems: Problems = "demo",
    *,
    limit: int | None = None,
    output: str | Path | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Run:
    """Find the pivotal tokens of a model on problems with checkable answers.

    `problems` is a data set's name, a file, a Hub id, or a list of (question, answer), and `limit` the maximum
    number of them. The run is written to `output` (by default under `runs/`); a second call continues one that
    was stopped. `settings` are the options of `pts search` by their names, such as `budget=1024`,
    `threshold=0.2`, `traces=2` or `temperature=0.6`. `progress` shows how far it is on stderr (by default in a
    terminal). Raises PtsError, in one line, for what does not fit.

        run = pts.search(pts.load_model("demo"), limit=20)
    """
    from pts.api.progress import search_shown
    from pts.stages.search.inputs import SearchInputs
    from pts.stages.search.run import run_search

    folder = RUNS if output is None else Path(output).parent
    fixed = {
        **model_inputs(model),
        "dataset": dataset_of(problems, folder),
        "problems": limit,
        "output": output,
    }
    inputs = stage_inputs(SearchInputs, "pts.search", settings, fixed)
    loaded = loaded_or_none(model)
    with holding(loaded), search_shown(inputs, progress) as observe:
        run_search(inputs, observe)
    return Run(inputs.directory(), loaded)


def load_run(path: str | Path, model: LoadedModel | None = None) -> Run:
    """The run that `pts.search` or `pts search` wrote to `path`. Raises RunError where there is none."""
    read_search(Path(path))
    return Run(Path(path), model)
