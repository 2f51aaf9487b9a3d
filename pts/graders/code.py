"""Answers that are programs, graded by the data set's own tests in a sandbox."""

from __future__ import annotations

import logging
from functools import lru_cache

from pts.graders.code_program import program_of
from pts.graders.code_tests import CodeTests
from pts.sandbox.isolation import LANDLOCK, SECCOMP, SandboxLimits
from pts.sandbox.run import Suite, Verdict, isolation, run_tests, run_with_input

_log = logging.getLogger(__name__)


class CodeGrader:
    """The completion's program passes every test of the reference answer (see `CodeTests`).

    Programs run in child processes with no network and no files but a fresh folder, under limits on time,
    memory, processes and output; `isolation` names what enforces that on this machine. Raises GraderError where
    nothing can.
    """

    def __init__(self, limits: SandboxLimits = SandboxLimits()) -> None:  # noqa: B008 (frozen)
        self.limits = limits
        self.isolation = isolation()
        missing = [name for name in (SECCOMP, LANDLOCK) if name not in self.isolation]
        if missing:
            _log.warning(
                "Programs that the model writes run with limited protection, by %s alone. Without "
                "%s they could read your files or use the network: run this in a container or a "
                "virtual machine.",
                " and ".join(self.isolation),
                " and ".join(missing),
            )
        else:
            _log.info("Programs run under %s.", ", ".join(self.isolation))

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer without tests, or with tests that are no Python or cannot fail."""
        CodeTests.from_answer(answer)

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the completion holds a program that passes every test in time."""
        return self.verdict(completion, answer).passed

    def verdict(self, completion: str, answer: str) -> Verdict:
        """As a call, with the reason of a failure."""
        tests = CodeTests.from_answer(answer)
        program = program_of(completion, tests)
        if program is None:
            return Verdict(False, "no program")
        return _verdict(program, tests, self.limits)


@lru_cache(maxsize=65_536)
def _verdict(program: str, tests: CodeTests, limits: SandboxLimits) -> Verdict:
    if tests.tests:
        verdict = run_tests(program, Suite(tests.tests, tests.setup, tests.entry_point), limits)
        if not verdict.passed:
            return verdict
    for number, example in enumerate(tests.examples, start=1):
        ran = run_with_input(program, example.input, limits)
        if ran.reason:
            return Verdict(False, f"example {number}: {ran.reason}")
        if _words(ran.output) != _words(example.output):
            return Verdict(False, f"example {number}: another output")
    return Verdict(True)


def _words(output: str) -> list[list[str]]:
    """The output's words by line: spacing at the ends of lines and of the output does not count."""
    return [line.split() for line in output.strip().split("\n")]


def held_in_by(grader: object) -> tuple[str, ...] | None:
    """What holds in the programs that a grader runs (`CodeGrader.isolation`); None for one that runs none."""
    inner = getattr(grader, "grader", grader)
    return inner.isolation if isinstance(inner, CodeGrader) else None
