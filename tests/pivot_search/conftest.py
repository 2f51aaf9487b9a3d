import pytest
from searched_chains import Searched, searched_in_range
from shapes import ChainShape


@pytest.fixture(scope="session")
def searched_chains() -> list[Searched]:
    """60 searched chains of 120 tokens whose prompts are in range."""
    return searched_in_range(ChainShape(), 60, seed=7)


@pytest.fixture(scope="session")
def searched_short_chains() -> list[Searched]:
    """120 searched chains of 35 tokens with some five forks, of which two thirds matter."""
    return searched_in_range(ChainShape(length=35, forks=0.14, indifferent=0.35), 120, seed=5)
