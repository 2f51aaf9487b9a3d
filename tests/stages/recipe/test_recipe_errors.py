"""What a stage says of options is said of the recipe's keys, and of nothing else."""

import pytest

from pts.errors import ModelError, RunError
from pts.stages.recipe.errors import in_recipe_keys

KEYS = {
    "search": ["output", "problems", "chat_template", "fresh"],
    "extract-vectors": ["output", "until", "seed"],
}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("give another --output.", "give another extract-vectors.output."),
        ("ask for fewer (--seed, --problems).", "ask for fewer (extract-vectors.seed, search.problems)."),
        ("use --no-chat-template.", "use search.chat_template false."),
        ("change --output, or --fresh.", "change extract-vectors.output, or --fresh."),
    ],
)
def test_options_become_keys(message, said):
    with pytest.raises(ModelError) as raised, in_recipe_keys("extract-vectors", KEYS):
        raise ModelError(message)
    text, hint = str(raised.value).split(" (A key of the recipe")
    assert text == said
    assert "--set " in hint


@pytest.mark.parametrize(
    "message",
    ["nothing of options.", "--fresh deletes it.", "leave --tag out.", "--until harvest", "a--output"],
)
def test_what_is_no_key_stays(message):
    error = RunError(message)
    with pytest.raises(RunError) as raised, in_recipe_keys("search", KEYS):
        raise error
    assert raised.value is error


def test_a_key_of_two_other_stages_stays():
    with pytest.raises(RunError, match=r"^give another --output\.$"), in_recipe_keys("publish", KEYS):
        raise RunError("give another --output.")
