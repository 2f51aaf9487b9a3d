"""The stage `merge`: from the shards of a search to the run that one process would have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

from pts.errors import RunError
from pts.runs.directory import RunDirectory, open_run
from pts.runs.files import replace_file
from pts.runs.manifest import Manifest, differences
from pts.runs.rollout_parts import copy_parts, read_parts
from pts.runs.search_run import ROLLOUTS, SEARCH, read_search
from pts.runs.search_summary import SearchSummary, search_summary
from pts.setting_names import setting
from pts.stages.merge.inputs import MergeInputs
from pts.stages.merge.shards import ShardRun, merged_manifest, read_shards, warn_of_differences
from pts.stages.search.derived import write_derived
from pts.stages.stage import State


def run_merge(inputs: MergeInputs) -> SearchSummary:
    """Put the shards together in `output`, and return the summary of the whole.

    What is there already is left as it is where it is the whole, and written again where shards have more than
    it has. Raises RunError where it holds anything that no shard has, unless `fresh`.
    """
    runs = read_shards(inputs.runs)
    with open_run(inputs.output, SEARCH) as directory:
        if inputs.fresh or compared(inputs.output, directory.manifest, runs) != "complete":
            warn_of_differences(runs)
            _write(directory, runs)
        return write_derived(directory)


def compared(output: Path, manifest: Manifest | None, runs: Sequence[ShardRun]) -> State:
    """How the run in `output` compares with the shards: new, begun or complete.

    Raises RunError where it is of another search, or holds anything that no shard has.
    """
    if manifest is None:
        return "new"
    wanted = merged_manifest(runs)
    changed = differences(manifest.settings, wanted.settings) or differences(manifest.resolved, wanted.resolved)
    if changed:
        raise RunError(f"{output} holds another run than these shards ({'; '.join(changed)}). {_other()}")
    here, there = _lines([output]), _lines([run.path for run in runs])
    paid_here, paid_there = _tokens([output]), _tokens([run.path for run in runs])
    if set(here) - set(there) or any(tokens > paid_there[key] for key, tokens in paid_here.items()):
        raise RunError(
            f"{output} was searched on after it was merged: it has results that no shard has, which a merge "
            f"would delete. {_other()}"
        )
    same = len(here) == len(there) and paid_here == paid_there and manifest.problems == wanted.problems
    return "complete" if same else "begun"


def _other() -> str:
    return f"Give another {setting('output')}, or {setting('fresh', True)} to delete that run and merge again."


def _write(directory: RunDirectory, runs: Sequence[ShardRun]) -> None:
    """The manifest first: what a kill leaves is a run of fewer results, which the next merge writes again."""
    if directory.manifest is not None:
        directory.clear()
    directory.write_manifest(merged_manifest(runs))
    # First the rollouts: whoever reads a result may count on them.
    copy_parts([run.path / ROLLOUTS for run in runs], directory.path / ROLLOUTS)
    data = b"".join(_lines([run.path for run in runs]))
    replace_file(directory.shard, lambda temporary: temporary.write_bytes(data))


def _lines(paths: Sequence[Path]) -> list[bytes]:
    """The whole lines of the runs' results, in turn: each problem's in the order in which they were written."""
    files = [path / SEARCH.shard for path in paths]
    each = [
        [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        for file in files
        if file.exists()
    ]
    return [line for line in chain.from_iterable(zip_longest(*each)) if line is not None]


def _tokens(paths: Sequence[Path]) -> Counter[str]:
    """Generated tokens of the recorded rollouts, by problem."""
    counted: Counter[str] = Counter()
    for path in paths:
        for table in read_parts(path / ROLLOUTS, ["problem", "tokens"]):
            for row in table.group_by("problem").aggregate([("tokens", "sum")]).to_pylist():
                counted[row["problem"]] += row["tokens_sum"]
    return counted


def merged_content(output: Path) -> str:
    """What there is of a merged run, in words. Raises RunError."""
    summary = search_summary(read_search(output))
    return f"{summary.done} of {summary.problems} problems done"
