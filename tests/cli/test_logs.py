"""What the libraries may say on stderr."""

import pytest
from transformers.utils import logging as of_transformers

from pts.cli.logs import log_to_stderr

VARIABLE = "TRANSFORMERS_VERBOSITY"


@pytest.fixture
def chatty(monkeypatch):
    """Transformers, imported, as it reports warnings."""
    before = of_transformers.get_verbosity()
    of_transformers.set_verbosity_warning()
    monkeypatch.setenv(VARIABLE, "warning")
    yield monkeypatch
    of_transformers.set_verbosity(before)


def test_transformers_is_silenced_where_a_command_had_imported_it(chatty):
    log_to_stderr(0, False)
    assert of_transformers.get_verbosity() == of_transformers.WARNING  # As its own variable says.
    chatty.delenv(VARIABLE)
    log_to_stderr(0, False)
    assert of_transformers.get_verbosity() == of_transformers.ERROR
