"""Write a chat model once more, with a template in which it thinks before it answers.

    python benchmarks/thinking_template.py MODEL DIRECTORY [--closing '\\boxed{']

A model that was not trained to think has no think tags, so that no budget can hold. Here its turn begins with
"Let's think step by step.", and "The answer is" ends the thinking (Kojima et al., 2022): give them with the
directory by --think-start "Let's think step by step." --think-end " The answer is". `--closing` is another end
of the thinking, for a model that writes its answers otherwise. The weights are untouched.
"""

from __future__ import annotations

import argparse
import json
import re
from functools import partial
from pathlib import Path

from safetensors.torch import save_model

from pts.models.load import ModelOptions, load_model

OPENING, CLOSING = "Let's think step by step.", " The answer is"
_PROMPT = re.compile(r"\{%-? *if add_generation_prompt *-?%\}")
_END = re.compile(r"\{%-? *endif *-?%\}\s*")
_EARLIER = re.compile(r"\bmessage(?:\['content'\]|\.content\b)")


def thinking_template(template: str, closing: str = CLOSING) -> str:
    """The template with thinking opened in its generation prompt, and left out of earlier turns.

    Raises ValueError for a template that ends otherwise than with a generation prompt.
    """
    asks = list(_PROMPT.finditer(template))
    ends = list(_END.finditer(template, asks[-1].end())) if asks else []
    if len(ends) != 1 or ends[0].end() != len(template):
        raise ValueError("the chat template does not end with a generation prompt")
    before = _EARLIER.sub(partial(_answer_alone, closing=closing), template[: asks[-1].start()])
    return f'{before}{template[asks[-1].start() : ends[0].start()]}{{{{- "{OPENING}" }}}}{ends[0].group()}'


def _answer_alone(content: re.Match[str], closing: str) -> str:
    """An expression for a turn's content that leaves the thinking of the assistant's turns out."""
    whole = content.group()
    return (
        f'({whole}.split({json.dumps(closing)})[-1] if message["role"] == "assistant" and {whole} else {whole})'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--closing", default=CLOSING, help="text that ends the thinking")
    args = parser.parse_args()
    loaded = load_model(ModelOptions(args.model))
    loaded.tokenizer.chat_template = thinking_template(loaded.tokenizer.chat_template, args.closing)
    loaded.tokenizer.save_pretrained(args.directory)
    # `save_pretrained` refuses what was read from GGUF, although its weights are plain by now.
    if hasattr(loaded.model.config, "quantization_config"):
        del loaded.model.config.quantization_config
    loaded.model.config.save_pretrained(args.directory)
    loaded.model.generation_config.save_pretrained(args.directory)
    save_model(loaded.model, str(args.directory / "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main()
