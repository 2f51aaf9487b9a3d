"""`pts.evaluate`, and the evaluation that it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pts.api.problems import Problems, dataset_of
from pts.api.settings import loaded_or_none, model_inputs, stage_inputs
from pts.errors import ConfigError
from pts.evaluation.summary import EvaluationSummary
from pts.models.held import holding
from pts.models.load import LoadedModel
from pts.steering.vector_set import VectorSet

if TYPE_CHECKING:
    import pandas as pd

EVALUATIONS = Path("evals")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """An evaluation's results: the systems that were compared, and the comparisons between them.

    table = pts.evaluate("demo", "demo", strategies=["full", "nothink"], limit=20)
    table.to_pandas()
    table.comparisons()
    """

    path: Path
    summary: EvaluationSummary

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row a system: success and tokens with their intervals."""
        import pandas as pd

        return pd.DataFrame([asdict(line) for line in self.summary.lines])

    def comparisons(self) -> pd.DataFrame:
        """A table with one row a comparison: difference in success, interval, p-value and Holm's correction."""
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.summary.comparisons])

    def __repr__(self) -> str:
        """The report of `pts eval`, as text."""
        from pts.report.evaluation_tables import EVALUATION_COLUMNS, evaluation_report
        from pts.report.rendering import as_text

        return as_text(evaluation_report(self.summary), EVALUATION_COLUMNS)

    def _repr_html_(self) -> str:
        from pts.report.evaluation_page import figure_markup
        from pts.report.evaluation_tables import EVALUATION_COLUMNS, evaluation_report
        from pts.report.rendering import as_html

        table = as_html(evaluation_report(self.summary), EVALUATION_COLUMNS)
        # Its ground is white whatever the notebook's colours are.
        figure = figure_markup(self.summary)
        return (
            table if figure is None else f"<div style='background:#fff;max-width:720px'>{figure}</div>{table}"
        )


def evaluate(
    model: LoadedModel | str,
    problems: Problems = "demo",
    *,
    strategies: Sequence[str] = ("full", "nothink"),
    vectors: VectorSet | str | Path | None = None,
    limit: int | None = None,
    output: str | Path | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Evaluation:
    """Compare strategies, unsteered and steered, on success against all tokens spent.

    `problems` is a data set's name, a file, a Hub id, or a list of (question, answer), and `limit` the maximum
    number of them. Each strategy answers all of them, with and without `vectors`; the baselines of `pts eval`
    are added (`baselines=False` leaves them out). The run is written to `output` (by default under `evals/`); a
    second call continues one that was stopped. `settings` are the options of `pts eval` by their names, such as
    `seeds=3` or `budget=1024`. Raises PtsError, in one line, for what does not fit.

        table = pts.evaluate(model, "gsm8k", strategies=["full", "auto"], limit=200)
    """
    from pts.api.progress import evaluation_shown
    from pts.stages.evaluate.inputs import EvaluateInputs
    from pts.stages.evaluate.run import run_evaluation

    folder = EVALUATIONS if output is None else Path(output).parent
    fixed = {
        **model_inputs(model),
        "dataset": dataset_of(problems, folder),
        "strategies": tuple([strategies] if isinstance(strategies, str) else strategies),
        "vectors": _source(vectors),
        "problems": limit,
        "output": output,
    }
    inputs = stage_inputs(EvaluateInputs, "pts.evaluate", settings, fixed)
    with holding(loaded_or_none(model)), evaluation_shown(progress) as observe:
        summary = run_evaluation(inputs, observe)
    return Evaluation(inputs.directory(), summary)


def _source(vectors: VectorSet | str | Path | None) -> str | None:
    """Where the vectors are. Raises ConfigError for a set that is in memory alone."""
    from pts.steering.set_location import source_of

    if isinstance(vectors, VectorSet):
        source = source_of(vectors)
        if source is None:
            raise ConfigError(
                "these vectors are only in memory, and an evaluation needs them in a "
                "directory: write them with pts.save_vectors(vectors, directory), and give "
                "the directory."
            )
        return source
    return None if vectors is None else str(vectors)
