"""The command `pts`: errors become one line and an exit code, an interrupt leaves a run that goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pts.cli.interrupts import Stopped, quiet_from_now_on, stop_on_signals
from pts.errors import PtsError

BAD_INPUT = 2


def main() -> None:
    """The entry point: runs the command that the arguments name, and exits."""
    stop_on_signals()
    try:
        code = run(sys.argv[1:])
    except Stopped as stopped:
        # Ctrl-C before a command began or after it ended.
        code = _stopped(stopped)
    quiet_from_now_on()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code: 0, 2 for bad input, 128 + the signal's number when stopped."""
    import click

    from pts.cli.commands import cli

    try:
        returned = cli.main(list(arguments), prog_name="pts", standalone_mode=False)
        sys.stdout.flush()
        return returned if isinstance(returned, int) else 0
    except Stopped as stopped:
        return _stopped(stopped)
    except PtsError as error:
        return _complain(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return BAD_INPUT
    except click.ClickException as error:
        return _complain(error.format_message())
    except BrokenPipeError:
        # Whoever read the output has enough; the interpreter must not find the pipe broken again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _complain(message: str) -> int:
    print("pts:", " ".join(message.split()), file=sys.stderr)
    return BAD_INPUT


def _stopped(stopped: Stopped) -> int:
    quiet_from_now_on()
    print("pts: stopped;", stopped.note, file=sys.stderr)
    return 128 + stopped.signal_number
