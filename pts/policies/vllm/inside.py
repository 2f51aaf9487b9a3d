"""What `pts` has added to a running vLLM engine: draws of its own, steering, residual streams."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pts.errors import ConfigError, ModelError
from pts.policies.guide import StepSteering
from pts.policies.vllm.batch import DRAWN, LABEL
from pts.policies.vllm.drawing import Drawer, Drawing
from pts.policies.vllm.passes import Passes, Recording
from pts.policies.vllm.pump import Call, Line
from pts.policies.vllm.start import Started


class Inside:
    """The engine's additions, found and held to be there.

    `proved` says whether a steered row was seen to move in this engine. Raises ModelError where the engine did
    not load the additions, runs elsewhere, or has another model runner than it says.
    """

    def __init__(self, started: Started) -> None:
        self.proved = False
        self._started = started
        self._labels = 0
        self._steering: StepSteering | None = None
        self._contexts = 0
        self._drawer = Drawer()
        self._lines: dict[str, Line[Any]] = {}
        runner = "V2" if self._call("pts_is_v2") else "V1"
        if runner != started.runner:
            raise ModelError(
                f"vLLM runs its model runner {runner} where it says {started.runner}: use transformers."
            )
        if self._call("pts_process") != os.getpid():
            raise ModelError("vLLM's worker runs in another process, where pts cannot steer: use transformers.")
        processors = self._call("pts_give", self._drawer)
        if processors != 1:
            raise ModelError(
                f"vLLM has loaded {processors} of pts's logits processors, not one: use transformers."
            )
        config = started.config.get_text_config(decoder=True)
        self._passes: Passes | None = None
        if started.eager:
            self._passes = Passes(
                self._call("pts_model"), int(config.num_hidden_layers), lambda: self._call("pts_rows")
            )

    @property
    def passes(self) -> Passes:
        """The hooks on the model. Raises ConfigError where its passes go by compiled graphs."""
        if self._passes is None:
            raise ConfigError(
                "vLLM runs compiled graphs, which go by the hooks that steer and read a model: open the engine "
                "with eager=True."
            )
        return self._passes

    @property
    def layers(self) -> int:
        """The model's decoder blocks."""
        return len(self.passes.blocks)

    def hooks(self) -> int:
        """How many hooks are on the model's modules."""
        modules = self.passes.model.modules()
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)

    def require_variant(self, variant: int) -> None:
        """Raise ValueError for a variant while nothing is steered."""
        if variant and self._steering is None:
            raise ValueError(f"a request names variant {variant} of a policy that has none.")

    @contextmanager
    def steered(self, steering: StepSteering) -> Iterator[None]:
        """Have `steering` hear of every pass while the context lasts."""
        if self._steering is not None:
            raise ValueError("the policy is steered already: leave that context first.")
        with self.passes.steered(steering):
            self._steering, self._contexts = steering, self._contexts + 1
            try:
                yield
            finally:
                self._steering = None

    @contextmanager
    def recording(self, layers: Sequence[int]) -> Iterator[Recording]:
        """Record residual streams after layers. Raises ConfigError for a layer that there is not."""
        blocks = self.passes.blocks
        outside = [layer for layer in layers if not 0 <= layer < len(blocks)]
        if outside:
            raise ConfigError(
                f"layer {outside[0]} is out of range: the model has decoder layers 0 to {len(blocks) - 1}."
            )
        with self.passes.recording(layers) as record:
            yield record

    def label(self) -> str:
        """A new name for a completion."""
        self._labels += 1
        return str(self._labels)

    def begin(self, drawing: Drawing, line: Line[Any]) -> None:
        """Put a completion under way whose tokens `pts` draws."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        label, sampling = self.label(), drawing.request.sampling
        params = SamplingParams(
            temperature=0.0,
            max_tokens=sampling.budget - len(drawing.given),
            stop_token_ids=sorted(drawing.ends.token_ids),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={LABEL: label, DRAWN: True},
        )
        self._drawer.under_way[label] = drawing
        self._lines[label] = line
        drawing.label = label
        if drawing.followed is not None:
            self.passes.followed[label] = drawing.followed
        call = Call(drawing, stops=drawing.hear)
        line.add(call, drawing.request.prompt + drawing.given, params, self._salt(drawing, label))

    def forget(self, line: Line[Any]) -> None:
        """Let go of the completions of a line that is closed."""
        for label in [label for label, asker in self._lines.items() if asker is line]:
            self.end(label)

    def end(self, label: str) -> None:
        """Let go of a completion that is done."""
        del self._lines[label], self._drawer.under_way[label]
        if self._passes is not None:
            self._passes.followed.pop(label, None)

    def _salt(self, drawing: Drawing, label: str) -> str | None:
        """By what a steered completion's cached tokens are kept apart; None for one that is not steered.

        Of a guided one every completion is kept to itself: where it steers is not known beforehand.
        """
        if drawing.followed is None:
            return None
        own = "" if drawing.guide is None else f" {label}"
        request = drawing.request
        return f"pts {self._contexts} {request.variant} {len(request.prompt)}{own}"

    def _call(self, method: str, *args: Any) -> Any:
        """What a method of the worker's extension returns."""
        try:
            (found,) = self._started.engine.collective_rpc(method, args=args)
        except (AttributeError, NotImplementedError) as error:
            raise ModelError(
                "vLLM did not load what pts adds to its worker: use the engine transformers."
            ) from error
        return found
