"""What shortening learns: which completions are kept, and how they are labelled."""

import pytest

from pts.training.samples import Sample
from pts.training.solutions import Example, examples_of, solution

PROMPTS = {"p": (1, 2), "q": (1, 3)}
END = 5


def sample(completion, success, thinks=True):
    ids = tuple(completion)
    return Sample(ids, thinks, True, success, False, 0, len(ids), (0.0,) * len(ids))


def kept(mode, group, problem="p"):
    return solution(problem, "digest", mode, group)


def test_the_shortest_right_completion_is_kept_and_a_shorter_wrong_one_is_not():
    found = kept("thinking", [sample([7], False), sample([7, 8, 9], True), sample([6, 8], True)])
    assert (found.shortest, found.successes, found.n) == ((6, 8), 2, 3)
    assert (found.tokens, found.right_tokens) == (2.0, 2.5)


def test_of_two_of_one_length_the_choice_does_not_depend_on_the_order():
    group = [sample([9, 9], True), sample([6, 8], True)]
    assert kept("thinking", group) == kept("thinking", group[::-1])


def test_a_problem_with_nothing_right_is_left_out():
    solutions = [kept("thinking", [sample([7], False)]), kept("thinking", [sample([8, 9], True)], "q")]
    assert solutions[0].shortest is None
    assert examples_of(solutions, PROMPTS, ()) == [Example((1, 3), (8, 9), True)]


@pytest.mark.parametrize(("right", "learnt"), [(0, False), (1, False), (2, True), (4, True)])
def test_an_answer_without_thinking_is_learnt_where_half_of_them_are_right(right, learnt):
    group = [sample([END, place], place < right, False) for place in range(4)]
    assert bool(examples_of([kept("no thinking", group)], PROMPTS, ())) is learnt


def test_what_both_modes_write_first_is_learnt_too():
    thinking, without = [sample([7, END, 8], True)], [sample([END, 8], True, False)]
    solutions = [kept("thinking", thinking), kept("no thinking", without)]
    assert examples_of(solutions, PROMPTS, (4,)) == [
        Example((1, 2), (4, 7, END, 8), True),
        Example((1, 2), (4, END, 8), False),
    ]
