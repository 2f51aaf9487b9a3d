"""The tests' own code, changed so that they say which of their assertions ran, and what they use by name."""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

_CHECKED = "_assertion_is_next"
_ASSERTS = ("assert", "fail", "raises")

Body = list[ast.stmt]


@dataclass(slots=True)
class Assertions:
    """The assertions of some tests: which of their test functions hold any, and which of those ran.

    An assertion outside of functions named `test…` belongs to the name "".
    """

    held: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)

    def compiled(self, source: str, name: str) -> CodeType:
        """The code of a test; run it in a namespace with `names`."""
        tree = _Marking(self.held).visit(ast.parse(source))
        return compile(ast.fix_missing_locations(tree), name, "exec")

    @property
    def names(self) -> dict[str, Callable[[str], None]]:
        """What the compiled code calls."""
        return {_CHECKED: self.ran.add}

    def require(self) -> None:
        """Raises AssertionError where no assertion ran, or a test function never came to its own."""
        idle = sorted(self.held - self.ran - {""})
        if idle:
            raise AssertionError(f"the test {idle[0]} was not run, or came to no assertion")
        if not self.ran:
            raise AssertionError("the tests came to no assertion")


class _Marking(ast.NodeTransformer):
    """Puts a call before each assertion. What is guarded for `__main__` runs; runners of tests are left out."""

    def __init__(self, held: set[str]) -> None:
        self._held = held
        self._test = ""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        outer, self._test = self._test, self._test or (node.name if node.name.startswith("test") else "")
        self.generic_visit(node)
        self._test = outer
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Assert(self, node: ast.Assert) -> Body:
        return self._marked(node)

    def visit_Expr(self, node: ast.Expr) -> Body | ast.stmt:
        if _runs_tests(node.value):
            return ast.Pass()
        return self._marked(node) if _asserts(node.value) else node

    def visit_With(self, node: ast.With | ast.AsyncWith) -> Body | ast.AST:
        self.generic_visit(node)
        return self._marked(node) if any(_asserts(item.context_expr) for item in node.items) else node

    visit_AsyncWith = visit_With

    def visit_If(self, node: ast.If) -> Body | ast.AST:
        fails = _fails(node.body, node.orelse)
        self.generic_visit(node)
        if _is_main_guard(node.test):
            return node.body
        return self._marked(node) if fails else node

    def visit_Try(self, node: ast.Try) -> Body | ast.AST:
        fails = _fails(node.body, node.orelse, node.finalbody, *(one.body for one in node.handlers))
        self.generic_visit(node)
        return self._marked(node) if fails else node

    def _marked(self, node: ast.stmt) -> Body:
        self._held.add(self._test)
        call = ast.Call(ast.Name(_CHECKED, ast.Load()), [ast.Constant(self._test)], [])
        return [ast.copy_location(ast.Expr(call), node), node]


def _asserts(call: ast.expr) -> bool:
    """Whether this is a call of something like `self.assertEqual` or `pytest.raises`."""
    return isinstance(call, ast.Call) and _name(call.func).startswith(_ASSERTS)


def _runs_tests(value: ast.expr) -> bool:
    """Whether this is `unittest.main()` or its like, alone or for `sys.exit`."""
    if not isinstance(value, ast.Call):
        return False
    function = value.func
    if isinstance(function, ast.Attribute) and function.attr == "main":
        return _name(function.value) in ("unittest", "pytest")
    return _name(function) == "exit" and any(map(_runs_tests, value.args))


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_main_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and ast.unparse(test).replace('"', "'") == "__name__ == '__main__'"


def _fails(*bodies: Body) -> bool:
    """Whether one of the blocks is there to fail where it is reached, as `assert False` does."""
    return any(_is_failure(statement) for body in bodies for statement in body)


def _is_failure(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assert):
        return isinstance(statement.test, ast.Constant)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return _name(statement.value.func) == "fail"
    return isinstance(statement, ast.Raise)


def program_names(loaded: Mapping[Any, Any], sources: Iterable[str], entry_point: str | None) -> dict[str, Any]:
    """The names of a program that its tests see.

    Private ones are not among them, nor what would stand in for something that the tests use themselves: a
    built-in, where they use another name of the program too, and a module of the standard library.
    """
    names = {name: value for name, value in loaded.items() if isinstance(name, str) and name.isidentifier()}
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    used = {node.id for node in nodes if isinstance(node, ast.Name)} | {entry_point}
    tested = any(name in used and name not in vars(builtins) for name in names)
    modules = {module for node in nodes if (module := _module_of(node)) is not None}
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("__")
        and (name == entry_point or not ((tested and name in vars(builtins)) or name in modules))
    } | {name: importlib.import_module(name) for name in modules - {entry_point}}


def _module_of(node: ast.AST) -> str | None:
    """The module of the standard library that this is an attribute of, as in `math.isclose`."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return None
    name = node.value.id
    if name not in sys.stdlib_module_names or not hasattr(importlib.import_module(name), node.attr):
        return None
    return name
