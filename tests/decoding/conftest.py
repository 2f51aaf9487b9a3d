"""The demo model, loaded once, and a tokenizer with a template of a thinking model."""

import pytest

from pts.models.load import load_model
from pts.models.options import ModelOptions


@pytest.fixture(scope="session")
def demo():
    return load_model(ModelOptions(spec="demo"))
