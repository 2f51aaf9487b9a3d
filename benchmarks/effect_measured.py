"""Effects of vectors on the same problems, each beside the model without one, as `real_effect.py` prints."""

from __future__ import annotations

from dataclasses import dataclass

from pts.calibration.settings import Setting
from pts.evaluation.outcomes import Outcomes
from pts.stats import bootstrap_mean_interval


@dataclass(frozen=True, slots=True)
class Measured:
    """Outcomes on the same problems with the same random numbers: without a vector, and with each by name."""

    unsteered: Outcomes
    steered: dict[str, Outcomes]

    def effect(self, name: str) -> float:
        return self.steered[name].success - self.unsteered.success

    def interval(self, name: str, seed: int) -> tuple[float, float]:
        return bootstrap_mean_interval(self.steered[name].rates - self.unsteered.rates, 0.95, seed)

    def error(self, name: str) -> float:
        """Standard error of an effect."""
        differences = self.steered[name].rates - self.unsteered.rates
        return float(differences.std(ddof=1) / len(differences) ** 0.5)

    def print_rows(self, chosen: dict[str, Setting], seed: int) -> None:
        count, unsteered = len(self.unsteered.successes), self.unsteered
        print(
            f"{count} untouched problems x {unsteered.samples}: success {unsteered.success:.3f} unsteered, "
            f"{unsteered.tokens_each:.0f} tokens, {unsteered.cut_share:.1%} cut"
        )
        print(f"{'':24s}layer strength gate     success   effect         interval   tokens     cut")
        for name, found in self.steered.items():
            low, high = self.interval(name, seed)
            print(
                f"{name:24s}{chosen[name].layer:5d}{chosen[name].strength:+9.1f} {chosen[name].gate:8s}"
                f"{found.success:8.3f}{self.effect(name):+9.3f}   {low:+.3f} to {high:+.3f}"
                f"{found.tokens_each:9.0f}{found.cut_share:8.1%}"
            )
