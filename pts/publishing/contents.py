"""What belongs to a publication: files of a vector set, a search run or a trained model, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import yaml

from pts.errors import ConfigError, DataError, RunError
from pts.publishing.card_text import CARD_NAME, is_untouched
from pts.publishing.target import Target
from pts.setting_names import setting
from pts.training.run_files import MODEL_FILES

Kind: TypeAlias = Literal["vector set", "search run", "trained model"]
Source: TypeAlias = Path | bytes
"""A file's content: where it is, or itself."""

NAMES: Mapping[Kind, tuple[str, ...]] = {
    "vector set": (
        "vectors.json",
        "vectors.safetensors",
        "records.parquet",
        "examples.json",
        "router.json",
        "router.safetensors",
        CARD_NAME,
    ),
    "search run": (
        *("manifest.json", "pivotal_tokens.parquet", "pivotal_sentences.parquet", "rollouts.parquet"),
        *("summary.json", CARD_NAME),
    ),
    "trained model": ("curves.jsonl", *MODEL_FILES, "curves.png", "summary.json", CARD_NAME),
}
"""The files that each kind may have in a repository; the first one tells that a repository is of the kind.

A run's shard stays at home: it holds the data set's answers and every trace. So does its JSONL, which is the
Parquet file again. The rollouts are published where they are requested.
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """Files to publish, by their path in the repository, and one line that says what they are."""

    kind: Kind
    summary: str
    files: Mapping[str, Source]

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that a repository of this kind may hold of ours."""
        return NAMES[self.kind]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(source) if isinstance(source, bytes) else source.stat().st_size
            for name, source in self.files.items()
        }

    @property
    def card(self) -> str:
        """The text of README.md."""
        return content(self.files[CARD_NAME]).decode()


def read_contents(path: Path, target: Target, *, rollouts: bool = False) -> Contents:
    """The publication that the directory holds, loaded and checked as a reader would.

    With `rollouts` those of a search belong to it; their table is written into the directory first.

    Raises VectorError, RunError, DataError or ConfigError where it is not whole; sends nothing.
    """
    if (path / NAMES["vector set"][0]).exists():
        if rollouts:
            raise ConfigError(
                f"{path} is a vector set, which has no rollouts; leave {setting('rollouts', True)} out."
            )
        return _vector_set(path, target)
    if (path / NAMES["trained model"][0]).exists():
        if rollouts:
            raise ConfigError(
                f"{path} is a trained model, which has no rollouts; leave {setting('rollouts', True)} out."
            )
        return _trained_model(path, target)
    if (path / NAMES["search run"][0]).exists():
        return _search_run(path, target, rollouts)
    what = (
        "holds neither a vector set nor a search run nor a trained model"
        if path.is_dir()
        else "is no directory"
    )
    raise DataError(
        f"{path} {what}. Give a directory with vectors.json and vectors.safetensors, or one that "
        f"`pts search --output` or `pts train` wrote."
    )


def content(source: Source) -> bytes:
    """A file's content."""
    return source if isinstance(source, bytes) else source.read_bytes()


def _vector_set(path: Path, target: Target) -> Contents:
    from pts.decoding.routers.files import find_router
    from pts.publishing.card import vector_set_card
    from pts.steering.vector_files import load_vectors

    vectors = load_vectors(path)
    find_router(path)
    rows = _parquet_rows(path / "records.parquet")
    card = (
        _card(path)
        or vector_set_card(
            vectors,
            target.name,
            target.repo_id,
            rows or 0,
            repo_type=target.repo_type,
            license_id=target.license_id,
        ).encode()
    )
    data = [name for name in NAMES["vector set"] if name != CARD_NAME and (path / name).exists()]
    summary = f"Steering vectors of {vectors.model.id}: {', '.join(vectors.vectors)}"
    return Contents("vector set", summary, {**{name: path / name for name in data}, CARD_NAME: card})


def _search_run(path: Path, target: Target, rollouts: bool) -> Contents:
    from pts.publishing.search_card import search_card
    from pts.runs.codec import to_json
    from pts.runs.rollout_table import write_rollouts
    from pts.runs.search_run import ROLLOUTS_TABLE, read_search
    from pts.runs.search_summary import search_summary

    if target.repo_type != "dataset":
        raise ConfigError(
            f"{path} is a search run, which is a data set; leave {setting('repo_type', target.repo_type)} out."
        )
    run = read_search(path)
    summary = search_summary(run)
    written, now = _json(path / "summary.json"), to_json(summary)
    assert isinstance(now, dict)
    # A summary of an earlier version says less, and is current where what it says is true.
    known = {key: now.get(key) for key in written} if isinstance(written, dict) else {}
    if not known or known != written or not (path / "pivotal_tokens.parquet").exists():
        raise RunError(
            f"{path}: its results are not up to date (a search was stopped, or is running); "
            "give the search command again, then publish."
        )
    counts = {"pivotal_tokens.parquet": summary.findings - summary.sentences}
    if summary.unit != "token":
        counts["pivotal_sentences.parquet"] = summary.sentences
    for name, count in counts.items():
        if _parquet_rows(path / name) != count:
            raise RunError(
                f"{path / name} does not match the run's {count} "
                "findings; delete it, give the search command again, then publish."
            )
    rows = write_rollouts(run, path / ROLLOUTS_TABLE) if rollouts else None
    card = (
        _card(path)
        or search_card(run, target.name, target.repo_id, license_id=target.license_id, rollouts=rows).encode()
    )
    left_out = {CARD_NAME, *(() if rollouts else (ROLLOUTS_TABLE,))}
    left_out |= {"pivotal_sentences.parquet"} - set(counts)
    data = {name: path / name for name in NAMES["search run"] if name not in left_out}
    what = {"token": "tokens", "sentence": "sentences", "both": "tokens and sentences"}[summary.unit]
    title = f"Pivotal {what} of {summary.model_id} on {summary.dataset_id}: {summary.findings}"
    return Contents("search run", title, {**data, CARD_NAME: card})


def _trained_model(path: Path, target: Target) -> Contents:
    from pts.publishing.training_card import training_card
    from pts.training.run_files import read_training

    if target.repo_type != "model":
        raise ConfigError(f"{path} is a trained model: give {setting('repo_type', 'model')}.")
    summary, resolved = read_training(path)
    card = (
        _card(path)
        or training_card(summary, resolved, target.name, target.repo_id, license_id=target.license_id).encode()
    )
    data = [name for name in NAMES["trained model"] if name != CARD_NAME and (path / name).exists()]
    title = f"{summary.model_id} trained by {summary.method} on {summary.dataset_id}"
    return Contents("trained model", title, {**{name: path / name for name in data}, CARD_NAME: card})


def _card(path: Path) -> bytes | None:
    """The directory's own README.md where somebody has written or edited it. Raises DataError."""
    from huggingface_hub import metadata_load

    card = path / CARD_NAME
    if not card.exists():
        return None
    try:
        text = card.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{card} is not UTF-8 text ({error.reason}); save it as UTF-8 or delete it.") from error
    if is_untouched(text):
        return None
    try:
        fields = metadata_load(card)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"the header of {card} is not YAML ({error}); fix it, or delete the file and pts writes it again."
        ) from error
    if fields is None:
        raise DataError(
            f"{card} has no YAML header between two lines of ---, which the Hub needs; "
            "add it, or delete the file and pts writes it again."
        )
    return text.encode()


def _parquet_rows(path: Path) -> int | None:
    """Rows of a Parquet file; None where there is none. Raises DataError for one that cannot be read."""
    if not path.exists():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); make or copy it again.") from error


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
