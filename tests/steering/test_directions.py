"""Directions and gates do what they are fitted for, on pairs that they were not fitted to."""

import pytest
import torch

from pts.calibration.settings import Directions, Setting
from pts.errors import ConfigError, DataError
from pts.steering.directions import (
    METHODS,
    NORM_CAP,
    PAIR_METHODS,
    ROLLOUT_METHODS,
    preference_direction,
    preference_shift,
    preference_vectors,
)
from pts.steering.evidence import direction_evidence, gate_evidence
from pts.steering.fitting_data import FittingData
from pts.steering.gates import GATES
from pts.steering.harvest import harvest
from pts.steering.pairs import Choice, Pair, split_problems
from tests.policies.tiny import tiny_model

LAYER = 0


def pairs(count=180):
    """One better and one worse token throughout, after prefixes at random; a pivot always follows token 7."""
    rng = torch.Generator().manual_seed(1)
    made = []
    for index in range(count):
        tokens = tuple(int(t) for t in torch.randint(8, 37, (6 + index % 5,), generator=rng))
        better, worse = Choice(3, "b", 0.4, 0.9, 20), Choice(5, "w", 0.4, 0.2, 20)
        made.append(
            Pair(
                index,
                f"p{index // 3}",
                tokens[:3],
                (*tokens[3:], 7),
                better,
                worse,
                index % 2 == 0,
                0.5,
                0.4,
                "",
                "",
            )
        )
    return made


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    model = tiny_model("qwen3").model
    every = pairs()
    harvested = harvest(model, every, tmp_path_factory.mktemp("harvest"))
    fitted, held_out = split_problems(every, 0.3, 0)
    return FittingData(model, fitted, harvested), FittingData(model, held_out, harvested)


def test_the_split_is_by_problem(split):
    fitted, held_out = ({pair.problem_id for pair in data.pairs} for data in split)
    assert not fitted & held_out
    assert len(fitted) + len(held_out) == 60


@pytest.mark.parametrize("method", PAIR_METHODS)
def test_every_method_gives_a_unit_vector_and_leaves_no_hook(method, split):
    direction = METHODS[method](split[0], LAYER)
    assert direction.shape == (32,)
    assert float(direction.norm()) == pytest.approx(1.0, abs=1e-5)
    assert not any(m._forward_hooks for m in split[0].model.modules())


@pytest.mark.parametrize("method", ["preference", "gradient"])
def test_fitted_methods_raise_the_better_token_on_held_out_pairs(method, split):
    fitted, held_out = split
    direction = METHODS[method](fitted, LAYER)
    size = NORM_CAP * fitted.norm(LAYER)
    shifts = preference_shift(held_out, {LAYER: direction * size})
    random = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(0)), dim=0)
    assert float((shifts > 0).float().mean()) > 0.9
    assert shifts.mean() > 3 * abs(preference_shift(held_out, {LAYER: random * size}).mean())
    assert preference_shift(held_out, {LAYER: -direction * size}).mean() < 0


def test_the_gradient_is_that_of_the_shift(split):
    """A small step along it shifts by its norm: checked against finite differences of the whole model."""
    fitted, _ = split
    direction = METHODS["gradient"](fitted, LAYER)
    small = 1e-2
    along = preference_shift(fitted, {LAYER: direction * small}).mean()
    others = torch.nn.functional.normalize(
        torch.randn(20, 32, generator=torch.Generator().manual_seed(2)), dim=1
    )
    assert all(preference_shift(fitted, {LAYER: other * small}).mean() < along for other in others)


def test_simple_methods_are_their_formulas(split):
    fitted, _ = split
    here = fitted.activations(LAYER)
    taken = torch.tensor([pair.taken_better for pair in fitted.pairs])
    expected = {
        "contrast": (here.better - here.worse).mean(0),
        "decision": here.before[taken].mean(0) - here.before[~taken].mean(0),
    }
    for method, vector in expected.items():
        torch.testing.assert_close(METHODS[method](fitted, LAYER), vector / vector.norm())
    contrasts = here.better - here.worse
    first = METHODS["pca"](fitted, LAYER)
    assert float((contrasts @ first).pow(2).sum()) == pytest.approx(
        float(torch.linalg.svdvals(contrasts)[0]) ** 2, rel=1e-4
    )
    assert float(first @ contrasts.mean(0)) > 0


def test_vectors_of_several_layers_do_more_together_and_keep_their_caps(split):
    data, judged = split
    assert torch.allclose(
        preference_vectors(data, (LAYER,))[LAYER] / preference_vectors(data, (LAYER,))[LAYER].norm(),
        preference_direction(data, LAYER),
    )
    vectors = preference_vectors(data, (0, 1))
    for layer, vector in vectors.items():
        assert 0 < float(vector.norm()) <= NORM_CAP / 2 * data.norm(layer) * (1 + 1e-5)

    def shift(added):
        with torch.no_grad():
            batches = [batch for step in judged.steps() for batch in step]
            moved = [judged.preference(batch, added) - judged.preference(batch) for batch in batches]
        return float(torch.cat(moved).mean())

    assert shift(vectors) > max(shift({layer: vector}) for layer, vector in vectors.items()) > 0


def test_a_setting_of_several_layers_keeps_their_proportions(split):
    data, _ = split
    given = {0: torch.ones(32) * data.norm(0) / 32**0.5, 1: torch.ones(32) * data.norm(1) / 32**0.5 / 2}
    directions = Directions({"all": data}, data, together={"both": lambda _: given})
    first, second = directions.interventions(Setting("all", "both", 1, -0.4, "always"))
    assert (first.layer, second.layer) == (0, 1)
    # Norms of 1 and 1/2 of the mean: two thirds of the strength are the first's.
    torch.testing.assert_close(first.vector, -0.4 * given[0] * 2 / 3)
    torch.testing.assert_close(second.vector, -0.4 * given[1] * 2 / 3)
    (one,) = directions.interventions(Setting("all", "random-0", 1, 0.4, "always"))
    assert float(one.vector.norm()) == pytest.approx(0.4 * data.norm(1), rel=1e-4)


@pytest.mark.parametrize("method", ROLLOUT_METHODS)
def test_methods_of_the_journal_need_it(method, split):
    with pytest.raises(ConfigError, match="a run's graded rollouts, and there are pairs alone"):
        METHODS[method](split[0], LAYER)


def test_decision_needs_both_kinds(split):
    one_kind = FittingData(split[0].model, [p for p in split[0].pairs if p.taken_better], split[0].harvest)
    with pytest.raises(DataError, match="both kinds"):
        METHODS["decision"](one_kind, LAYER)


def test_gates_find_the_positions_they_were_fitted_to(split):
    fitted, held_out = split
    here = held_out.activations(LAYER)
    probe = GATES["probe"](fitted, LAYER)
    assert ((here.before @ probe.weight) > probe.threshold).float().mean() > 0.75
    assert ((here.ordinary @ probe.weight) > probe.threshold).float().mean() < 0.25
    assert gate_evidence(held_out, probe, LAYER)["gate_auc"] > 0.85
    assert GATES["tokens"](fitted, LAYER).token_ids == (7,)
    assert GATES["entropy"](fitted, LAYER).threshold > 0
    assert GATES["always"](fitted, LAYER).kind == "always"


def test_evidence_travels_in_numbers(split):
    fitted, held_out = split
    direction = METHODS["preference"](fitted, LAYER)
    added = {LAYER: direction * 0.4 * fitted.norm(LAYER)}
    evidence = direction_evidence(fitted, held_out, "preference", LAYER, added)
    assert evidence["pairs"] == len(fitted.pairs)
    assert evidence["held_out_pairs"] == len(held_out.pairs)
    assert evidence["shift"] > 0
    assert 0.5 < evidence["halves_cosine"] <= 1
