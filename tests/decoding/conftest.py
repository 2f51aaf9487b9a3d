"""The demo model, loaded once, and a tokenizer with a template of a thinking model."""

import pytest

from pts.models.load import load_model
from pts.models.options import ModelOptions


@pytest.fixture(scope="session")
def demo():
    return load_model(ModelOptions(spec="demo"))


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A directory with the demo model, whose residual stream can stand for a text."""
    folder = tmp_path_factory.mktemp("encoder")
    demo = load_model(ModelOptions(spec="demo"))
    demo.model.save_pretrained(folder)
    demo.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def classifier(encoder, tmp_path_factory):
    """A directory with a classifier of short and long sums, LOW and HIGH, trained and saved by its own API.

    The tests that ask for it are skipped where adaptive-classifier is missing.
    """
    package = pytest.importorskip("adaptive_classifier")
    short = [f"What is {first} + {second} ?" for first in range(2, 6) for second in range(2, 6)]
    long = [f"What is {number} + 8 - 9 + 17 - 6 ?" for number in range(20, 36)]
    trained = package.AdaptiveClassifier(str(encoder), device="cpu", use_onnx=False)
    trained.add_examples(short + long, ["LOW"] * len(short) + ["HIGH"] * len(long))
    folder = tmp_path_factory.mktemp("classifier") / "saved"
    trained.save(str(folder), include_onnx=False)
    return folder
