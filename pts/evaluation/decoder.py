"""How completions are made and graded in a measurement: the same for all that is compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pts.models.load import LoadedModel
from pts.models.prompt import PromptFormat
from pts.pivot_search.config import Grade
from pts.policies import SteerablePolicy
from pts.policies.vllm.served import ServedModel
from pts.records import Sampling
from pts.steering.hooks import Variant
from pts.steering.steered_policy import steered_policy


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model with its sampler, prompt format and grader.

    `served` is the same model on another engine, which then makes the completions.
    `batch_rows` and `memory_bytes` are a policy's: rows of a batch, and what its caches may take.
    """

    loaded: LoadedModel
    sampling: Sampling
    prompt_format: PromptFormat
    grade: Grade
    batch_rows: int | None = None
    layers_path: str | None = None
    memory_bytes: int | None = None
    served: ServedModel | None = None

    @contextmanager
    def steered(self, variants: Sequence[Variant]) -> Iterator[SteerablePolicy]:
        """A policy whose requests may name `variants`, from 1 (0: not steered). No hook stays behind."""
        with steered_policy(
            self.served or self.loaded,
            self.prompt_format,
            variants,
            batch_rows=self.batch_rows,
            memory_bytes=self.memory_bytes,
            layers_path=self.layers_path,
        ) as policy:
            yield policy
