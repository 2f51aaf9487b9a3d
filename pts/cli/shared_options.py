"""Options that several commands have, with the same names, words and meaning."""

from __future__ import annotations

from typing import Any, TypeAlias

import click

from pts.cli.options import NumberList

Options: TypeAlias = list[tuple[tuple[str, ...], str, dict[str, Any]]]
"""Declarations, help, and more arguments of click's, for each option."""

MODEL: Options = [
    (("model", "--model"), "Hub id, local directory, .gguf file, or demo.", {}),
    (("revision", "--revision"), "Revision of a model from the hub.", {}),
    (("adapter", "--adapter"), "PEFT adapter: directory or hub id.", {}),
    (("device", "--device"), "auto, cpu, cuda, cuda:1, mps.", {}),
    (
        ("dtype", "--dtype"),
        "What the model computes in.",
        {"type": click.Choice(["auto", "float32", "bfloat16", "float16"])},
    ),
    (("batch_rows", "--batch-rows"), "Most rows in a batch.  [default: by memory]", {"type": int}),
    (
        ("trust_remote_code", "--trust-remote-code"),
        "Run code from the model's repository.",
        {"is_flag": True},
    ),
]
PROBLEMS: Options = [
    (("dataset", "--dataset"), "Hub id, JSONL, CSV or Parquet file, or demo.", {}),
    (("config", "--config"), "Configuration of a data set from the hub.", {}),
    (("split", "--split"), "Split of the data set.  [default: train]", {}),
    (("dataset_revision", "--dataset-revision"), "Revision of a data set from the hub.", {}),
    (("question_field", "--question-field"), "Field with the question.  [default: detected]", {}),
    (("answer_field", "--answer-field"), "Field with the answer.  [default: detected]", {}),
    (("id_field", "--id-field"), "Field with the id.  [default: detected]", {}),
    (("choices_field", "--choices-field"), "Field with the choices.  [default: detected]", {}),
    (("problems", "--problems"), "Most problems to search.  [default: all]", {"type": int}),
    (("levels", "--levels"), "Levels of the demo problems.  [default: all]", {"type": NumberList()}),
    (
        ("grader", "--grader"),
        "math, choice, exact, numeric, mixed, demo, regex.  [default: by the data]",
        {},
    ),
    (("grader_pattern", "--grader-pattern"), "Pattern of the regex grader.", {}),
]
PROMPT: Options = [
    (("system_prompt", "--system-prompt"), "System prompt.", {}),
    (
        ("chat_template", "--chat-template/--no-chat-template"),
        "Use the model's chat template, or plain text.",
        {},
    ),
    (("suffix", "--suffix"), "Instruction on a line after the question.", {}),
    (("thinking", "--thinking/--no-thinking"), "Ask the template for thinking, or none.", {}),
    (("think_start", "--think-start"), "Tag that opens thinking.  [default: detected]", {}),
    (("think_end", "--think-end"), "Tag that closes thinking.  [default: detected]", {}),
]
SAMPLER: Options = [
    (("temperature", "--temperature"), "Temperature; 0 is greedy.", {}),
    (("top_p", "--top-p"), "Nucleus; 1 switches it off.", {}),
    (("top_k", "--top-k"), "Most likely tokens kept; 0 switches it off.", {}),
    (("min_p", "--min-p"), "Least probability relative to the likeliest; 0 switches it off.", {}),
    (("budget", "--budget"), "New tokens of a completion.  [default: 512; 96 for demo]", {"type": int}),
]
