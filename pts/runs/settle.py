"""The manifest of a session: written for a new run, checked and brought up to date for one that goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from pts.runs.codec import to_json
from pts.runs.directory import RunDirectory
from pts.runs.manifest import (
    Manifest,
    ProblemList,
    git_commit,
    installed_versions,
    list_problems,
    other_versions,
    utc_now,
)

logger = logging.getLogger(__name__)


def settle_manifest(
    directory: RunDirectory,
    *,
    settings: Mapping[str, object],
    resolved: object,
    environment: object,
    problems: Sequence[str],
    whole: Sequence[str] | None = None,
    fresh: bool = False,
) -> Manifest:
    """Write the manifest of a new run, or bring that of the run that goes on up to date, and return it.

    `settings` have been compared with the earlier ones by the caller. `resolved` and `environment` are values
    with a JSON form (`pts.runs.codec.to_json`), and `problems` the problems' digests in order;
    `whole` are those of all shards where the run is one of several. A run that goes on keeps its time of
    creation and the longer lists of problems; other versions of packages are logged. With `fresh`, the run that
    is there is deleted first. Raises RunError where the model or the data are no longer what they were.
    """
    earlier = None if fresh else directory.manifest
    resolved_json, environment_json = to_json(resolved), to_json(environment)
    assert isinstance(resolved_json, dict)
    assert isinstance(environment_json, dict)
    if earlier is not None:
        directory.require_same_resolved(earlier.resolved, resolved_json)
        changed = other_versions(earlier.versions)
        if changed:
            logger.warning("%s continues with other versions: %s.", directory.path, "; ".join(changed))
    elif directory.manifest is not None:
        directory.clear()
    manifest = Manifest(
        kind=directory.kind.name,
        created=utc_now() if earlier is None else earlier.created,
        settings=settings,
        resolved=resolved_json,
        environment=environment_json,
        problems=_longer(list_problems(problems), None if earlier is None else earlier.problems),
        versions=installed_versions(),
        git_commit=git_commit(),
        whole=None
        if whole is None
        else _longer(list_problems(whole), None if earlier is None else earlier.whole),
    )
    directory.write_manifest(manifest)
    return manifest


def _longer(now: ProblemList, earlier: ProblemList | None) -> ProblemList:
    return now if earlier is None or now.count >= earlier.count else earlier
