"""The inputs of an extraction of vectors, under the names of the command line and of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pts.errors import ConfigError
from pts.policies.open import ENGINES, TRANSFORMERS
from pts.ranks import controls_needed
from pts.setting_names import setting
from pts.stages.shared.inputs import check_endpoint, require_one_engine, server_options
from pts.stages.shared.ray_inputs import RayInputs

METHODS = ("preference", "gradient", "decision", "contrast", "pca", "logistic", "ridge", "screened", "outcome")
FROM_ROLLOUTS = ("screened", "outcome")
"""The methods that read the search's journal."""
TOGETHER = ("preference", "outcome")
"""The methods that can train vectors of several layers together."""
GATES = ("probe", "entropy", "tokens", "always")
LAYERS_GATES = ("tokens", "always")
"""Those that are fitted to no layer."""

PatternsBy: TypeAlias = Literal["auto", "clusters", "labels"]
PATTERNS_BY: tuple[PatternsBy, ...] = get_args(PatternsBy)
"""What divides the pairs into patterns."""

Part: TypeAlias = Literal["harvest", "cluster", "calibrate"]
PARTS: tuple[Part, ...] = get_args(Part)
"""The parts of an extraction, in order."""


@dataclass(frozen=True)
class ExtractInputs(RayInputs):
    """All inputs of an extraction: a search's run directory, and how vectors are made of it and chosen.

    `layers` are those that calibration tries (None for three around the middle; all are harvested), `strengths`
    are in multiples of the residual stream's mean norm, each tried with both signs. `together` adds a vector at
    each of the layers (None for all), trained together; a strength is then the sum over them, and `gates` are
    those of no single layer. `patterns` says what the
    patterns are: clusters of the contrasts, labels by the words at the pivots (of `lexicon`), or clusters where
    the contrasts have structure and labels where they have none. `calibration_problems` and
    `test_problems` are drawn from what the search did not draw, `samples` and `test_samples` completions of
    each. `random` directions go through the same calibration as controls (None for as many as a claim at 5%
    needs, 19 with one of `methods` and 20 more for each other). `engine` makes the completions of calibration
    and test, on a server that runs already where `endpoint` names one, as of a search; what the directions are
    made of is always read by transformers. `divergence` says whether to
    measure how far steering moves the model's distributions: some completions more, each read twice. `output`
    is None for vectors/<run's name>; `until` is the last part to do, so that an extraction can stop early and
    go on another time. Raises ConfigError for a value outside its range.
    """

    run: Path
    output: Path | None = None
    methods: tuple[str, ...] = ("preference",)
    layers: tuple[int, ...] | None = None
    together: bool = False
    strengths: tuple[float, ...] = (0.2, 0.4, 0.8)
    gates: tuple[str, ...] = GATES
    patterns: PatternsBy = "auto"
    lexicon: Path | None = None
    calibration_problems: int = 96
    test_problems: int = 256
    samples: int = 4
    test_samples: int = 8
    random: int | None = None
    seed: int = 0
    engine: str = "transformers"
    endpoint: str | None = None
    endpoint_timeout: float | None = None
    device: str = "auto"
    batch_rows: int | None = None
    trust_remote_code: bool = False
    layers_path: str | None = None
    divergence: bool = True
    until: Part = "calibrate"
    fresh: bool = False

    def __post_init__(self) -> None:
        self.check_ray(self.device, None)
        if self.engine not in ENGINES:
            raise ConfigError(f"engine is {self.engine}; choose from {', '.join(ENGINES)}.")
        check_endpoint(self.engine, self.endpoint, self.endpoint_timeout)
        require_one_engine(self.endpoint, self.ray)
        for name, given, known in (("methods", self.methods, METHODS), ("gates", self.gates, GATES)):
            unknown = [entry for entry in given if entry not in known]
            if unknown or not given:
                raise ConfigError(
                    f"{name} has {unknown[0] if unknown else 'nothing'}; choose from {', '.join(known)}."
                )
        if self.together:
            self._check_together()
        if self.patterns not in PATTERNS_BY:
            raise ConfigError(f"patterns is {self.patterns}; choose from {', '.join(PATTERNS_BY)}.")
        for name in ("calibration_problems", "test_problems", "samples", "test_samples", "random"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name.replace('_', '-')} is {value}; it must be at least 1.")
        if not self.strengths or not all(0 < strength < float("inf") for strength in self.strengths):
            raise ConfigError(f"strengths are {self.strengths}; each must be above 0.")

    def _check_together(self) -> None:
        """Raise ConfigError for a method or gate that is of one layer."""
        for name, given, known in (
            ("methods", self.methods, TOGETHER),
            ("gates", self.tried_gates(), LAYERS_GATES),
        ):
            apart = [entry for entry in given if entry not in known]
            if apart:
                raise ConfigError(
                    f"{name} has {apart[0]}, which is of one layer: with {setting('together')} choose from "
                    f"{', '.join(known)}."
                )

    def tried_gates(self) -> tuple[str, ...]:
        """The gates that calibration tries: `gates`, and where these are all, those that fit `together`."""
        return LAYERS_GATES if self.together and self.gates == GATES else self.gates

    def server(self) -> dict[str, object]:
        """The server that generates, as options of its policy; empty where the engine is in this process."""
        return server_options(self.endpoint, self.endpoint_timeout)

    def controls(self) -> int:
        """How many random directions: `random`, or as many as the claim of a first rank needs."""
        return controls_needed(len(self.methods)) if self.random is None else self.random

    def directory(self) -> Path:
        """Where the vector set goes: `output`, or vectors/<run's name>."""
        return self.output or Path("vectors") / self.run.resolve().name

    def settings(self) -> dict[str, object]:
        """What decides the result, as the manifest holds it."""
        free = (
            "run",
            "output",
            "endpoint",
            "endpoint_timeout",
            "device",
            "batch_rows",
            "trust_remote_code",
            "divergence",
            "until",
            "fresh",
            "lexicon",
            *(each.name for each in fields(RayInputs)),
        )
        settings = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in free}
        # Manifests have called the methods "ways" from the first version on.
        settings["ways"] = settings.pop("methods")
        # Only where it is another one, so that earlier extractions continue.
        if settings["engine"] == TRANSFORMERS:
            del settings["engine"]
        if not settings["together"]:
            del settings["together"]
        return {**settings, "random": self.controls()}
