"""How many problems are searched at once follows the policy's batch, and changes no result."""

import pytest

import pts
from pts.graders import make_grader
from pts.pivot_search import SearchConfig, search_problems
from pts.policies.transformers import TransformersPolicy
from pts.problems import ProblemSource, load_problems
from pts.records import Sampling


@pytest.fixture(scope="module")
def searched():
    loaded = pts.load_model("demo")
    problems = load_problems(ProblemSource(dataset="demo", levels=(1,), limit=40)).problems
    config = SearchConfig(value_range=(0.45, 0.55), sampling=Sampling(budget=96))

    def search(rows):
        seen = []
        policy = TransformersPolicy(loaded, batch_rows=rows)
        results = search_problems(
            problems,
            policy,
            make_grader("demo"),
            config,
            observe=lambda progress: seen.append(progress.in_flight),
        )
        return {result.problem_id: result for result in results}, max(seen)

    return search(64), search(1024)


def test_a_large_batch_has_more_problems_in_flight(searched):
    (_, few), (_, many) = searched
    assert few == 16
    # The first may have ended before the last began.
    assert 32 < many <= 40


def test_and_every_problem_has_the_same_result(searched):
    (few, _), (many, _) = searched
    assert few == many
