"""The shards of one search: read, and found to be of one run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pts.errors import RunError
from pts.runs.codec import to_json
from pts.runs.manifest import Manifest, ProblemList, differences
from pts.runs.search_run import SearchEnvironment, SearchResults, read_search
from pts.runs.search_summary import search_summary
from pts.setting_names import setting
from pts.stages.search.share import SHARD, Share, read_share

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardRun:
    """A shard's run, and which of how many it is."""

    share: Share
    searched: SearchResults

    @property
    def path(self) -> Path:
        """The shard's run directory."""
        return self.searched.path

    @property
    def manifest(self) -> Manifest:
        """The shard's manifest."""
        return self.searched.manifest

    @property
    def settings(self) -> dict[str, object]:
        """Its settings, without which shard it is."""
        return {key: value for key, value in self.manifest.settings.items() if key != SHARD}


def read_shards(paths: Sequence[Path]) -> list[ShardRun]:
    """All shards of one run, in order.

    Raises RunError for a run that is no shard, for shards of different searches, and where one is missing or
    given twice.
    """
    runs = sorted(map(_read, paths), key=lambda run: run.share.number)
    for run in runs[1:]:
        _require_same_search(runs[0], run)
    for before, run in pairwise(runs):
        if before.share == run.share:
            raise RunError(f"{before.path} and {run.path} are both shard {run.share}: give each shard once.")
    _require_all(runs)
    return runs


def merged_manifest(runs: Sequence[ShardRun]) -> Manifest:
    """The manifest of the whole: created when the first shard was, with what all shards share."""
    first = min(runs, key=lambda run: run.manifest.created)
    return replace(
        first.manifest,
        settings=first.settings,
        environment=_environment(runs),
        problems=_whole(first),
        whole=None,
    )


def warn_of_differences(runs: Sequence[ShardRun]) -> None:
    """Log what differs between the shards and does not forbid to merge them, and which are not finished."""
    first = runs[0]
    for run in runs[1:]:
        changed = differences(first.manifest.versions, run.manifest.versions)
        devices = [each.searched.environment.device.partition(":")[0] for each in (first, run)]
        changed += [f"device {devices[0]} → {devices[1]}"] if devices[0] != devices[1] else []
        if changed:
            logger.warning("%s and %s had other versions: %s.", first.path, run.path, "; ".join(changed))
    for run in runs:
        summary = search_summary(run.searched)
        if summary.status != "complete":
            spent = summary.status == "spent"
            logger.warning(
                "%s is not finished: %d of its %d problems are done%s. A search of the merged run with the "
                "same settings, without %s, %s.",
                run.path,
                summary.done,
                summary.problems,
                f", and its part of {setting('max_tokens')} is spent" if spent else "",
                setting(SHARD),
                f"spends what other shards left; a larger {setting('max_tokens')} does more"
                if spent
                else "does the rest",
            )


def _read(path: Path) -> ShardRun:
    searched = read_search(path)
    named = searched.manifest.settings.get(SHARD)
    if not isinstance(named, str) or searched.manifest.whole is None:
        raise RunError(f"{path} is no shard: it was searched without {setting(SHARD)}, and is a run by itself.")
    return ShardRun(read_share(named), searched)


def _require_same_search(first: ShardRun, other: ShardRun) -> None:
    """Raise RunError, naming what differs, unless the two are shards of one search."""
    changed = differences(
        {**first.settings, "shards": first.share.shares}, {**other.settings, "shards": other.share.shares}
    )
    _require_none(changed, first, other, "other settings")
    _require_none(differences(_resolved(first), _resolved(other)), first, other, "another model or data")
    whole, others = _whole(first), _whole(other)
    if whole.count != others.count:
        raise RunError(
            f"{first.path} is a shard of {whole.count} problems and {other.path} of {others.count}: search "
            f"the shard with fewer again, with the same {setting('problems')}."
        )
    if whole != others:
        raise RunError(
            f"{other.path} is a shard of other problems than {first.path}: the data changed between the two."
        )


def _require_none(changed: Sequence[str], first: ShardRun, other: ShardRun, what: str) -> None:
    if changed:
        raise RunError(
            f"{other.path} was searched with {what} than {first.path} ({'; '.join(changed)}): only shards of "
            "one search can be merged."
        )


def _resolved(run: ShardRun) -> dict[str, object]:
    """What must be equal: the digest of a fixed prompt says whether the date that a template writes matters."""
    found: Mapping[str, object] = run.manifest.resolved
    unneeded = {"prompt_date"} if found.get("prompt_digest") is not None else set()
    return {key: value for key, value in found.items() if key not in unneeded}


def _require_all(runs: Sequence[ShardRun]) -> None:
    shares = runs[0].share.shares
    there = {run.share.number for run in runs}
    missing = [str(Share(number, shares)) for number in range(1, shares + 1) if number not in there]
    if missing:
        named = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        raise RunError(
            f"{len(missing)} of {shares} shards are missing ({named}): give their run directories, too, or "
            f"search them with {setting(SHARD, missing[0])}."
        )


def _whole(run: ShardRun) -> ProblemList:
    assert run.manifest.whole is not None
    return run.manifest.whole


def _environment(runs: Sequence[ShardRun]) -> Mapping[str, object]:
    each = [run.searched.environment for run in runs]
    limits = [environment.limit for environment in each]
    tokens = [environment.max_tokens for environment in each]
    sandboxes = [environment.sandbox for environment in each if environment.sandbox is not None]
    # What held in the programs of all shards.
    held = [name for name in sandboxes[0] if all(name in other for other in sandboxes)] if sandboxes else None
    environment = SearchEnvironment(
        each[0].device,
        each[0].batch_rows,
        None if None in tokens else sum(limit for limit in tokens if limit is not None),
        None if None in limits else max(limit for limit in limits if limit is not None),
        None if held is None else tuple(held),
    )
    values = to_json(environment)
    assert isinstance(values, dict)
    return values
