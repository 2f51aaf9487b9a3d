"""The same seed gives the same findings, whatever the order of the problems and the size of the batch."""

import pytest
import torch

from pts.graders import make_grader
from pts.models.load import ModelOptions, load_model
from pts.pivot_search import SearchConfig, search_problems, select_findings
from pts.policies.transformers import TransformersPolicy
from pts.problems import ProblemSource, load_problems
from pts.records import Sampling

pytestmark = pytest.mark.slow


def test_batch_size_and_order_change_no_result() -> None:
    loaded = load_model(ModelOptions("demo", dtype="float32"))
    problems = load_problems(ProblemSource("demo", levels=(2, 3), limit=4, seed=1)).problems
    grader = make_grader("demo", think_end="</think>")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = []
        for batch_rows, ordered in ((256, problems), (48, problems[::-1]), (5, problems)):
            config = SearchConfig(seed=4, sampling=Sampling(budget=96))
            policy = TransformersPolicy(loaded, batch_rows=batch_rows)
            results = list(search_problems(ordered, policy, grader, config))
            runs.append({result.problem_id: result for result in results})
    finally:
        torch.set_num_threads(before)
    assert any(result.candidates for result in runs[0].values())
    assert select_findings(list(runs[0].values()), 0.05)
    assert runs[0] == runs[1] == runs[2]
