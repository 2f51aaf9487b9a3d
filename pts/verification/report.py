"""What checks found, as lines to read, to paste into a report, and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["passed", "failed", "skipped"]

_MARKS: Mapping[Status, str] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: `figures` says in one line what was measured, or why it was skipped."""

    name: str
    status: Status
    figures: str
    seconds: float = 0.0

    def line(self) -> str:
        """The result as one line."""
        return f"{_MARKS[self.status]:<8} {self.name:<20} {self.figures}"


def judged(name: str, good: bool, figures: str) -> CheckResult:
    """A check that passed where `good`, and failed otherwise."""
    return CheckResult(name, "passed" if good else "failed", figures)


def skipped(name: str, reason: str) -> CheckResult:
    """A check that could not be made, with the reason."""
    return CheckResult(name, "skipped", reason)


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The results of all checks on one model and engine.

    `subject` says what was checked, `versions` are those of the packages that decide its numbers.

        report = verify(subject_of(policy))
        print(report.text())
    """

    subject: Mapping[str, object]
    versions: Mapping[str, str]
    checks: tuple[CheckResult, ...] = field(default=())

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def seconds(self) -> float:
        """How long the checks took together."""
        return sum(check.seconds for check in self.checks)

    def text(self) -> str:
        """The whole report as plain text, ready to paste."""
        about = ", ".join(f"{name} {value}" for name, value in self.subject.items() if value is not None)
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        counts = {status: sum(check.status == status for check in self.checks) for status in _MARKS}
        summary = f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"
        lines = [
            about,
            versions,
            *(check.line() for check in self.checks),
            f"{summary} in {self.seconds:.0f} s",
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The report as a JSON object."""
        return {
            "passed": self.passed,
            "subject": dict(self.subject),
            "versions": dict(self.versions),
            "checks": [
                {"name": check.name, "status": check.status, "figures": check.figures, "seconds": check.seconds}
                for check in self.checks
            ],
        }
