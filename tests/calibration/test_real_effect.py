"""What benchmarks/real_effect.py makes of its measurements, by numbers worked out by hand."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from pts.calibration.settings import Setting
from pts.evaluation.outcomes import Outcomes

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from effect_measured import Measured
from real_effect import read_options, report

OPTIONS = Namespace(methods=["preference"], seed=0, samples=2, test_problems=4, controls_settings="chosen")


def outcomes(samples, *successes):
    return Outcomes.of(samples, successes, (10,) * len(successes), (0,) * len(successes))


FULL = Measured(outcomes(2, 0, 1, 0, 1), {"preference": outcomes(2, 2, 2, 1, 1)})
RANKED = Measured(
    outcomes(1, 0, 1, 0, 0),
    {
        "preference": outcomes(1, 1, 1, 0, 0),
        "random-0": outcomes(1, 0, 1, 1, 0),
        "random-1": outcomes(1, 0, 1, 0, 0),
    },
)


def test_an_effect_is_of_all_samples_and_its_rank_of_those_that_its_controls_have(capsys):
    chosen = {name: Setting("all", name, 1, 0.4, "always") for name in RANKED.steered}
    report(OPTIONS, chosen, "preference", FULL, RANKED, 57)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    # Differences 1, 1/2, 1/2 and 0 on two samples; 1, 0, 0 and 0 on one, where random-0 has a 1 as well.
    assert (found["effect"], found["effect_ranked"], found["random_max"]) == (0.5, 0.25, 0.25)
    assert (found["rank_of_controls"], found["controls"], found["p_value"]) == (2, 2, 0.6667)
    assert (found["samples"], found["control_samples"]) == (2, 1)
    # Standard errors √(1/24) and 1/4: the first, clear of zero, asks for more than the second above random-0.
    assert found["detectable"] == pytest.approx((1.96 + 0.8416) * 24**-0.5, abs=1e-4)
    assert found["headroom_online"] is None
    assert found["shuffled_max"] is None


def test_an_effect_without_random_directions_has_no_rank(capsys):
    chosen = {name: Setting("all", name, 1, 0.4, "always") for name in FULL.steered}
    report(OPTIONS, chosen, "preference", FULL, FULL, 57)
    *_, said, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert "no random directions" in said
    assert (found["rank_of_controls"], found["p_value"], found["random_max"]) == (None, None, None)
    assert (found["effect"], found["controls"]) == (0.5, 0)
    assert found["detectable"] == pytest.approx((1.96 + 0.8416) * 24**-0.5, abs=1e-4)


@pytest.mark.parametrize("samples", ["0", "5"])
def test_controls_cannot_have_more_samples_than_the_vector_or_none(samples, monkeypatch, capsys):
    command = ["real_effect", "demo", "demo", "--output", "x", "--control-samples", samples]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        read_options()
    assert f"--control-samples is {samples}; choose from 1 to 4 (--samples)." in capsys.readouterr().err
