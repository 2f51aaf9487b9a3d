"""Options that several commands have, with the same names, words and meaning."""

from __future__ import annotations

from typing import Any, TypeAlias

import click

from pts.cli.options import NumberList, StopText

Options: TypeAlias = list[tuple[tuple[str, ...], str, dict[str, Any]]]
"""Declarations, help, and more arguments of click's, for each option."""


def without(options: Options, *names: str) -> Options:
    """The options but those of these parameters."""
    return [option for option in options if option[0][0] not in names]


PLACEMENT: Options = [
    (("device", "--device"), "auto, cpu, cuda, cuda:1, mps.", {}),
    (("batch_rows", "--batch-rows"), "Most rows in a batch.  [default: by memory]", {"type": int}),
]
MODEL: Options = [
    (("model", "--model"), "Hub id, local directory, .gguf file, or demo.", {}),
    (("revision", "--revision"), "Revision of a model from the hub.", {}),
    (("adapter", "--adapter"), "PEFT adapter: directory or hub id.", {}),
    *without(PLACEMENT, "batch_rows"),
    (
        ("dtype", "--dtype"),
        "What the model computes in.",
        {"type": click.Choice(["auto", "float32", "bfloat16", "float16"])},
    ),
    *without(PLACEMENT, "device"),
    (
        ("trust_remote_code", "--trust-remote-code"),
        "Run code from the model's repository.",
        {"is_flag": True},
    ),
]
PROBLEMS: Options = [
    (
        ("dataset", "--dataset"),
        "Hub id, JSONL, CSV or Parquet file, a name such as gsm8k (see docs/evaluation.md), or demo.",
        {},
    ),
    (("config", "--config"), "Configuration of a data set from the hub.", {}),
    (("split", "--split"), "Split of the data set.  [default: its only one; train for demo]", {}),
    (("dataset_revision", "--dataset-revision"), "Revision of a data set from the hub.", {}),
    (("question_field", "--question-field"), "Field with the question.  [default: detected]", {}),
    (("answer_field", "--answer-field"), "Field with the answer.  [default: detected]", {}),
    (("id_field", "--id-field"), "Field with the id.  [default: detected]", {}),
    (("choices_field", "--choices-field"), "Field with the choices.  [default: detected]", {}),
    (("problems", "--problems"), "Most problems to search.  [default: all]", {"type": int}),
    (("levels", "--levels"), "Levels of the demo problems.  [default: all]", {"type": NumberList()}),
    (
        ("grader", "--grader"),
        "math, choice, exact, numeric, mixed, demo, regex, code (runs programs).  [default: by the data]",
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
    (
        ("thinking_switch", "--thinking-switch"),
        "The template's variable for that, and its values.  [default: found]",
        {"metavar": "NAME[=ON,OFF]"},
    ),
    (
        ("template_options", "--template-option"),
        "Another variable of the template, such as reasoning_effort=low; may be repeated.",
        {"multiple": True, "show_default": False, "metavar": "NAME=VALUE"},
    ),
    (("think_start", "--think-start"), "Tag that opens thinking.  [default: detected]", {}),
    (("think_end", "--think-end"), "Tag that closes thinking.  [default: detected]", {}),
]
SAMPLER: Options = [
    (("temperature", "--temperature"), "Temperature; 0 is greedy.", {}),
    (("top_p", "--top-p"), "Nucleus; 1 switches it off.", {}),
    (("top_k", "--top-k"), "Most likely tokens kept; 0 switches it off.", {}),
    (("min_p", "--min-p"), "Least probability relative to the likeliest; 0 switches it off.", {}),
    (("budget", "--budget"), "New tokens of a completion.  [default: 512; 96 for demo]", {"type": int}),
    (
        ("stop", "--stop"),
        r"Text that ends a completion wherever it is written, thinking included; may be repeated. For models "
        r"that go on with the next question. \n is a line break, \t a tab, \\ a backslash.",
        {"multiple": True, "show_default": False, "type": StopText()},
    ),
]
STEERING: Options = [
    (("vectors", "--vectors"), "Vector set: directory, hub id, or demo.", {}),
    (("vectors_revision", "--vectors-revision"), "Revision of a set from the hub.", {}),
    (
        ("pattern", "--pattern"),
        "Pattern of the set, and by how much; again for more.  [default: its first]",
        {"multiple": True, "metavar": "NAME[=FACTOR]"},
    ),
    (
        ("where", "--where"),
        "Steer where the set's gate is open, always, or after contexts of its pivots.",
        {"type": click.Choice(["gate", "always", "context"])},
    ),
    (("same_shape", "--same-shape"), "Accept vectors of a model of the same shape.", {"is_flag": True}),
    (("layers_path", "--layers-path"), "Module with the decoder blocks.  [default: found]", {}),
]
LIMITS: Options = [
    (("thinking_budget", "--thinking-budget"), "Most thinking: tokens, or a share such as 0.4.", {}),
    (("min_thinking", "--min-thinking"), "Least thinking: tokens, or a share.", {}),
    (("answer_budget", "--answer-budget"), "Most answer: tokens, or a share.", {}),
    (("max_switches", "--max-switches"), "Most turns of a thought.  [default: no limit]", {"type": int}),
    (
        ("continuations", "--continuation"),
        "Word in place of an end that is too soon; may be repeated.  [default: Wait]",
        {"multiple": True, "show_default": False},
    ),
    (
        ("switches", "--switch"),
        "Word at which a thought turns; may be repeated.  [default: Wait, Alternatively, ...]",
        {"multiple": True, "show_default": False},
    ),
]
ROUTER: Options = [
    (
        ("router", "--router"),
        "probe, length:0-128, random:none=0.5,hard=0.5, adaptive-classifier:SOURCE, or where a fitted one is."
        "  [default: the vectors' own, else length]",
        {},
    ),
    (
        ("class_budget", "--class-budget"),
        "Most, or least-most, thinking of a class, such as easy=0.2-0.4; may be repeated."
        "  [default: the router's]",
        {"multiple": True, "show_default": False, "metavar": "CLASS=AMOUNT"},
    ),
    (
        ("token_price", "--token-price"),
        "Success that a token must bring.  [default: as fitted]",
        {"type": float},
    ),
]
PARTS: Options = [
    (
        ("exit_threshold", "--exit-threshold"),
        "early-exit: confidence that ends thinking.  [default: 0.95]",
        {"type": float},
    ),
    (("exit_step", "--exit-step"), "early-exit: a trial at least every so many tokens.  [default: 0.0625]", {}),
    (("trial_tokens", "--trial-tokens"), "early-exit: tokens of a trial answer.  [default: 16]", {"type": int}),
    (("trial_opening", "--trial-opening"), "early-exit: how it begins.  [default: The answer is]", {}),
    (("scorer", "--scorer"), "reject: likelihood, or a function as FILE.py:NAME.  [default: likelihood]", {}),
    (("reject_step", "--reject-step"), "reject: tokens, or a share, of a round.  [default: 0.125]", {}),
    (
        ("reject_share", "--reject-share"),
        "reject: share of the branches to drop in each.  [default: 0.5]",
        {"type": float},
    ),
    (("second_model", "--second-model"), "escalate: the model that answers what is unsure.", {}),
    (("second_revision", "--second-revision"), "escalate: its revision, from the hub.", {}),
    (
        ("second_dtype", "--second-dtype"),
        "escalate: what it computes in.  [default: auto]",
        {"type": click.Choice(["auto", "float32", "bfloat16", "float16"])},
    ),
    (
        ("escalate_threshold", "--escalate-threshold"),
        "escalate: confidence below which it is asked.  [default: 0.9]",
        {"type": float},
    ),
    (
        ("escalate_over", "--escalate-over"),
        "escalate: whose tokens that is of.  [default: completion]",
        {"type": click.Choice(["completion", "answer"])},
    ),
]
