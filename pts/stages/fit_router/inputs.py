"""The inputs of a router's fit, under the names of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pts.decoding.limits import ThinkingBudget
from pts.decoding.routers.protocol import EASY, HARD, NONE, ClassBudgets
from pts.errors import ConfigError
from pts.setting_names import setting

SHORT = 0.4
"""The short budget's share of the total where none is named: AutoThink's most for an easy question."""


@dataclass(frozen=True, slots=True)
class FitRouterInputs:
    """All inputs of a router's fit: the run directory of a search, and what to measure.

    `short` and `long` are tokens of thinking (None for 40% of the total, and for as long as the model likes);
    beside them there is no thinking at all. `vectors` is a set to fit for too, as `pts decode` steers by it by
    default; the router is stored with it where it is a directory, or in `output`. `problems` are drawn from
    what the search did not draw, `samples` completions of each and budget. `layer` and `token_price` (success
    per token) are None for fitted ones, `levels` for the search's. Raises ConfigError for a value
    outside its range.
    """

    run: Path
    vectors: str | None = None
    output: Path | None = None
    problems: int = 600
    samples: int = 4
    short: int | None = None
    long: int | None = None
    levels: tuple[int, ...] | None = None
    layer: int | None = None
    token_price: float | None = None
    seed: int = 0
    device: str = "auto"
    batch_rows: int | None = None
    trust_remote_code: bool = False
    layers_path: str | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in ("problems", "samples", "short", "long"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        if self.short is not None and self.long is not None and self.short >= self.long:
            raise ConfigError(
                f"the short budget of {self.short} tokens is not below the long one of {self.long}."
            )
        if self.token_price is not None and not 0 <= self.token_price < float("inf"):
            raise ConfigError(f"token-price is {self.token_price}; it must be 0 or more.")

    def directory(self) -> Path:
        """Where the router goes: `output`, the vector set's directory, or routers/<run's name>.

        Raises ConfigError where the set is not a directory of the user's own.
        """
        if self.output is not None:
            return self.output
        if self.vectors is None:
            return Path("routers") / self.run.resolve().name
        if not Path(self.vectors).expanduser().is_dir():
            raise ConfigError(
                f"the vector set {self.vectors} is no directory to store a router in; give {setting('output')}."
            )
        return Path(self.vectors).expanduser()

    def budgets(self) -> ClassBudgets:
        """What is measured: no thinking, the short budget and the long one."""
        short = SHORT if self.short is None else self.short
        return {
            NONE: ThinkingBudget(thinking=0),
            EASY: ThinkingBudget(thinking=short),
            HARD: ThinkingBudget(thinking=self.long),
        }

    def settings(self) -> dict[str, object]:
        """What decides the measurements and the fit, but for the model and the vectors."""
        free = (
            "run",
            "vectors",
            "output",
            "device",
            "batch_rows",
            "trust_remote_code",
            "fresh",
            "layer",
            "token_price",
        )
        return {name: getattr(self, name) for name in self.__slots__ if name not in free}
