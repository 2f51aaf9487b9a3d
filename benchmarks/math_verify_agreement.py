"""How often the grader `math` gives the verdict that Math-Verify's own tests expect.

pip download --no-deps --no-binary :all: math-verify==0.9.0 && tar xf math_verify-0.9.0.tar.gz
python benchmarks/math_verify_agreement.py math_verify-0.9.0/tests
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from pts.graders import make_grader


def main(folder: Path) -> None:
    """Prints the agreement, and each pair with another verdict."""
    grade = make_grader("math")
    verdicts = [
        (gold, said, expected, grade(said, gold))
        for path in sorted(folder.glob("test_*.py"))
        for gold, said, expected in pairs(path)
    ]
    others = [verdict for verdict in verdicts if verdict[2] != verdict[3]]
    print(f"{len(verdicts) - len(others)} of {len(verdicts)} agree")
    for gold, said, expected, _ in others:
        print(f"reference {gold[-100:]!r}, completion {said[-100:]!r}: {expected} expected")


def pairs(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Reference, completion and expected verdict of the tests in a file that use the default settings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "parametrize":
            continue
        try:
            names, cases = (ast.literal_eval(argument) for argument in node.args[:2])
        except ValueError:
            continue
        fields = [name.strip() for name in names.split(",")] if isinstance(names, str) else []
        verdict = next((name for name in ("expected", "result") if name in fields), None)
        if verdict is None or not {"gold", "pred"} <= set(fields):
            continue
        for case in cases:
            given = dict(zip(fields, case, strict=True))
            if given.get("strict", True) and not given.get("allow_set_relation_comp", False):
                yield given["gold"], given["pred"], bool(given[verdict])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
