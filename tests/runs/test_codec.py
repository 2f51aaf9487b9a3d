import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pts.runs.codec import ShapeError, from_json, to_json


@dataclass(frozen=True, slots=True)
class Leaf:
    number: float
    pair: tuple[int, str] = (0, "")


@dataclass(frozen=True, slots=True)
class Tree:
    name: str
    kind: Literal["a", "b"]
    leaves: tuple[Leaf, ...]
    limit: int | None = None
    folder: Path | None = None


def test_a_nested_value_comes_back_equal_through_text():
    leaves = (Leaf(0.1 + 0.2, (-1, "«é\n»")), Leaf(1e-320), Leaf(-0.0, (2**70, "")))
    for tree in (Tree("x", "b", leaves, 3, Path("p/q")), Tree("", "a", ())):
        assert from_json(Tree, json.loads(json.dumps(to_json(tree)))) == tree


def test_not_a_number_is_null_in_json_and_comes_back():
    assert to_json(Leaf(math.nan)) == {"number": None, "pair": [0, ""]}
    assert math.isnan(from_json(Leaf, {"number": None}).number)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "x", "kind": "a", "leaves": [], "colour": 1}, "no such key: colour; the keys are name, kind"),
        ({"name": "x", "kind": "a"}, "missing: leaves"),
        ({"name": "x", "kind": "c", "leaves": []}, "kind: wanted 'a' or 'b', found 'c'"),
        (
            {"name": "x", "kind": "a", "leaves": [{"number": "1"}]},
            r"leaves\[0\].number: wanted a number, found '1'",
        ),
        ({"name": "x", "kind": "a", "leaves": [{"number": 1, "pair": [1]}]}, "wanted a list of 2"),
        ({"name": "x", "kind": "a", "leaves": [], "limit": True}, "limit: wanted a whole number, found True"),
        ([], "wanted an object"),
    ],
)
def test_a_value_of_another_shape_is_refused_with_its_place(data, said):
    with pytest.raises(ShapeError, match=said):
        from_json(Tree, data)
