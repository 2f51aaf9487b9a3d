"""One thread for every test and what it starts: the models are tiny, and their steps too short to share."""

import logging
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


_LOG = logging.getLogger("pts")
_FIRST = _LOG.handlers[:], _LOG.level, _LOG.propagate


@pytest.fixture(autouse=True)
def own_log():
    """A command sends the log to its own stderr; every test hears it, whoever ran a command before."""
    _LOG.handlers[:], _LOG.level, _LOG.propagate = _FIRST
    yield
    _LOG.handlers[:], _LOG.level, _LOG.propagate = _FIRST
