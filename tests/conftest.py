"""One thread for every test and what it starts: the models are tiny, and their steps too short to share."""

import logging
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_log():
    """A command sends the log to its own stderr; the next test hears it again."""
    log = logging.getLogger("pts")
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before
