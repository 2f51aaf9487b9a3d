"""TRL's loss on our batches is AdaptThink's, and reading completions by length changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl")

from pts.demo.problems import demo_problems
from pts.graders import make_grader
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.records import Sampling
from pts.training.drawing import PolicyDrawing
from pts.training.fit import Order
from pts.training.modes import find_modes
from pts.training.objectives import AdaptThink
from pts.training.ratios import clipped_loss, ratios
from pts.training.reinforcement import ReinforcementPlan, grpo_config
from pts.training.samples import Asker
from pts.training.trainer import Learning, ModeTrainer, like_lengths

PLAN = ReinforcementPlan(
    steps=4,
    prompts=2,
    samples=4,
    learning_rate=1e-3,
    schedule="constant_with_warmup",
    warmup=0,
    clip=0.2,
    temperature=1.0,
    longest=96,
    save_every=50,
    seed=0,
)


@pytest.fixture(scope="module")
def problems():
    return demo_problems("train", 10, 0)


@pytest.fixture(scope="module")
def make(problems, tmp_path_factory):
    from datasets import Dataset

    loaded = load_model(ModelOptions("demo", dtype="float32"))
    modes = find_modes(loaded.tokenizer, PromptFormat())
    asker = Asker(modes, Sampling(1.0, 0, 1.0, budget=96), 24, make_grader("demo"))
    objective = AdaptThink(0.05, {problem.id: 0.5 for problem in problems})
    drawing = PolicyDrawing(loaded, PromptFormat(), asker, objective, Sampling(budget=96), 0)

    def made(form):
        loaded.model.requires_grad_(True)
        trainer = ModeTrainer(
            model=loaded.model,
            reward_funcs=lambda *_, **__: [],
            args=grpo_config(PLAN, tmp_path_factory.mktemp("trainer"), loaded),
            train_dataset=Dataset.from_dict({"prompt": [problem.query for problem in problems]}),
            processing_class=loaded.tokenizer,
            learning=Learning(problems, Order(10, 2, 0), modes, drawing, form, 0.2, lambda *_: None),
        )
        trainer.current_gradient_accumulation_steps = 1
        return trainer

    return made


@pytest.mark.parametrize("form", ["sequence", "full"])
def test_the_loss_is_that_of_the_formula(make, form):
    trainer = make(form)
    batch = trainer._generate_and_score_completions([{}] * 8)
    assert batch["advantages"].shape == (8,)
    mask = batch["completion_mask"]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    whole = torch.cat([batch["prompt_mask"], mask], dim=1)
    with torch.no_grad():
        # The model's own log-probabilities, by its own forward pass: positions count from the first real token.
        positions = (whole.cumsum(1) - 1).clamp(min=0)
        logits = trainer.model(input_ids=ids, attention_mask=whole, position_ids=positions).logits
        taken = logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0][:, -mask.size(1) :]
    expected = clipped_loss(
        ratios(taken, batch["old_per_token_logps"], mask, form), batch["advantages"], 0.2
    ).item()
    assert trainer._compute_loss(trainer.model, batch).item() == pytest.approx(expected, abs=2e-4)
    # What the policy drew itself has ratio 1, so that only first tokens of forced modes weigh otherwise.
    differences = ((taken - batch["old_per_token_logps"]) * mask)[:, 1:].abs().max().item()
    assert differences < 1e-3
    assert (taken - batch["old_per_token_logps"])[:, 0].abs().min().item() > 0.1


def test_reading_by_length_is_reading_together(make):
    trainer = make("sequence")
    batch = trainer._generate_and_score_completions([{}] * 8)
    mask = batch["completion_mask"]
    assert len(like_lengths(mask.sum(1).tolist())) > 1
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    whole = torch.cat([batch["prompt_mask"], mask], dim=1)
    with torch.no_grad():
        ours, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, whole, mask.size(1), compute_entropy=True
        )
        theirs, their_entropies, _ = super(ModeTrainer, trainer)._get_per_token_logps_and_entropies(
            trainer.model, ids, whole, mask.size(1), compute_entropy=True
        )
    assert torch.allclose(ours * mask, theirs * mask, atol=1e-4)
    assert torch.allclose(entropies * mask, their_entropies * mask, atol=1e-4)


def test_like_lengths_stand_together():
    assert like_lengths([7, 40, 7, 8, 60, 90]) == [[0, 2, 3], [1, 4], [5]]


def test_every_problem_comes_once_before_any_comes_again():
    order = Order(7, 3, 5)
    places = [place for step in range(7) for place in order(step)]
    assert sorted(places[:7]) == sorted(places[7:14]) == sorted(places[14:]) == list(range(7))
    assert places[:7] != places[7:14]
    assert order(3) == Order(7, 3, 5)(3)


@pytest.mark.slow
def test_accelerate_launches_a_training_and_trl_may_generate(tmp_path):
    launched = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "1",
        "-m",
        "pts",
    ]
    train = ["train", "adaptthink", "--smoke", "--reference", "own", "--generation", "trl", "--opener", "First"]
    done = subprocess.run(
        [*launched, *train, "--output", str(tmp_path / "m"), "--quiet"],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "adaptthink of demo on demo: 3 steps" in done.stdout
    assert (tmp_path / "m" / "model.safetensors").exists()
