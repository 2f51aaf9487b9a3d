"""The one hierarchy of errors that a user can meet. Each message says what was wrong and what to do."""


class PtsError(Exception):
    """What the command line turns into one line and exit code 2."""


class ModelError(PtsError):
    """A model, tokenizer, chat template or think tag that is missing or does not fit."""


class DataError(PtsError):
    """A data set, a field or a record that is missing or cannot be read."""


class GraderError(PtsError):
    """A grader that is unknown, or that cannot read a reference answer."""


class ConfigError(PtsError):
    """A setting outside its range, or two that contradict each other."""


class RunError(PtsError):
    """A run directory that is in use, holds something else, or could not be written."""


def one_line(error: BaseException, most: int = 200) -> str:
    """The first `most` characters of what an error says, on one line, without a final full stop."""
    return " ".join(str(error).split())[:most].rstrip(".") or type(error).__name__
