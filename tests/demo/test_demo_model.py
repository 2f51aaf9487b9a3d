import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pts.demo.grader import DemoGrader
from pts.demo.problems import demo_problems
from pts.demo.registration import demo_model_dir
from pts.demo.tokenizer import build_tokenizer, prompt_words
from pts.demo.training import Architecture, Schedule, new_model, train
from pts.demo.vocabulary import THINK_END, THINK_START, UNKNOWN
from pts.demo.writer import WritingRates
from pts.errors import ConfigError, RunError
from pts.stages.demo_model.inputs import DemoModelInputs
from pts.stages.demo_model.run import train_demo_model

TOY = Architecture(hidden_size=32, layers=1, heads=2, kv_heads=1, head_dim=16, mlp_size=64)
SHORT = Schedule(
    steps=25,
    tokens_per_step=1024,
    learning_rate=0.01,
    weight_decay=0.0,
    warmup_steps=5,
    decay_phase=0.3,
    drill_phase=0.5,
    drill_first=0.5,
    drill_later=0.1,
    answers=0.3,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(demo_model_dir())


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(demo_model_dir(), dtype=torch.float32).eval()


def _prompt(tokenizer: PreTrainedTokenizerBase, query: str, **options: object) -> str:
    message = [{"role": "user", "content": query}]
    return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, **options)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.inference_mode()
def _complete(model, tokenizer, queries: list[str], thinking: bool) -> list[str]:
    prompts = [_prompt(tokenizer, query, enable_thinking=thinking) for query in queries]
    batch = tokenizer(prompts, add_special_tokens=False, return_tensors="pt", padding=True)
    torch.manual_seed(0)
    out = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        top_k=20,
        max_new_tokens=96,
    )
    new = out[:, batch["input_ids"].shape[1] :]
    return tokenizer.batch_decode(new, skip_special_tokens=True)


def test_the_bundled_model_keeps_to_its_size() -> None:
    config = json.loads((demo_model_dir() / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert sum(file.stat().st_size for file in demo_model_dir().iterdir()) < 6_000_000


def test_the_bundled_model_has_about_a_million_parameters(model) -> None:
    assert 500_000 < model.num_parameters() < 1_500_000


def test_the_bundled_tokenizer_is_the_one_that_the_code_builds(tokenizer) -> None:
    built = build_tokenizer()
    assert tokenizer.get_vocab() == built.get_vocab()
    assert tokenizer.chat_template == built.chat_template
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("thinking", [True, False])
def test_template_and_training_prompts_are_the_same_ids(tokenizer, thinking: bool) -> None:
    ids = _ids(tokenizer, _prompt(tokenizer, "What is 27+8-9?", enable_thinking=thinking))
    assert tokenizer.convert_ids_to_tokens(ids) == prompt_words("What is 27 + 8 - 9 ?", thinking)


def test_thinking_is_the_default_and_stays_open(tokenizer) -> None:
    prompt = _prompt(tokenizer, "What is 27 + 8 ?")
    assert prompt == _prompt(tokenizer, "What is 27 + 8 ?", enable_thinking=True)
    assert prompt.endswith(THINK_START)
    assert _prompt(tokenizer, "What is 27 + 8 ?", enable_thinking=False).endswith(f"{THINK_START} {THINK_END}")


def test_a_system_message_is_taken(tokenizer) -> None:
    messages = [
        {"role": "system", "content": "Be careful."},
        {"role": "user", "content": "What is 27 + 8 ?"},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    system = f"{UNKNOWN} {UNKNOWN} ."
    assert tokenizer.convert_ids_to_tokens(_ids(tokenizer, prompt)) == prompt_words(
        "What is 27 + 8 ?", True, system
    )


def test_text_comes_back_from_ids_with_its_think_tags(tokenizer) -> None:
    text = "First , 27 + 8 = 25 . Wait , that is wrong . 27 + 8 = 35 . </think> The answer is 35 ."
    assert tokenizer.decode(_ids(tokenizer, f"{text} <|im_end|>"), skip_special_tokens=True) == text


def test_answers_level_one_without_thinking(model, tokenizer) -> None:
    problems = demo_problems("test", 50, 0, (1,))
    texts = _complete(model, tokenizer, [p.query for p in problems], thinking=False)
    hits = [DemoGrader()(text, p.answer) for text, p in zip(texts, problems, strict=True)]
    assert sum(hits) / len(hits) >= 0.7


def test_thinking_succeeds_sometimes_and_does_not_leak(model, tokenizer) -> None:
    problems = demo_problems("test", 48, 0, (2, 3, 4))
    texts = _complete(model, tokenizer, [p.query for p in problems], thinking=True)
    assert not any(text.startswith(THINK_END) for text in texts)
    assert all(text.count(THINK_END) == 1 for text in texts)
    hits = [DemoGrader()(text, p.answer) for text, p in zip(texts, problems, strict=True)]
    assert 0.25 < sum(hits) / len(hits) < 0.75


def test_training_lowers_the_loss_and_is_the_same_each_time() -> None:
    runs = [train(new_model(TOY, 0), SHORT, WritingRates(), seed=0) for _ in range(2)]
    assert runs[0] == runs[1]
    assert sum(runs[0][-5:]) < 0.8 * sum(runs[0][:5])


def _config(output: Path, **changes: object) -> DemoModelInputs:
    settings = {
        **{name: getattr(part, name) for part in (TOY, SHORT) for name in part.__dataclass_fields__},
        **{"output": str(output), "seed": 0, "threads": 1, "rates": {"wait": 0.2}, "steps": 3, **changes},
    }
    return DemoModelInputs(**settings)


def test_the_stage_writes_a_directory_that_loads_and_keeps_its_card(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    output.mkdir()
    (output / "README.md").write_text("the card")
    (output / "left_over.json").write_text("{}")
    assert train_demo_model(_config(output)) == output
    model = AutoModelForCausalLM.from_pretrained(output)
    ids = AutoTokenizer.from_pretrained(output)("What is 27 + 8 ?", return_tensors="pt")["input_ids"]
    assert model(ids).logits.shape[-1] == len(build_tokenizer())
    assert model.generation_config.eos_token_id == build_tokenizer().eos_token_id
    assert (output / "README.md").read_text() == "the card"
    assert not (output / "left_over.json").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights"]


def test_an_unknown_rate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'waiting'"):
        train_demo_model(_config(tmp_path / "weights", rates={"waiting": 0.2}))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        train_demo_model(_config(tmp_path / "file" / "weights"))
