"""Write a chat model once more, with a template in which it thinks before it answers.

    python benchmarks/thinking_template.py MODEL DIRECTORY

A model that was not trained to think has no think tags, so that no budget can hold. Here its turn begins with
"Let's think step by step.", and "The answer is" ends the thinking (Kojima et al., 2022): give them with the
directory by --think-start "Let's think step by step." --think-end " The answer is". The weights are untouched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import save_model

from pts.models.load import ModelOptions, load_model

OPENING, CLOSING = "Let's think step by step.", " The answer is"
_PROMPT = "{% if add_generation_prompt %}"
_EARLIER = "message['content']"


def thinking_template(template: str) -> str:
    """The template with thinking opened in its generation prompt, and left out of earlier turns.

    Raises ValueError for a template that ends otherwise than with a generation prompt.
    """
    before, asks, after = template.rpartition(_PROMPT)
    prompt, ends, rest = after.partition("{% endif %}")
    if not asks or not ends or rest.strip():
        raise ValueError("the chat template does not end with a generation prompt")
    answers = f'({_EARLIER}.split("{CLOSING}")[-1] if message["role"] == "assistant" else {_EARLIER})'
    return f'{before.replace(_EARLIER, answers)}{asks}{prompt}{{{{ "{OPENING}" }}}}{ends}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("directory", type=Path)
    args = parser.parse_args()
    loaded = load_model(ModelOptions(args.model))
    loaded.tokenizer.chat_template = thinking_template(loaded.tokenizer.chat_template)
    loaded.tokenizer.save_pretrained(args.directory)
    # `save_pretrained` refuses what was read from GGUF, although its weights are plain by now.
    if hasattr(loaded.model.config, "quantization_config"):
        del loaded.model.config.quantization_config
    loaded.model.config.save_pretrained(args.directory)
    loaded.model.generation_config.save_pretrained(args.directory)
    save_model(loaded.model, str(args.directory / "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main()
