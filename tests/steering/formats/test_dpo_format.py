"""Preference pairs: which are confirmed, what they say, and a real DPOTrainer as a reader."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pts.errors import DataError, ModelError
from pts.models.options import ModelOptions
from pts.models.tokenizer import load_detokenizer
from pts.pivot_search.results import Alternative, Candidate, ProblemResult, SearchedTrace
from pts.runs.codec import from_json, known_keys
from pts.runs.manifest import Manifest, ProblemList
from pts.runs.search_run import SearchResults, read_search
from pts.runs.shard import Context, ShardLine
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search
from pts.steering.formats.dpo import PreferencePair, preference_pairs, write_pairs_jsonl, write_pairs_parquet

WORDS = ["<user>", "why", "<bot>", "so", "wait", "but", "end"]


def decode(ids):
    """Words with a space before each but the first, as the joined text of most tokenizers is."""
    return " ".join(WORDS[i] for i in ids)


def alternative(token_id, successes, n, prob=0.2):
    return Alternative(token_id, WORDS[token_id], prob, successes / n, n)


def candidate(successes=24, n=24, others=(), delta=0.5, p_value=1e-9):
    off_n = sum(other.n for other in others)
    off = sum(round(other.value * other.n) for other in others)
    return Candidate(
        trace=0,
        position=1,
        token_id=4,
        token="wait",
        token_prob=0.4,
        value=successes / n,
        value_successes=successes,
        value_n=n,
        off_trace_value=off / off_n,
        off_trace_successes=off,
        off_trace_n=off_n,
        delta=delta,
        p_value=p_value,
        looks=3,
        alternatives=tuple(others),
    )


def searched(candidates, fdr=0.05):
    """A run of one trace `<user> why <bot> so wait`, with these candidates at its last token."""
    trace = SearchedTrace((3, 4), ("so", "wait"), (0.9, 0.4), "end", True, 0, 0, 0, 0, 0, 0, len(candidates))
    result = ProblemResult("p1", "why", "1", 0, "searched", (0, 1, 2), 0.5, 24, (trace,), tuple(candidates))
    contexts = tuple(Context("<user> why <bot>so", " wait", " end") for _ in candidates)
    found = {
        "model_id": "some/model",
        "model_revision": None,
        "dtype": "float32",
        "think_end": None,
        "dataset_id": "some/data",
        "problem_schema": "math",
        "grader": "math",
    }
    manifest = Manifest(
        "search", "2026-01-01T00:00:00Z", {"search": {"fdr": fdr}}, found, {}, ProblemList(1, ""), {}
    )
    return SearchResults(Path("run"), manifest, (ShardLine("", None, result, contexts),))


def test_a_pivot_that_helps_is_chosen_over_what_is_worse():
    run = searched([candidate(24, 24, [alternative(3, 2, 20)])])
    (pair,) = preference_pairs(run, decode)
    assert (pair.prompt, pair.chosen, pair.rejected) == ("<user> why <bot> so", " wait", " so")
    assert (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids) == ((0, 1, 2, 3), (4,), (3,))
    assert (pair.chosen_value, pair.chosen_n, pair.chosen_prob) == (1.0, 24, 0.4)
    assert (pair.rejected_value, pair.rejected_n, pair.rejected_prob) == (0.1, 20, 0.2)
    assert pair.chosen_low <= 1.0 <= pair.chosen_high
    assert pair.rejected_low < 0.1 < pair.rejected_high
    assert pair.difference == pytest.approx(0.9)
    assert 0 < pair.difference_low < 0.9 < pair.difference_high
    assert (pair.query, pair.dataset_item_id, pair.position) == ("why", "p1", 1)


def test_a_pivot_that_harms_is_rejected():
    run = searched([candidate(0, 24, [alternative(3, 20, 20)], delta=-0.5)])
    (pair,) = preference_pairs(run, decode)
    assert (pair.chosen, pair.rejected) == (" so", " wait")
    assert (pair.chosen_value, pair.rejected_value, pair.difference) == (1.0, 0.0, 1.0)
    assert pair.difference_low > 0


def test_an_alternative_that_is_not_surely_worse_is_left_out():
    others = [alternative(3, 0, 20), alternative(5, 10, 12), alternative(6, 0, 1)]
    (pair,) = preference_pairs(searched([candidate(24, 24, others)]), decode)
    assert pair.rejected == " so"


def test_a_candidate_that_is_no_finding_gives_no_pair():
    with pytest.raises(DataError, match="no pair whose difference is confirmed"):
        preference_pairs(searched([candidate(24, 24, [alternative(3, 0, 20)], p_value=0.5)]), decode)


@pytest.mark.parametrize("drawn", [(1, 2, 4), (3, 3, 40), (20, 20, 20)])
def test_where_nothing_differs_few_pairs_are_confirmed(drawn):
    # 400 findings by decree: the pivot and its alternatives all have the value 0.9, at which intervals alone,
    # or intervals that forget how many alternatives there are, confirm far too much.
    random = np.random.default_rng(0)
    candidates = [
        candidate(
            int(random.binomial(96, 0.9)),
            96,
            [
                alternative(token, int(random.binomial(n, 0.9)), n)
                for token, n in zip((3, 5, 6), drawn, strict=True)
            ],
        )
        for _ in range(400)
    ]
    run = searched(candidates)
    assert len(run.findings) == 400
    # At most 0.05 / 3 of the pivots in expectation, 6.7: 16 or more come by chance once in 1,000 times.
    try:
        confirmed = len(preference_pairs(run, decode))
    except DataError:
        confirmed = 0
    assert confirmed < 16


def test_tokens_without_a_text_of_their_own_are_left_out(caplog):
    def partial(ids):
        return decode(ids).replace("but", "�")

    run = searched([candidate(24, 24, [alternative(3, 0, 20), alternative(5, 0, 20)])])
    with caplog.at_level(logging.WARNING):
        (pair,) = preference_pairs(run, partial)
    assert pair.rejected == " so"
    assert "1 pairs are left out" in caplog.text


def test_another_tokenizer_is_refused():
    with pytest.raises(ModelError, match="the model has changed"):
        preference_pairs(
            searched([candidate(24, 24, [alternative(3, 0, 20)])]), lambda ids: decode(ids).upper()
        )


def test_files_hold_the_pairs(tmp_path):
    pairs = preference_pairs(
        searched([candidate(24, 24, [alternative(3, 2, 20), alternative(5, 0, 9)])]), decode
    )
    assert len(pairs) == 2
    write_pairs_jsonl(tmp_path / "pairs.jsonl", pairs)
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    assert [from_json(PreferencePair, json.loads(line)) for line in lines] == pairs
    write_pairs_parquet(tmp_path / "pairs.parquet", pairs)
    table = pq.read_table(tmp_path / "pairs.parquet")
    assert table.column_names == known_keys(PreferencePair)
    assert [from_json(PreferencePair, row) for row in table.to_pylist()] == pairs
    write_pairs_parquet(tmp_path / "none.parquet", [])
    assert pq.read_table(tmp_path / "none.parquet").schema.equals(table.schema)


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "run"
    run_search(SearchInputs(problems=5, levels=(2, 3), threshold=0.4, traces=1, output=output))
    return read_search(output)


@pytest.mark.slow
def test_the_texts_of_a_real_search_are_its_tokens(demo_run):
    from transformers import AutoTokenizer

    from pts.demo.registration import demo_model_dir

    tokenizer = AutoTokenizer.from_pretrained(demo_model_dir())
    pairs = preference_pairs(demo_run, load_detokenizer(ModelOptions()))
    assert pairs
    for pair in pairs:
        assert pair.prompt.startswith("<|im_start|> user")
        assert tuple(tokenizer.encode(pair.prompt, add_special_tokens=False)) == pair.prompt_ids
        for text, ids in ((pair.chosen, pair.chosen_ids), (pair.rejected, pair.rejected_ids)):
            assert (
                tuple(tokenizer.encode(pair.prompt + text, add_special_tokens=False)) == pair.prompt_ids + ids
            )
        assert pair.chosen_value > pair.rejected_value
        assert pair.difference_low > 0


@pytest.fixture
def dpo_training(demo_run, tmp_path, monkeypatch):
    """The demo model, its tokenizer, the exported file as a data set, and settings for three small steps."""
    trl = pytest.importorskip("trl")
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pts.demo.registration import demo_model_dir

    file = tmp_path / "pairs.jsonl"
    write_pairs_jsonl(file, preference_pairs(demo_run, load_detokenizer(ModelOptions())))
    data = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=3,
        per_device_train_batch_size=2,
        learning_rate=1e-4,
        warmup_steps=0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(demo_model_dir(), dtype=torch.float32)
    return trl.DPOTrainer, model, AutoTokenizer.from_pretrained(demo_model_dir()), data, settings


@pytest.mark.slow
def test_trl_trains_on_the_texts(dpo_training):
    trainer_class, model, tokenizer, data, settings = dpo_training
    trainer = trainer_class(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
    for ours, read in zip(data, trainer.train_dataset, strict=True):
        assert read["prompt_ids"] == ours["prompt_ids"]
        # TRL ends both sides itself: the token, then the end of the turn.
        assert read["chosen_ids"] == [*ours["chosen_ids"], tokenizer.eos_token_id]
        assert read["rejected_ids"] == [*ours["rejected_ids"], tokenizer.eos_token_id]
    trainer.train()
    assert trainer.state.global_step == 3


@pytest.mark.slow
def test_trl_trains_on_the_very_ids(dpo_training):
    import torch

    trainer_class, model, tokenizer, data, settings = dpo_training

    class OnIds(trainer_class):
        def _prepare_dataset(self, dataset, *rest):
            return dataset

    before = preference(model, data)
    trainer = OnIds(
        model=model, args=replace(settings, max_steps=20), train_dataset=data, processing_class=tokenizer
    )
    trainer.train()
    assert trainer.state.global_step == 20
    after = preference(model, data)
    assert torch.mean(after) > torch.mean(before) + 0.1


def preference(model, data):
    """log p(chosen) − log p(rejected) of each pair, in nats."""
    import torch

    shifts = []
    for row in data:
        with torch.no_grad():
            scores = model(torch.tensor([row["prompt_ids"]])).logits[0, -1].log_softmax(dim=-1)
        shifts.append(scores[row["chosen_ids"][0]] - scores[row["rejected_ids"][0]])
    return torch.stack(shifts)
