"""The inputs of a merge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pts.errors import ConfigError
from pts.setting_names import setting


@dataclass(frozen=True, slots=True)
class MergeInputs:
    """All inputs of a merge: the keys of a recipe, and the options of `pts merge`.

    `runs` are the run directories of the shards, in any order, and `output` is that of the whole. `fresh`
    deletes the run that is there first. Raises ConfigError where there is nothing to merge, or nowhere to
    write it.
    """

    runs: tuple[Path, ...]
    output: Path
    fresh: bool = False

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError(
                f"there is nothing to merge: give the run directories of all shards ({setting('runs')})."
            )
        if self.output.resolve() in {path.resolve() for path in self.runs}:
            raise ConfigError(f"{self.output} is one of the shards; give another {setting('output')}.")

    def directory(self) -> Path:
        """The run directory of the whole."""
        return self.output
