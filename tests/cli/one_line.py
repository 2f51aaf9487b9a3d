"""What every command does with bad input: one line on stderr, exit code 2, nothing on stdout."""

from pts.cli import run


def complaint(capsys, *arguments):
    """The one line that a command line ends with, its exit code being 2."""
    assert run(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pts: ")
    assert captured.err.count("\n") == 1
    return captured.err
