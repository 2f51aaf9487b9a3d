"""The program that a completion holds."""

from __future__ import annotations

import re
import textwrap
import warnings

from pts.graders.code_tests import CodeTests

_FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_PYTHON = ("", "python", "py", "python3", "py3")
_LONGEST = 100_000
_TRIED_LINES = 400


def program_of(completion: str, tests: CodeTests) -> str | None:
    """The program in a completion, what comes before it in the prompt included; None where there is none.

    Of the fenced blocks of Python, the last that defines the function asked for, else the last that is Python.
    Without a block, the completion itself: a whole program, or the rest of the prompt's function, up to where
    it stops being Python.
    """
    if len(completion) > _LONGEST:
        completion = completion[-_LONGEST:]
    blocks = [found[2] for found in _FENCE.findall(completion) if found[1].lower() in _PYTHON]
    if blocks:
        return _from_blocks(blocks, tests)
    if tests.prompt and not _defines(completion, tests.entry_point):
        rest = _longest_python(tests.prompt, completion)
        return rest if rest is not None and _defines(rest, tests.entry_point) else None
    whole = _longest_python("", completion)
    return None if whole is None else _after_helpers(whole, tests)


def _from_blocks(blocks: list[str], tests: CodeTests) -> str | None:
    blocks = [textwrap.dedent(block) if not _is_python(block) else block for block in blocks]
    if tests.entry_point is not None:
        defining = [block for block in blocks if _is_python(block) and _defines(block, tests.entry_point)]
        if defining:
            return _after_helpers(defining[-1], tests)
        together = "\n".join(blocks)
        if _is_python(together) and _defines(together, tests.entry_point):
            return _after_helpers(together, tests)
        if tests.prompt:
            for body in (blocks[-1], textwrap.indent(blocks[-1], "    ")):
                if _is_python(tests.prompt + body):
                    return tests.prompt + body
        return None
    python = [block for block in blocks if _is_python(block)]
    if not python:
        return None
    # Without a name to look for: a model often writes the program, then an example of its use.
    functions = [block for block in python if re.search(r"^(?:async )?(?:def|class) ", block, re.MULTILINE)]
    return (functions or python)[-1]


def _after_helpers(program: str, tests: CodeTests) -> str:
    """The program behind the imports and helpers that the prompt begins with."""
    return f"{tests.setup}\n{program}" if tests.prompt and tests.setup else program


def _longest_python(before: str, text: str) -> str | None:
    """`before` and the most lines of `text` that are Python together; None where not even one line is."""
    lines = text.split("\n")
    for cut in range(len(lines), max(0, len(lines) - _TRIED_LINES), -1):
        tried = before + "\n".join(lines[:cut])
        if "\n".join(lines[:cut]).strip() and _is_python(tried):
            return tried
    return None


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's stray backslash is no concern of the user
            compile(text, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def _defines(text: str, name: str | None) -> bool:
    """Whether the text has a line that defines the name."""
    if name is None:
        return False
    quoted = re.escape(name)
    return (
        re.search(rf"^[ \t]*(?:(?:async )?def {quoted}\b|class {quoted}\b|{quoted}\s*=)", text, re.MULTILINE)
        is not None
    )
