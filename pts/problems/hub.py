"""Rows of a data set on the Hugging Face Hub, or of its copy in the cache."""

from __future__ import annotations

from collections.abc import Iterator

from pts.data_files import FileRow
from pts.errors import DataError, one_line
from pts.problems.files import loaded_rows
from pts.problems.source import ProblemSource
from pts.setting_names import setting

_ANSWERS_WITHIN = 15.0


def hub_rows(source: ProblemSource) -> Iterator[FileRow]:
    """The rows of a hub data set. No code of the data set's is run.

    Raises DataError where the hub does not answer or has no such data set, configuration or split.
    """
    import datasets

    check_reachable(source)
    split = source.split
    try:
        loaded = datasets.load_dataset(source.dataset, source.config, split=None, revision=source.revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DataError(
            f"The Hub has no data set {source.dataset}: {one_line(error)}; check the name."
        ) from error
    except ConnectionError as error:
        raise DataError(f"{one_line(error)}; {_instead()}.") from error
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
        # An unknown or missing configuration (the message lists them), a loading script, broken files.
        raise DataError(
            f"The data set {source.dataset} cannot be loaded ({one_line(error)}); choose a "
            f"configuration with {setting('config')}, or use a local file."
        ) from error
    return loaded_rows(loaded, source.dataset, split)


def check_reachable(source: ProblemSource) -> None:
    """One quick question to the hub, where loading would retry for half a minute and then be vague.

    Asks nothing under HF_HUB_OFFLINE. Raises DataError as `hub_rows` does.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub import errors as hub

    if constants.HF_HUB_OFFLINE:
        return
    # HTTPError is that of whichever httpx the hub client is built on.
    unreachable = (hub.HTTPError, OSError)  # type: ignore[attr-defined]
    name = source.dataset
    try:
        HfApi().dataset_info(name, revision=source.revision, timeout=_ANSWERS_WITHIN)
    except hub.HFValidationError as error:
        raise DataError(
            f"{name!r} is neither a local file nor a Hub id; check it, or try {setting('dataset', 'demo')}."
        ) from error
    except hub.GatedRepoError as error:
        raise DataError(f"The data set {name} is gated: accept its terms on the Hub and log in.") from error
    except hub.RevisionNotFoundError as error:
        raise DataError(
            f"The data set {name} has no revision {source.revision!r}; leave {setting('dataset_revision')} out."
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise DataError(
            f"There is no data set {name}, neither as a local file nor on the Hub (or it is "
            f"private: log in); check the name, or try {setting('dataset', 'demo')}."
        ) from error
    except unreachable as error:
        raise DataError(
            f"The Hub cannot be reached for the data set {name} ({one_line(error)}); {_instead()}."
        ) from error


def _instead() -> str:
    """What to do where the hub cannot be reached."""
    return (
        f"try a local .jsonl, .csv or .parquet file, {setting('dataset', 'demo')}, or a copy in the cache with "
        "HF_HUB_OFFLINE=1"
    )
