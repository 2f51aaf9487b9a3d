"""The inputs of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pts.errors import ConfigError
from pts.setting_names import setting


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """All inputs of a report: the keys of a recipe, and the options of `pts report`.

    `paths` is the directory of what is shown, or those of two searches to show side by side. `output` is the
    file, None to name it after them. With `vectors` (a directory, a Hub id or "demo") the completions of a
    search are read once more, with the set and without; `pattern` maps patterns to multiples of their
    calibrated strengths (None: the first at 1.0), and the other settings say how the model is loaded. Raises
    ConfigError for what contradicts itself.
    """

    paths: Path | tuple[Path, ...]
    output: Path | None = None
    vectors: str | None = None
    pattern: Mapping[str, float] | None = None
    same_shape: bool = False
    device: str = "auto"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError(f"there is nothing to show: give the directory of a run ({setting('paths')}).")
        if self.vectors is not None:
            if len(self.sources) > 1:
                raise ConfigError(
                    f"{setting('vectors')} steers the completions of one search, and {len(self.sources)} "
                    "directories were given: make a report of each."
                )
            return
        for name, given in (
            ("pattern", self.pattern is not None),
            ("same_shape", self.same_shape),
            ("device", self.device != "auto"),
            ("trust_remote_code", self.trust_remote_code),
        ):
            if given:
                raise ConfigError(
                    f"{setting(name)} is for completions that are steered: name the set with "
                    f"{setting('vectors')}, or leave it out."
                )

    @property
    def sources(self) -> tuple[Path, ...]:
        """The directories."""
        paths = self.paths if isinstance(self.paths, tuple) else (self.paths,)
        return tuple(path.expanduser() for path in paths)
