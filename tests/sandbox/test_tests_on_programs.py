# ruff: noqa: E501 (programs, a string each)
"""What the tests of data sets do with a program that lives in another process."""

import sys

import pytest

from pts.sandbox.run import Suite, run_tests

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="resource limits are needed")


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(l):\n    l.sort()", "l = [3, 1, 2]\nf(l)\nassert l == [1, 2, 3]"),
        ("def f(d):\n    d['a'] = [1]", "d = {}\nf(d)\nassert d == {'a': [1]}"),
        ("def f(m):\n    m[0][0] = 9", "row = [1]\nm = [row]\nf(m)\nassert row == [9]"),
        ("def f(s):\n    s.add((1, 2))", "s = set()\nf(s)\nassert s == {(1, 2)}"),
        ("def f(n):\n    yield from range(n)", "assert list(f(1000)) == list(range(1000))"),
        ("def f(n):\n    yield from range(n)", "assert next(f(3)) == 0"),
        ("def f(g, xs):\n    return [g(x) for x in xs]", "assert f(lambda x: x * x, [1, 2]) == [1, 4]"),
        ("def f(g, x):\n    return g(x)", "assert f(str, 5) == '5'"),
        ("def f(it):\n    return sum(it)", "assert f(x * x for x in range(4)) == 14"),
        ("def f(x):\n    raise ValueError('no')",
         "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False"),
        ("class Pair:\n    def __init__(self, a):\n        self.a = a\ndef f(ps):\n    return sum(p.a for p in ps)",
         "p = Pair(1)\np.a = 4\nassert f([p, Pair(2)]) == 6 and p.a == 4"),
        ("def f(node):\n    return node.value + len(node.children)",
         "class Node:\n    def __init__(self, value):\n        self.value, self.children = value, [1]\n"
         "assert f(Node(2)) == 3"),
        ("from collections import Counter\ndef f(s):\n    return Counter(s)", "assert f('aab') == {'a': 2, 'b': 1}"),
        ("from fractions import Fraction\ndef f():\n    return Fraction(1, 3)",
         "from fractions import Fraction\nassert f() == Fraction(1, 3)"),
        ("def f():\n    return (1, [2.5, None, True], {'k': b'x'}, 2 ** 80, {3}, 1j)",
         "assert f() == (1, [2.5, None, True], {'k': b'x'}, 2 ** 80, {3}, 1j)"),
        ("def f():\n    return float('nan')", "assert f() != f()"),
        ("def f():\n    return '\\ud83d'", "assert f() == '\\ud83d'"),
        ("import math\ndef f(x):\n    return math.sqrt(x)", "assert math.isclose(f(2), 1.41421356, rel_tol=1e-6)"),
        ("import numpy as np\ndef f(x):\n    return np.cumsum(x)", "assert f([1, 2]) == [1, 3]"),
        ("import threading\ndef f():\n    found = []\n    t = threading.Thread(target=found.append, args=(2,))\n"
         "    t.start()\n    t.join()\n    return found", "assert f() == [2]"),
        ("import asyncio\nasync def g():\n    return 3\ndef f():\n    return asyncio.run(g())", "assert f() == 3"),
        ("open('note', 'w').write('hi')\ndef f():\n    return open('note').read()", "assert f() == 'hi'"),
        ("import tempfile\ndef f():\n    with tempfile.TemporaryFile('w+') as file:\n        return file.write('abc')",
         "assert f() == 3"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f():\n    return P(1)",
         "assert f() == P(1) and f().x == 1"),
        ("def f(x):\n    return x + 1",
         "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(1), 2)"),
        ("def f(x):\n    return x + 1", "def test_f():\n    assert f(1) == 2"),
        ("def f(x):\n    return x + 1", "class TestF:\n    def setup_method(self):\n        self.two = 2\n"
         "    def test_f(self):\n        assert f(1) == self.two"),
        ("def f(x):\n    return x + 1",
         "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(1), 2)\nunittest.main()"),
        ("def f(x):\n    return x + 1", "if __name__ == '__main__':\n    assert f(1) == 2\n    print('fine')"),
        ("class Bad(ValueError):\n    pass\ndef f(x):\n    raise Bad('no')",
         "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False"),
        ("def f(x):\n    raise ValueError", "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False"),
        ("def f(x):\n    return x + 1", "if f(1) != 2:\n    raise AssertionError('not 2')"),
        ("def f(x):\n    raise SystemExit(3)",
         "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        with self.assertRaises(SystemExit):\n            f(1)"),
        ("def sum(a, b):\n    return 6", "assert sum(10, 15) == 6"),
        ("def max(a):\n    return a\ndef f(a):\n    return max(a)", "assert max(f(1), f(2)) == 2"),
        ("def f(x):\n    return x\nif __name__ == '__main__':\n    1 / 0", "assert f(1) == 1"),
    ],
)  # fmt: skip
def test_tests_see_a_program_as_if_it_were_theirs(program: str, test: str) -> None:
    verdict = run_tests(program, Suite((test,)))
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize(
    "test",
    [
        "def test_f():\n    assert f(1) == 3",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(1), 3)",
        "assert g(1) == 2",
        "l = [1]\nf(l)\nassert l == [2]",
        "class TestF:\n    def test_f(self):\n        assert f(1) == 3",
        "async def test_f():\n    assert f(1) == 3",
        "if __name__ == '__main__':\n    assert f(1) == 3",
        "def check(candidate):\n    assert candidate(1) == 3",
        "def test_f(given, wanted):\n    assert f(given) == wanted",
        "def test_f():\n    for given in []:\n        assert f(given) == 3\nassert f(1) == 2",
        "import unittest\nclass T(unittest.TestCase):\n    @unittest.skip('no')\n    def test_a(self):\n        self.assertEqual(f(1), 3)",
    ],
)
def test_every_kind_of_test_can_fail(test: str) -> None:
    assert not run_tests("def f(x):\n    return 2", Suite((test,))).passed


def test_objects_of_the_judge_are_closed_to_the_program() -> None:
    # A function's globals, a frame, a class that the program would build in the judge: none may be reached.
    for body in (
        "return g.__globals__",
        "return it.gi_frame.f_globals",
        "return type(g)",
        "return it._peer.ask('call', type, 'X', (), {})",
    ):
        program = f"def f(g, it):\n    try:\n        {body}\n    except Exception:\n        return 'closed'"
        found = run_tests(program, Suite(("assert f(print, (x for x in [1])) == 'closed'",)))
        assert found.passed or body == "return type(g)"
