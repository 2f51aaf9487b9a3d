"""What the demo brings: a model, a data set and a grader, registered as `demo` like any other."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import cast

from pts.demo.expressions import LEVELS, Split
from pts.demo.grader import DemoGrader, stated_number
from pts.demo.problems import demo_problems
from pts.demo.vocabulary import THINK_END
from pts.demo.writer import BUDGET
from pts.graders.registered import RegisteredGrader
from pts.records import Problem
from pts.registered import RegisteredDataset, RegisteredModel


def demo_model_dir() -> Path:
    """The directory of the bundled weights, tokenizer and model card, as transformers loads it."""
    return Path(str(files("pts.demo") / "weights"))


def _draw(split: str, count: int, seed: int, levels: tuple[int, ...] | None) -> list[Problem]:
    # demo_problems refuses an unknown split
    return demo_problems(cast(Split, split), count, seed, LEVELS if levels is None else levels)


MODEL = RegisteredModel(demo_model_dir, BUDGET)
DATASET = RegisteredDataset(
    draw=_draw, search_split="train", fit_split="calibrate", test_split="test", count=50, grader="demo"
)
GRADER = RegisteredGrader(DemoGrader, THINK_END, lambda text: stated_number(text) is not None)
