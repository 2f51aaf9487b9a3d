"""The inputs of a search, under the names of the command line and of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pts.errors import ConfigError
from pts.pivot_search.config import SearchConfig, SearchUnit, SentenceMeasure
from pts.policies.open import TRANSFORMERS
from pts.runs.codec import to_json
from pts.setting_names import setting
from pts.stages.search.share import SHARD, Share, read_share
from pts.stages.shared.inputs import ProblemInputs, require_one_engine
from pts.stages.shared.parallel_inputs import ParallelInputs
from pts.stages.shared.ray_inputs import RayInputs

_SEARCH = SearchConfig()


@dataclass(frozen=True)
class SearchInputs(ParallelInputs, RayInputs, ProblemInputs):
    """All inputs of a search, under the names of the command line's options and a recipe's keys.

    `range` bounds the prompt's value and `region` the searched part of each trace, as fractions; `max_tokens`
    (generated tokens) bounds the run, with all its shards, None for no bound; `unit` is token, sentence or
    both; `different` says by what a sentence counts as another one, words or embedding; `shard` is the share of
    the problems to search, as I/K. `output` is None for runs/<model>-<dataset>, with the shard. `fresh` deletes
    an earlier run of the same directory first. `verify` checks the policy before it is searched. Raises
    ConfigError for a value outside its range.
    """

    threshold: float = _SEARCH.threshold
    fdr: float = _SEARCH.fdr
    range: tuple[float, float] = _SEARCH.value_range
    traces: int = _SEARCH.traces
    traces_from: Path | None = None
    region: tuple[float, float] = _SEARCH.region
    max_tokens: int | None = None
    audit: float = _SEARCH.audit
    unit: str = _SEARCH.unit
    different: str = _SEARCH.different
    shard: str | None = None
    output: Path | None = None
    fresh: bool = False
    verify: bool = True

    def __post_init__(self) -> None:
        ProblemInputs.__post_init__(self)
        self.search_config()
        if self.temperature == 0 or self.top_k == 1:
            raise ConfigError(
                "with temperature 0 the model always gives the same completion, so no token "
                "can be pivotal: give a temperature above 0."
            )
        if self.different == "embedding" and self.engine != TRANSFORMERS:
            raise ConfigError(
                f"{setting('different', 'embedding')} needs {setting('engine', TRANSFORMERS)}: the engine "
                f"{self.engine} reads no residual stream in a search."
            )
        self.check_parallel(self.engine, self.endpoint)
        self.check_ray(self.device, self.model)
        if self.tensor_parallel is not None and self.gpus_per_worker:
            raise ConfigError(
                f"a worker has as many GPUs as {setting('tensor_parallel')} says: leave "
                f"{setting('gpus_per_worker')} out."
            )
        require_one_engine(self.endpoint, self.ray)
        if self.workers is not None and self.problems is not None and self.workers > self.problems:
            raise ConfigError(
                f"{self.workers} workers are more than the {self.problems} problems: give at most "
                f"{setting('workers', self.problems)}."
            )

    @property
    def gpus_of_engine(self) -> int:
        """GPUs that one engine has, where there are any."""
        return self.tensor_parallel or 1

    @property
    def share(self) -> Share | None:
        """The share of the problems that `shard` names; None for all. Raises ConfigError."""
        return None if self.shard is None else read_share(self.shard)

    @property
    def token_limit(self) -> int | None:
        """Tokens that this run may generate: `max_tokens`, or the shard's part of it. Raises ConfigError."""
        share, whole = self.share, self.max_tokens
        if share is None or whole is None:
            return whole
        if whole < share.shares:
            raise ConfigError(
                f"{setting('max_tokens', whole)} limits all {share.shares} shards together, and is less than a "
                "token for each: give a larger one."
            )
        return share.part(whole)

    def search_config(self) -> SearchConfig:
        """The settings of the search itself. Raises ConfigError for a value outside its range."""
        return SearchConfig(
            *(self.threshold, self.fdr, self.range, self.traces, self.region, self.token_limit, self.seed),
            sampling=self.sampling(),
            audit=self.audit,
            unit=cast(SearchUnit, self.unit),
            different=cast(SentenceMeasure, self.different),
        )

    def directory(self) -> Path:
        """The run directory: `output`, or runs/<model>-<dataset>, with the shard where one is given."""
        if self.output is not None:
            return self.output
        named, share = self.named_directory("runs"), self.share
        if share is None:
            return named
        return named.with_name(f"{named.name}-shard-{share.number}-of-{share.shares}")

    def settings(self) -> dict[str, object]:
        """The configuration that every session of a run shares, as the manifest holds it."""
        search = to_json(self.search_config())
        assert isinstance(search, dict)
        del search["max_tokens"], search["sampling"]
        if self.unit == _SEARCH.unit:
            del search["unit"]  # Runs of earlier versions have none.
        if self.different == _SEARCH.different:
            del search["different"]
        settings = {**self.configuration(), "sampling": self.sampling_settings(), "search": search}
        return settings if self.share is None else {**settings, SHARD: str(self.share)}
