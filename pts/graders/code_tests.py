"""The tests of a problem whose answer is a program, and the text that a problem carries them in."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from pts.errors import GraderError

_DEF = "def "


@dataclass(frozen=True, slots=True)
class Example:
    """What a script reads on its standard input, and what it must print."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class CodeTests:
    """A problem's own tests: Python code, or examples of input and output.

    `prompt` is the beginning of a program that the completion continues (HumanEval), `setup` runs before the
    tests, `entry_point` names the function that they are about.
    """

    tests: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    prompt: str = ""
    setup: str = ""
    entry_point: str | None = None

    def to_answer(self) -> str:
        """The tests as the text of a reference answer."""
        return json.dumps({name: value for name, value in asdict(self).items() if value})

    @classmethod
    def from_answer(cls, answer: str) -> CodeTests:
        """The tests that a reference answer holds. Raises GraderError for other text."""
        try:
            fields = json.loads(answer)
            tests = cls(
                tuple(str(test) for test in fields.get("tests", ())),
                tuple(Example(str(one["input"]), str(one["output"])) for one in fields.get("examples", ())),
                str(fields.get("prompt", "")),
                str(fields.get("setup", "")),
                fields.get("entry_point"),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise GraderError(
                f"The reference answer {_short(answer)} has no tests: the grader code needs "
                "a data set with unit tests (fields test and entry_point, test_list, or "
                "tests)."
            ) from error
        tests.check()
        return tests

    def check(self) -> None:
        """Raises GraderError where there is nothing that could fail, or a test is no Python."""
        if not self.tests and not self.examples:
            raise GraderError("A problem has no tests; remove it, or use another grader.")
        for text in (self.setup, *self.tests):
            try:
                ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise GraderError(f"The test {_short(text)} is not Python ({error}).") from error
        if self.tests and not any(map(_can_fail, self.tests)):
            raise GraderError(f"The test {_short(self.tests[0])} asserts nothing, so every program passes it.")
        idle = _never_called("\n".join((self.setup, *self.tests)), self.entry_point)
        if idle is not None:
            raise GraderError(
                f"The function {idle} of the tests needs arguments, and nothing calls it: tests are functions "
                "without arguments, or check(candidate) beside a field entry_point. Fixtures of pytest are not "
                "supported."
            )


def row_tests(row: Mapping[str, object]) -> CodeTests | None:
    """The tests that a row of a data set holds, by the field names of the known ones; None where it has none.

    HumanEval and its kin (`test`, `entry_point`, `prompt`), MBPP (`test_list`, `test_setup_code`,
    `test_imports`), and plain `tests`: Python code, a list of it, or examples (`{"input": …, "output": …}`, or
    lists under `inputs` and `outputs`, as APPS and CodeContests have them). Raises GraderError for a field that
    has none of these shapes.
    """
    entry_point = _text(row.get("entry_point")) or None
    if entry_point and _text(row.get("test")):
        prompt = _text(row.get("prompt"))
        helpers = prompt[: prompt.rfind(f"{_DEF}{entry_point}")] if f"{_DEF}{entry_point}" in prompt else ""
        return CodeTests((_text(row.get("test")),), (), prompt, _parsing(helpers), entry_point)
    for field in ("test_list", "tests", "unit_tests", "test_cases", "test", "input_output", "public_tests"):
        value = row.get(field)
        if value is None or value == "" or value == []:
            continue
        found = _read(value, field)
        setup = "\n".join([_lines(row.get("test_imports")), _text(row.get("test_setup_code"))]).strip("\n")
        function = entry_point or _text(row.get("fn_name")) or found.entry_point
        return CodeTests(found.tests, found.examples, "", setup, function)
    return None


def _read(value: object, field: str) -> CodeTests:
    """Tests in any of the plain shapes."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with suppress(ValueError):  # Python that begins with a list
            value = json.loads(value)
        if isinstance(value, str):  # the list as Python writes it, in a cell of a table
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                value = ast.literal_eval(value.strip())
    if isinstance(value, str):
        return CodeTests((value,))
    if isinstance(value, Mapping):
        return _columns(value, field)
    if isinstance(value, Sequence) and all(isinstance(one, str) for one in value):
        return CodeTests(tuple(value))
    if isinstance(value, Sequence) and all(isinstance(one, Mapping) for one in value):
        inputs = [one.get("input", one.get("stdin")) for one in value]
        outputs = [one.get("output", one.get("expected_output", one.get("stdout"))) for one in value]
        return _columns({"inputs": inputs, "outputs": outputs}, field)
    raise GraderError(f"The field {field} holds {_short(str(value))}, which cannot be read as tests.")


def _columns(value: Mapping[object, object], field: str) -> CodeTests:
    """Examples given as a list of inputs and a list of outputs; calls where a function is named (APPS)."""
    inputs = _listed(value.get("inputs", value.get("input")))
    outputs = _listed(value.get("outputs", value.get("output")))
    if not inputs or len(inputs) != len(outputs) or None in (*inputs, *outputs):
        raise GraderError(
            f"The field {field} holds {_short(str(value))}; examples need an input and an output each."
        )
    function = value.get("fn_name")
    pairs = list(zip(inputs, outputs, strict=True))
    if function:
        calls = [f"assert {_callable(str(function))}(*{given!r}) == {_first(out)!r}" for given, out in pairs]
        return CodeTests(tuple(calls), entry_point=None)
    return CodeTests((), tuple(Example(_joined(given), _joined(out)) for given, out in pairs))


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _callable(function: str) -> str:
    """The function, or the method of LeetCode's class Solution where the program defines that."""
    return f"(getattr(Solution(), {function!r}) if 'Solution' in globals() else {function})"


def _first(output: object) -> object:
    """APPS wraps a function's result in a list of one."""
    return output[0] if isinstance(output, list) and len(output) == 1 else output


def _joined(value: object) -> str:
    return "\n".join(str(line) for line in value) if isinstance(value, list) else str(value)


def _can_fail(test: str) -> bool:
    """Whether a test holds an assertion, of any kind, or raises."""
    for node in ast.walk(ast.parse(test)):
        if isinstance(node, (ast.Assert, ast.Raise)):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name.lower().startswith(("assert", "check", "fail")):
                return True
    return False


def _never_called(code: str, entry_point: str | None) -> str | None:
    """A function or method of the tests that looks like a test, but that no one can call; None without one."""
    tree = ast.parse(code)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {"check"} if entry_point else set()
    methods = [one for node in tree.body if isinstance(node, ast.ClassDef) for one in node.body]
    for node in (*tree.body, *methods):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name in used:
            continue
        needed = len(node.args.args) - len(node.args.defaults) - (node in methods)
        if needed > 0 and (node.name == "check" or node.name.startswith("test")):
            return node.name
    return None


def _parsing(code: str) -> str:
    """The code, or its part up to the last line with which it is Python."""
    lines = code.splitlines()
    while lines:
        try:
            ast.parse("\n".join(lines))
            return "\n".join(lines)
        except (SyntaxError, ValueError):
            lines.pop()
    return ""


def _lines(value: object) -> str:
    return "\n".join(str(line) for line in value) if isinstance(value, list) else _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
