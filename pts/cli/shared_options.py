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
    (("device", "--device"), "Device: auto, cpu, cuda, cuda:1 or mps.", {}),
    (("batch_rows", "--batch-rows"), "Maximum number of rows in a batch.  [default: by memory]", {"type": int}),
]
REMOTE_CODE: Options = [
    (
        ("trust_remote_code", "--trust-remote-code"),
        "Allow code from the model's repository to run.",
        {"is_flag": True},
    ),
]
ENGINE: Options = [
    (
        ("engine", "--engine"),
        "What generates: transformers, or vllm where it is installed (see docs/engines.md).",
        {"type": click.Choice(["transformers", "vllm"])},
    ),
]
ENDPOINT: Options = [
    (
        ("endpoint", "--endpoint"),
        "Address of a vLLM server that runs already, such as http://localhost:8000 (with --engine vllm).",
        {},
    ),
    (
        ("endpoint_timeout", "--endpoint-timeout"),
        "Longest time that one answer of the server may take, in seconds.  [default: 600]",
        {"type": float},
    ),
]
PARALLEL: Options = [
    (
        ("tensor_parallel", "--tensor-parallel"),
        "Number of GPUs that hold one model together (with --engine vllm).  [default: 1]",
        {"type": int},
    ),
]
RAY: Options = [
    (
        ("ray", "--ray"),
        "Use several engines on a Ray cluster; without an address on this machine.",
        {"is_flag": False, "flag_value": "local", "metavar": "[HOST:PORT]"},
    ),
    (
        ("workers", "--workers"),
        "Number of engines on Ray.  [default: as many as there is room for]",
        {"type": int},
    ),
    (
        ("gpus_per_worker", "--gpus-per-worker"),
        "GPU of each engine on Ray: 1, a part of one such as 0.5, or 0.  [default: 1 where there are any]",
        {"type": float},
    ),
]
MODEL: Options = [
    (("model", "--model"), "Model: Hub id, local directory, .gguf file, or demo.", {}),
    *ENGINE,
    (("revision", "--revision"), "Revision of the model on the Hub.", {}),
    (("adapter", "--adapter"), "PEFT adapter: directory or Hub id.", {}),
    *without(PLACEMENT, "batch_rows"),
    (
        ("dtype", "--dtype"),
        "Number format of the model.",
        {"type": click.Choice(["auto", "float32", "bfloat16", "float16"])},
    ),
    *without(PLACEMENT, "device"),
    *REMOTE_CODE,
]
PROBLEMS: Options = [
    (
        ("dataset", "--dataset"),
        "Problems: Hub id, JSONL, CSV or Parquet file, a name such as gsm8k, or demo.",
        {},
    ),
    (("config", "--config"), "Configuration of the data set on the Hub.", {}),
    (("split", "--split"), "Split of the data set.  [default: the only one; train for demo]", {}),
    (("dataset_revision", "--dataset-revision"), "Revision of the data set on the Hub.", {}),
    (("question_field", "--question-field"), "Field with the question.  [default: detected]", {}),
    (("answer_field", "--answer-field"), "Field with the answer.  [default: detected]", {}),
    (("id_field", "--id-field"), "Field with the id.  [default: detected]", {}),
    (("choices_field", "--choices-field"), "Field with the choices.  [default: detected]", {}),
    (("problems", "--problems"), "Maximum number of problems to search.  [default: all]", {"type": int}),
    (("levels", "--levels"), "Levels of the demo problems.  [default: all]", {"type": NumberList()}),
    (
        ("grader", "--grader"),
        "Grader: math, choice, exact, numeric, mixed, demo, regex, code (runs programs)."
        "  [default: by the data]",
        {},
    ),
    (
        ("grader_pattern", "--grader-pattern"),
        "Pattern of the regex grader, with one group around the answer.",
        {},
    ),
]
PROMPT: Options = [
    (("system_prompt", "--system-prompt"), "System prompt.", {}),
    (
        ("chat_template", "--chat-template/--no-chat-template"),
        "Use the model's chat template, or the plain text of the question.",
        {},
    ),
    (("suffix", "--suffix"), "Instruction to add on a line after the question.", {}),
    (
        ("thinking", "--thinking/--no-thinking"),
        "Switch the model's thinking on or off, by its chat template.",
        {},
    ),
    (
        ("thinking_switch", "--thinking-switch"),
        "Variable of the chat template that switches thinking, and its two values.  [default: detected]",
        {"metavar": "NAME[=ON,OFF]"},
    ),
    (
        ("template_options", "--template-option"),
        "Another variable of the chat template, such as reasoning_effort=low. May be repeated.",
        {"multiple": True, "show_default": False, "metavar": "NAME=VALUE"},
    ),
    (("think_start", "--think-start"), "Tag that opens thinking.  [default: detected]", {}),
    (("think_end", "--think-end"), "Tag that closes thinking.  [default: detected]", {}),
]
SAMPLER: Options = [
    (("temperature", "--temperature"), "Sampling temperature; 0 is greedy.", {}),
    (("top_p", "--top-p"), "Nucleus sampling: total probability of the tokens kept; 1 switches it off.", {}),
    (("top_k", "--top-k"), "Number of likeliest tokens kept; 0 switches it off.", {}),
    (("min_p", "--min-p"), "Minimum probability of a token, relative to the likeliest; 0 switches it off.", {}),
    (
        ("budget", "--budget"),
        "Maximum number of new tokens in a completion.  [default: 512; 96 for demo]",
        {"type": int},
    ),
    (
        ("stop", "--stop"),
        r"Text that ends a completion wherever it appears, in the thinking too. May be repeated. For models "
        r"that continue with the next question. \n is a line break, \t a tab, \\ a backslash.",
        {"multiple": True, "show_default": False, "type": StopText()},
    ),
]
STEERING: Options = [
    (("vectors", "--vectors"), "Vector set: directory, Hub id, or one that comes with pts, such as demo.", {}),
    (("vectors_revision", "--vectors-revision"), "Revision of the vector set on the Hub.", {}),
    (
        ("pattern", "--pattern"),
        "Pattern, and a multiple of its calibrated strength. May be repeated.  [default: the set's first]",
        {"multiple": True, "metavar": "NAME[=FACTOR]"},
    ),
    (
        ("where", "--where"),
        "Where to steer: where the set's gate is open, at every token, or after the contexts of its pivots.",
        {"type": click.Choice(["gate", "always", "context"])},
    ),
    (
        ("same_shape", "--same-shape"),
        "Accept vectors of another model of the same shape, such as a fine-tune.",
        {"is_flag": True},
    ),
    (
        ("layers_path", "--layers-path"),
        "Module that holds the decoder blocks, such as model.layers.  [default: detected]",
        {},
    ),
]
LIMITS: Options = [
    (
        ("thinking_budget", "--thinking-budget"),
        "Maximum thinking: tokens, or a share of the budget such as 0.4.",
        {},
    ),
    (("min_thinking", "--min-thinking"), "Minimum thinking: tokens, or a share of the budget.", {}),
    (
        ("answer_budget", "--answer-budget"),
        "Maximum length of the answer: tokens, or a share of the budget.",
        {},
    ),
    (
        ("max_switches", "--max-switches"),
        "Maximum number of times that a thought may turn (see --switch).  [default: no limit]",
        {"type": int},
    ),
    (
        ("continuations", "--continuation"),
        "Word that replaces an end of thinking before the minimum. May be repeated.  [default: Wait]",
        {"multiple": True, "show_default": False},
    ),
    (
        ("switches", "--switch"),
        "Word at which a thought turns. May be repeated.  [default: Wait, Alternatively, ...]",
        {"multiple": True, "show_default": False},
    ),
]
ROUTER: Options = [
    (
        ("router", "--router"),
        "Router: probe, length:0-128, random:none=0.5,hard=0.5, adaptive-classifier:SOURCE, or the directory "
        "of a fitted one.  [default: the one stored with the vectors, else length]",
        {},
    ),
    (
        ("class_budget", "--class-budget"),
        "Thinking of a class: maximum, or minimum-maximum, such as easy=0.2-0.4. May be repeated."
        "  [default: the router's]",
        {"multiple": True, "show_default": False, "metavar": "CLASS=AMOUNT"},
    ),
    (
        ("token_price", "--token-price"),
        "Price of a token: the gain in success that it must be worth.  [default: as fitted]",
        {"type": float},
    ),
]
PARTS: Options = [
    (
        ("exit_threshold", "--exit-threshold"),
        "early-exit: confidence of a trial answer that ends thinking.  [default: 0.95]",
        {"type": float},
    ),
    (
        ("exit_step", "--exit-step"),
        "early-exit: minimum distance of trials: tokens, or a share.  [default: 0.0625]",
        {},
    ),
    (
        ("trial_tokens", "--trial-tokens"),
        "early-exit: maximum length of a trial, in tokens.  [default: 16]",
        {"type": int},
    ),
    (
        ("trial_opening", "--trial-opening"),
        "early-exit: text that begins a trial.  [default: The answer is]",
        {},
    ),
    (
        ("scorer", "--scorer"),
        "reject: ranks branches: likelihood, or a function as FILE.py:NAME.  [default: likelihood]",
        {},
    ),
    (("reject_step", "--reject-step"), "reject: length of a round: tokens, or a share.  [default: 0.125]", {}),
    (
        ("reject_share", "--reject-share"),
        "reject: share of the branches to drop after each round.  [default: 0.5]",
        {"type": float},
    ),
    (
        ("second_model", "--second-model"),
        "escalate: second model, which answers where the first is not confident.",
        {},
    ),
    (("second_revision", "--second-revision"), "escalate: revision of the second model on the Hub.", {}),
    (
        ("second_dtype", "--second-dtype"),
        "escalate: number format of the second model.  [default: auto]",
        {"type": click.Choice(["auto", "float32", "bfloat16", "float16"])},
    ),
    (
        ("escalate_threshold", "--escalate-threshold"),
        "escalate: confidence below which the second model answers.  [default: 0.9]",
        {"type": float},
    ),
    (
        ("escalate_over", "--escalate-over"),
        "escalate: which tokens the confidence is over.  [default: completion]",
        {"type": click.Choice(["completion", "answer"])},
    ),
]
