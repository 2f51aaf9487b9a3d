"""`pts verify`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, options_of
from pts.cli.shared_options import ENDPOINT, MODEL, PARALLEL, PROMPT, SAMPLER, Options
from pts.stages.verify.inputs import VerifyInputs

SOME_FAILED = 1
"""The exit code where a check failed."""

_OPTIONS: dict[str, Options] = {
    "Model": [*MODEL, *PARALLEL, *ENDPOINT],
    "Prompt": PROMPT,
    "Sampler": SAMPLER,
    "Checks": [
        (
            ("quick", "--quick"),
            "Make only the checks that a search makes first, in seconds.",
            {"is_flag": True},
        ),
    ],
}


@click.command("verify", cls=GroupedCommand)
@options_of(VerifyInputs, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings.")
def verify_command(as_json: bool, quiet: bool, **inputs: Any) -> int:
    """Check that a model draws, continues, ends and steers as a search counts on.

    It prints one line per check, to read or to paste into a report. The exit code is 1 where a check
    fails.
    """
    from pts.stages.verify.run import run_verification
    from pts.verification import CheckResult

    def observe(result: CheckResult) -> None:
        if not quiet and not as_json and sys.stderr.isatty():
            click.echo(f"pts: {result.name}: {result.status} in {result.seconds:.1f} s", err=True)

    log_to_stderr(0, quiet)
    report = run_verification(VerifyInputs(**inputs), observe)
    click.echo(json.dumps(report.to_json(), ensure_ascii=False) if as_json else report.text())
    return 0 if report.passed else SOME_FAILED
