"""benchmarks/thinking_template.py opens thinking in templates of either style, and hides earlier thinking."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from thinking_template import OPENING, thinking_template

PLAIN = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TRIMMED = (
    "{%- for message in messages %}\n    {{- '<' + message.role + '>' + message.content }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<assistant>' }}\n{%- endif %}\n"
)
TURNS = [
    {"role": "user", "content": "2 + 3? \\boxed{}"},
    {"role": "assistant", "content": "Two and three. \\boxed{5}"},
    {"role": "user", "content": "And 4?"},
]


def rendered(template):
    return (
        ImmutableSandboxedEnvironment().from_string(template).render(messages=TURNS, add_generation_prompt=True)
    )


@pytest.mark.parametrize("template", [PLAIN, TRIMMED])
def test_thinking_is_opened_and_left_out_of_earlier_answers(template):
    found = rendered(thinking_template(template, "\\boxed{"))
    assert found.strip() == rendered(template).strip().replace("Two and three. \\boxed{", "") + OPENING


@pytest.mark.parametrize("template", [PLAIN + "more", PLAIN.replace("add_generation_prompt", "other")])
def test_a_template_that_does_not_end_with_a_generation_prompt_is_refused(template):
    with pytest.raises(ValueError, match="does not end with a generation prompt"):
        thinking_template(template)
