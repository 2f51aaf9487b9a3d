"""Which lines a table has."""

import pytest

from pts.errors import ConfigError
from pts.evaluation.systems import System, compared, plan_systems


def names(*arguments, **more):
    return [system.name for system in plan_systems(*arguments, **more)]


def test_nothing_is_added_where_nothing_is_wanted():
    assert names(["full", "budget:64"], False, False, 96) == ["full", "budget:64"]
    assert names(["full"], True, False, 96) == ["full", "full + vectors"]


def test_baselines_make_a_frontier_and_controls():
    found = names(["auto", "budget:12"], True, True, 96)
    assert found[:4] == ["auto", "auto + vectors", "budget:12", "budget:12 + vectors"]
    for budget in (12, 24, 36, 48, 72):
        assert found.count(f"budget:{budget}") == 1
        assert f"budget:{budget} + vectors" in found
    assert {"full", "nothink", "full + vectors", "nothink + vectors"} <= set(found)
    assert {"auto (random router)", "auto (random router) + vectors"} <= set(found)
    assert not any("random direction" in name for name in found)
    assert found.index("auto + vectors") < found.index("auto (random router) + vectors")
    assert len(set(found)) == len(found)


def test_a_sets_random_directions_join_full_alone():
    systems = plan_systems(["auto"], True, True, 96, controls=3)
    controls = [system for system in systems if system.control is not None]
    assert [system.name for system in controls] == [f"full + random direction {number}" for number in (1, 2, 3)]
    assert not any(system.asked for system in controls)
    assert [system.name for system in systems if system.control is None] == names(["auto"], True, True, 96)
    assert compared(systems) == [system for system in systems if system.control is None]
    assert names(["full"], True, False, 96, controls=3) == ["full", "full + vectors"]
    assert names(["full"], False, True, 96, controls=3) == names(["full"], False, True, 96)


def test_what_was_asked_for_is_told_from_what_was_added():
    asked = {system.name for system in plan_systems(["auto", "full"], True, True, 96) if system.asked}
    assert asked == {"auto", "auto + vectors", "full", "full + vectors"}


def test_fixed_budgets():
    assert [
        System(name).is_fixed for name in ("full", "nothink", "budget:9", "min:9", "auto", "best-of:4")
    ] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("strategies", "sweep", "said"),
    [([], (0.5,), "no strategy"), (["full", "full"], (0.5,), "named twice"), (["full"], (1.5,), "1.5 of")],
)
def test_what_cannot_be(strategies, sweep, said):
    with pytest.raises(ConfigError, match=said):
        plan_systems(strategies, False, True, 96, sweep)
