"""What a run directory says of itself, and how two configurations are compared."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pts.errors import RunError
from pts.plugins import plugin_versions
from pts.records import SCHEMA_VERSION
from pts.runs.codec import JsonValue, ShapeError, from_json, to_json
from pts.runs.files import replace_text
from pts.version import __version__

MANIFEST_NAME = "manifest.json"
_EARLIER_NAMES = {"asked": "settings", "found": "resolved", "conditions": "environment"}
"""Names of three parts in the manifests of earlier versions, and their names now."""
_PACKAGES = ("torch", "transformers", "tokenizers", "jinja2", "numpy", "peft", "math-verify", "sympy")


@dataclass(frozen=True, slots=True)
class ProblemList:
    """Which problems a run covers: how many, and one digest over all of theirs, in order."""

    count: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A run's description, written before its first token.

    `settings` are the run's settings as given, and `resolved` is what they came to mean (the model's revision,
    the data set's kind). A run is continued only where both are equal. `environment` may differ between the
    sessions of one run (device, batch rows, spending limit, number of problems); it holds the latest.
    `problems` are those of the run, and `whole` those that it is a shard of; None where it is none. Times are
    UTC.
    """

    kind: str
    created: str
    settings: Mapping[str, object]
    resolved: Mapping[str, object]
    environment: Mapping[str, object]
    problems: ProblemList
    versions: Mapping[str, str]
    git_commit: str | None = None
    schema_version: int = SCHEMA_VERSION
    whole: ProblemList | None = None


def read_manifest(directory: Path) -> Manifest | None:
    """The directory's manifest, or None where it has none. Raises RunError for a file that is not ours."""
    path = directory / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read ({error}); name another directory.") from error
    try:
        data = json.loads(text)
        schema = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(schema, int) and schema > SCHEMA_VERSION:
            raise RunError(
                f"{directory} was written by a newer version of pts (schema {schema}); use "
                "that version to read it."
            )
        return from_json(Manifest, _with_names_of_now(data))
    except (ValueError, ShapeError) as error:
        raise RunError(
            f"{directory} is not a run that can be read ({MANIFEST_NAME}: {error}); name another directory."
        ) from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the directory's manifest in one step. Raises RunError where the system refuses."""
    text = json.dumps(to_json(manifest), ensure_ascii=False, indent=2, allow_nan=False)
    replace_text(directory / MANIFEST_NAME, text + "\n")


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """One entry "key old → new" for each key whose value differs, nested keys as `outer.inner`.

    Both are compared in their JSON form, so a tuple equals the list that it was written as.
    """
    before, after = _flat(to_json(old)), _flat(to_json(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key} {_shown(before, key)} → {_shown(after, key)}"
        for key in keys
        if key not in before or key not in after or before[key] != after[key]
    ]


def other_versions(earlier: Mapping[str, str]) -> list[str]:
    """The versions that a run recorded and that are others now, as `differences` says it."""
    return differences(earlier, {name: now for name, now in installed_versions().items() if name in earlier})


def list_problems(digests: Sequence[str]) -> ProblemList:
    """The list's description: its length and a SHA-256 over the digests in order."""
    return ProblemList(len(digests), text_digest(digests))


def text_digest(parts: Iterable[str]) -> str:
    """SHA-256 over texts in order, in hex, each ended by a zero byte so that no two lists share one."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() + b"\0")
    return sha.hexdigest()


def utc_now() -> str:
    """The time in UTC, to the second, in ISO 8601 with a Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def installed_versions() -> dict[str, str]:
    """The versions that bear on a run's numbers: pts, Python, and what computes, writes prompts or grades.

    Packages that add policies, graders, routers or strategies are among them.
    """
    found = {"pts": __version__, "python": platform.python_version(), **plugin_versions()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The checkout's commit where pts runs from one ("-dirty" where its files differ), else None."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _with_names_of_now(data: object) -> object:
    """A manifest's JSON value with the parts that earlier versions named otherwise under their names now."""
    if not isinstance(data, dict):
        return data
    return {_EARLIER_NAMES.get(key, key): value for key, value in data.items()}


def _flat(value: JsonValue, prefix: str = "") -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, JsonValue] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat


def _shown(values: Mapping[str, JsonValue], key: str) -> str:
    if key not in values:
        return "(absent)"
    text = json.dumps(values[key], ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
