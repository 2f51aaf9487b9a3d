"""`pts.extract_vectors`, `pts.fit_vector` and `pts.steer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pts.api.search import Run
from pts.api.settings import stage_inputs
from pts.errors import ConfigError
from pts.models.held import holding
from pts.models.load import LoadedModel
from pts.steering.vector_set import GateKind, VectorSet

if TYPE_CHECKING:
    from pts.steering.given_pairs import GivenPair
    from pts.steering.hooks import Steering


def extract_vectors(
    run: Run | str | Path,
    *,
    model: LoadedModel | None = None,
    output: str | Path | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> VectorSet:
    """Make steering vectors of a run's pivotal tokens, choose how to add them, and measure what they do.

    `run` is what `pts.search` returned or its directory. The set is written to `output` (by default under
    `vectors/`); a second call continues one that was stopped. `settings` are the options of
    `pts extract-vectors` by their names, such as `calibration_problems=96` or `test_problems=256`. Raises
    PtsError, in one line, for what does not fit.

        vectors = pts.extract_vectors("runs/demo")
    """
    from pts.api.progress import phases_shown
    from pts.stages.extract.inputs import ExtractInputs
    from pts.stages.extract.run import run_extract
    from pts.steering.vector_files import load_vectors

    path, searched = (run.path, run.model) if isinstance(run, Run) else (Path(run), None)
    fixed = {"run": path, "output": output, "until": "calibrate"}
    inputs = stage_inputs(ExtractInputs, "pts.extract_vectors", settings, fixed)
    with holding(model or searched), phases_shown(progress) as observe:
        run_extract(inputs, observe)
    # Read again from where it was written, which later calls and sessions go by.
    return load_vectors(inputs.directory())


def fit_vector(
    model: LoadedModel | str,
    pairs: Sequence[GivenPair],
    *,
    method: str = "preference",
    layer: int | None = None,
    strength: float = 0.2,
    gate: GateKind = "always",
    name: str = "all",
    seed: int = 0,
    layers_path: str | None = None,
) -> VectorSet:
    """Fit a steering vector to pairs of your own, without a search.

    A pair is (context, better, worse): a text, token ids or messages, and two ways to go on from it; or a
    dictionary with prompt, chosen and rejected, as preference data sets have them. What is fitted is the choice
    at the first token where the two differ. `layer` is by default the middle one, `strength` the norm that is
    added, in multiples of the residual stream's mean norm there, `gate` where it is added: "always", "probe",
    "entropy" or "tokens". What the vector does to success is not measured: `pts.evaluate` does that. Raises
    PtsError, in one line, for what does not fit.

        vectors = pts.fit_vector(model, [("First , 27 + 8 = 36 .", " Wait", " Then")])
    """
    from pts.api.load import load_model
    from pts.steering.fit import fit_pairs
    from pts.steering.given_pairs import given_pairs

    loaded = load_model(model) if isinstance(model, str) else model
    return fit_pairs(
        loaded,
        given_pairs(loaded.tokenizer, pairs),
        method=method,
        layer=layer,
        strength=strength,
        gate=gate,
        name=name,
        seed=seed,
        layers_path=layers_path,
    )


def steer(
    model: Any,
    vectors: VectorSet | str | Path,
    patterns: Mapping[str, float] | None = None,
    *,
    strength: float | None = None,
    layers_path: str | None = None,
) -> AbstractContextManager[Steering]:
    """Steer a model while the context lasts: its own `generate`, and passes by hand.

    `model` is what `pts.load_model` returned, or a model of transformers; `vectors` a set, or where it is.
    `patterns` maps patterns of the set to multiples of their calibrated strength, `strength` is that of the
    set's first pattern (1.0 where neither is given). See `pts.steering.steer` for what is followed and what is
    refused. Raises VectorError where the vectors do not fit the model.

        with pts.steer(model, "demo", strength=1.5):
            print(model.generate("What is 17 + 5 ?", max_new_tokens=40))
    """
    from pts.steering.hooks import steer as steered
    from pts.steering.vector_files import load_vectors

    found = vectors if isinstance(vectors, VectorSet) else load_vectors(vectors)
    if strength is not None:
        if patterns is not None:
            raise ConfigError("give patterns or strength, not both: strength is that of the first pattern.")
        patterns = {next(iter(found.vectors)): strength}
    own = model.model if isinstance(model, LoadedModel) else model
    return steered(own, found, patterns, layers_path=layers_path)
