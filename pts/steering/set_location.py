"""Where a vector set is: a directory, one that comes with the package, or a repository of the Hub."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from pts.hub import why_unreachable
from pts.steering.vector_set import VectorError, VectorSet

TENSORS_NAME, JSON_NAME, RECORDS_NAME = "vectors.safetensors", "vectors.json", "records.parquet"
EXAMPLES_NAME = "examples.json"
ROUTER_NAMES = ("router.json", "router.safetensors")
"""The files of a router that is stored with a set (`pts.decoding.routers.files`)."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def set_directory(
    source: str | Path,
    revision: str | None = None,
    names: tuple[str, ...] = (TENSORS_NAME, JSON_NAME, *ROUTER_NAMES),
) -> Path:
    """The directory of a set given as `load_vectors` takes it, with its files downloaded where need be.

    Raises VectorError where there is none.
    """
    directory = Path(source).expanduser()
    bundled = not directory.is_dir() and str(source) in bundled_sets()
    if revision is not None and (bundled or directory.exists()):
        raise VectorError(f"{source} is not on the Hub and has no revisions: leave out {revision}.")
    if directory.is_dir():
        return directory
    if bundled:
        return _bundled() / str(source)
    if directory.exists():
        raise VectorError(
            f"{source} is a file; a vector set is a directory with {TENSORS_NAME} and {JSON_NAME}."
        )
    if not _HUB_ID.fullmatch(str(source)):
        raise VectorError(_neither(str(source)))
    return _download(str(source), revision, names)


def bundled_sets() -> list[str]:
    """Names of the vector sets that come with the package."""
    return sorted(path.parent.name for path in _bundled().glob(f"*/{JSON_NAME}"))


def source_of(vectors: VectorSet) -> str | None:
    """What `load_vectors` takes for a set that it loaded: a bundled one's name, or its directory; else None."""
    directory = vectors.directory
    if directory is None:
        return None
    return directory.name if directory == _bundled() / directory.name else str(directory)


def _bundled() -> Path:
    package = Path(str(files("pts")))
    installed = package / "_bundled" / "vectors"
    return installed if installed.is_dir() else package.parent / "vectors"


def _download(repo_id: str, revision: str | None, names: tuple[str, ...]) -> Path:
    """Files of a set from the Hub or its cache, a data set first, then a model. Raises VectorError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    unreachable = why_unreachable()
    for kind in ("dataset", "model"):
        try:
            return Path(
                snapshot_download(
                    repo_id,
                    repo_type=kind,
                    revision=revision,
                    allow_patterns=list(names),
                    local_files_only=unreachable is not None,
                )
            )
        except RepositoryNotFoundError:
            continue
        except HFValidationError as error:
            raise VectorError(_neither(repo_id)) from error
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            if unreachable is not None:
                continue
            raise VectorError(
                f"vector set {repo_id} is not a local directory, and the Hub does not provide it "
                f"({type(error).__name__}): check the name, the token and the connection."
            ) from error
    if unreachable is not None:
        raise VectorError(
            f"The hub cannot be reached for the vector set {repo_id} ({unreachable}), and it is not in the "
            "cache; check the name and the connection, or give a directory."
        )
    raise VectorError(
        f"vector set {repo_id} is neither a local directory nor a repository that you can see on the Hub."
    )


def _neither(source: str) -> str:
    return f"vector set {source} does not exist, and it is not a Hub id (owner/name)."
