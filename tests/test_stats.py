import numpy as np
import pytest
from scipy import stats as sps

from pts import stats


@pytest.mark.parametrize(("n1", "n2", "margin"), [(8, 8, 0.2), (12, 7, 0.1), (10, 10, 0.5)])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_p_value_holds_its_level_everywhere_in_the_null(n1: int, n2: int, margin: float, level: float) -> None:
    p_values = np.array(
        [[stats.difference_p_value(a, n1, b, n2, margin) for b in range(n2 + 1)] for a in range(n1 + 1)]
    )
    rejected = p_values <= level
    assert rejected.any()
    for p1 in np.linspace(0, 1, 41):
        for p2 in np.linspace(max(0, p1 - margin), min(1, p1 + margin), 11):
            first = sps.binom.pmf(np.arange(n1 + 1), n1, p1)
            second = sps.binom.pmf(np.arange(n2 + 1), n2, p2)
            # 1% of the level allows for the grid of base rates.
            assert first @ rejected @ second <= level * 1.01


def test_p_value_is_the_same_whichever_side_is_larger() -> None:
    assert stats.difference_p_value(20, 24, 3, 30, 0.2) == pytest.approx(
        stats.difference_p_value(3, 30, 20, 24, 0.2)
    )


def test_p_value_is_one_within_the_margin_and_tiny_far_outside() -> None:
    assert stats.difference_p_value(12, 24, 10, 24, 0.2) == 1.0
    assert stats.difference_p_value(24, 24, 0, 24, 0.2) < 1e-9
    assert stats.difference_p_value(24, 24, 0, 24, 1.0) == 1.0


def test_score_table_agrees_with_the_constrained_likelihood() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n1, n2 = (int(n) for n in rng.integers(5, 60, 2))
        s1, s2 = int(rng.integers(0, n1 + 1)), int(rng.integers(0, n2 + 1))
        margin = float(rng.choice([0.05, 0.1, 0.3]))
        found = stats._constrained_base_rate(np.array([[s1 / n1]]), n1, np.array([[s2 / n2]]), n2, margin)
        grid = np.linspace(0, 1 - margin, 4001)
        likelihood = sps.binom.logpmf(s1, n1, np.clip(grid + margin, 0, 1)) + sps.binom.logpmf(s2, n2, grid)
        assert found[0, 0] == pytest.approx(grid[np.argmax(likelihood)], abs=2e-3)


def test_difference_interval_covers() -> None:
    rng = np.random.default_rng(1)
    for p1, p2 in [(0.9, 0.2), (0.5, 0.45), (0.98, 0.9)]:
        hits = 0
        for _ in range(600):
            low, high = stats.difference_interval(rng.binomial(24, p1), 24, rng.binomial(24, p2), 24, 0.95)
            hits += low <= p1 - p2 <= high
        # With true coverage 0.95 fewer than 0.92·600 hits come about once in 2,000 runs.
        assert hits >= 0.92 * 600


def test_difference_interval_needs_draws() -> None:
    with pytest.raises(ValueError, match="draws on both sides"):
        stats.difference_interval(0, 0, 1, 2, 0.95)


def test_proportion_interval_without_draws_is_everything() -> None:
    assert stats.proportion_interval(0, 0, 0.95) == (0.0, 1.0)
    low, high = stats.proportion_interval(0, 12, 0.8)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.1 ** (1 / 12))


def test_benjamini_hochberg_by_hand() -> None:
    assert stats.benjamini_hochberg([0.01, 0.04, 0.03, 1.0]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 1.0])
    assert stats.benjamini_hochberg([]) == []


@pytest.mark.parametrize(
    ("s1", "s2", "n", "margin"), [(38, 18, 72, 0.1), (58, 32, 72, 0.15), (17, 7, 32, 0.125)]
)
def test_a_finer_grid_of_base_rates_changes_a_p_value_by_two_hundredths_at_most(
    monkeypatch: pytest.MonkeyPatch, s1: int, s2: int, n: int, margin: float
) -> None:
    """The largest differences among 153 outcomes of the confirmation's looks."""
    coarse = stats.difference_p_value(s1, n, s2, n, margin)
    monkeypatch.setattr(stats, "NUISANCE_POINTS", 1601)
    assert coarse <= stats.difference_p_value(s1, n, s2, n, margin) <= 1.02 * coarse


def test_holm():
    assert stats.holm([0.02, 0.5, 0.001, 0.02, 0.9]) == pytest.approx([0.08, 1.0, 0.005, 0.08, 1.0])
    corrected = stats.holm([[0.01, float("nan")], [0.04, 0.03]])
    assert corrected == pytest.approx(np.array([[0.03, np.nan], [0.06, 0.06]]), nan_ok=True)
    assert stats.holm([]).shape == (0,)


def test_holm_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 40):
        family = np.round(rng.random(size) ** 2, 2)  # Some of them tie.
        assert stats.holm(family) == pytest.approx(multipletests(family, method="holm")[1], abs=1e-12)


def test_the_bootstrap_of_one_value_is_that_value():
    assert stats.bootstrap_mean_interval([0.25], 0.95, seed=0) == (0.25, 0.25)
