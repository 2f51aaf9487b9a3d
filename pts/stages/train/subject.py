"""The model that is trained, how it is asked, and the problems that it is trained on, read and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pts.errors import ConfigError
from pts.records import Problem
from pts.runs.directory import RunDirectory
from pts.setting_names import setting
from pts.stages.shared.recorded import recorded_by, recorded_options, require_recorded, settled_prompts
from pts.stages.shared.recorded_grader import check_references, graded_by
from pts.stages.train.inputs import TrainingInputs
from pts.stages.train.reinforcement_inputs import AdaptThinkInputs, LengthInputs, ReinforcementInputs
from pts.stages.train.shorten_inputs import ShortenInputs

if TYPE_CHECKING:
    from pts.graders import Grader
    from pts.models.load import LoadedModel
    from pts.models.prompt import PromptFormat
    from pts.problems import ProblemSet
    from pts.training.modes import Modes
    from pts.training.samples import Asker


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that is trained, how it is asked, and on what."""

    loaded: LoadedModel
    prompt_format: PromptFormat
    digest: str
    problem_set: ProblemSet
    grader: Grader
    grader_name: str
    digests: dict[str, str]
    modes: Modes | None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems to train on."""
        return tuple(self.problem_set.problems)


def open_subject(inputs: TrainingInputs, directory: RunDirectory) -> Subject:
    """Read and check data and model. Raises PtsError."""
    from pts.graders import make_grader
    from pts.models.hardware import settle_threads
    from pts.models.load import load_model
    from pts.problems import load_problems, problem_digest
    from pts.training.weights import require_trainable

    earlier = None if inputs.fresh else directory.manifest
    problem_set = load_problems(inputs.source())
    _require_enough(inputs, len(problem_set.problems))
    name = graded_by(inputs.grader, earlier, problem_set.grader)
    grader = make_grader(name, pattern=inputs.grader_pattern)
    check_references(grader, problem_set.problems, earlier, name)
    recorded = recorded_by(earlier, str(directory.path))
    options = recorded_options(inputs.model_options(), recorded)
    if options.device == "auto" and "LOCAL_RANK" in os.environ and _cuda():
        options = replace(options, device=f"cuda:{os.environ['LOCAL_RANK']}")
    if options.dtype == "auto" and not inputs.lora:
        # Updates of full training are smaller than what a number of 16 bits tells apart.
        options = replace(options, auto_dtype="float32")
    loaded = load_model(options)
    require_trainable(loaded, inputs.lora)
    settle_threads(loaded.device, loaded.model.num_parameters())
    require_recorded(loaded, recorded)
    prompt_format, digest = settled_prompts(loaded.tokenizer, inputs.prompt_format(), recorded)
    return Subject(
        loaded,
        prompt_format,
        digest,
        problem_set,
        grader,
        name,
        {problem.id: problem_digest(problem) for problem in problem_set.problems},
        _modes(inputs, loaded, prompt_format),
    )


def _require_enough(inputs: TrainingInputs, problems: int) -> None:
    """Raise ConfigError for fewer problems than training needs."""
    if problems >= inputs.fewest_problems:
        return
    if isinstance(inputs, ReinforcementInputs):
        raise ConfigError(
            f"{problems} problems are fewer than the {inputs.prompts} of a step: give more, or a lower "
            f"{setting('prompts')}."
        )
    raise ConfigError(
        f"{problems} problems are too few to learn from: give at least {inputs.fewest_problems} "
        f"({setting('problems')})."
    )


def _modes(inputs: TrainingInputs, loaded: LoadedModel, prompt_format: PromptFormat) -> Modes | None:
    """The model's modes; None for one that does not think, where the method needs no choice of them."""
    from pts.decoding.think_format import find_think_format
    from pts.training.modes import find_modes

    tags = (inputs.think_start, inputs.think_end)
    if isinstance(inputs, AdaptThinkInputs):
        return find_modes(
            loaded.tokenizer, prompt_format, *tags, opener=inputs.opener, required_by="AdaptThink"
        )
    if isinstance(inputs, ShortenInputs) and inputs.hybrid:
        return find_modes(loaded.tokenizer, prompt_format, *tags, required_by=setting("hybrid", True))
    if isinstance(inputs, ShortenInputs) and inputs.from_search is not None:
        return find_modes(loaded.tokenizer, prompt_format, *tags, required_by=setting("from_search"))
    think = find_think_format(loaded.tokenizer, prompt_format, *tags)
    if think is None or not think.empty:
        return None
    return find_modes(loaded.tokenizer, prompt_format, *tags)


def make_asker(inputs: TrainingInputs, subject: Subject) -> Asker:
    """How the subject's completions are drawn and judged."""
    from pts.training.samples import Asker

    modes = subject.modes
    if isinstance(inputs, LengthInputs) and modes is not None:
        # Asked as users ask it: what the model writes first is its own.
        modes = replace(modes, lead=(), opened=not modes.lead and modes.opened)
    return Asker(modes, inputs.sampling(), inputs.short_budget(), subject.grader)


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
