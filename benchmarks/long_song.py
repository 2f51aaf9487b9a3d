"""Writes a problem whose answers are long, orderly and short of forks, and an answer to search.

    python benchmarks/long_song.py MODEL song.jsonl answer.jsonl [--verses 39]

So a small model can be searched on 1,600 tokens from end to end. The first songs show the form, each with a
drink of its own. The model chooses the drink of the last one, and must then count down without losing its way,
some 41 tokens a verse. It succeeds where it comes to 0 bottles of milk. Search it without a chat template, with
`--grader regex --grader-pattern '(?<!\\d)0 bottles of (\\w+) on the wall\\.' --stop '\\n\\n'`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pts.models.options import ModelOptions
from pts.models.tokenizer import load_tokenizer

SHOWN = ((24, "beer"), (19, "milk"))
WANTED = "milk"


def song(bottles: int, drink: str) -> str:
    """All verses, a line each."""
    return "\n".join(
        f"{left} bottles of {drink} on the wall, {left} bottles of {drink}. "
        f"Take one down and pass it around, {left - 1} bottles of {drink} on the wall. "
        "We sing it again and again."
        for left in range(bottles, 0, -1)
    )


def song_prompt(verses: int) -> str:
    """The songs that show the form, and the beginning of the one to sing."""
    shown = "".join(f"A song of {bottles} bottles:\n{song(bottles, drink)}\n\n" for bottles, drink in SHOWN)
    return f"{shown}A song of {verses} bottles:\n{verses} bottles of"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="whose tokens the whole song is written in")
    parser.add_argument("problem", type=Path, help="file to write the problem to")
    parser.add_argument("answer", type=Path, help="file to write the whole song to, for --traces-from")
    parser.add_argument("--verses", type=int, default=39)
    options = parser.parse_args()
    name, begun = f"song-{options.verses}", f"{options.verses} bottles of"
    problem = {"id": name, "question": song_prompt(options.verses), "answer": WANTED}
    tokenizer = load_tokenizer(ModelOptions(options.model))
    text = song(options.verses, WANTED).removeprefix(begun)
    # A model ends its verses with line ends one by one, not with the one token for two.
    pieces = (tokenizer.encode(piece, add_special_tokens=False) for piece in (text, "\n", "\n"))
    answer = {"id": name, "completion_ids": [token for piece in pieces for token in piece]}
    for path, row in ((options.problem, problem), (options.answer, answer)):
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
