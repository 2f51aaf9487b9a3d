"""What a stage is: its inputs, what is there of it, what running it will do, the run, and its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from rich.console import RenderableType

InputsT = TypeVar("InputsT")
ResultT = TypeVar("ResultT")

Observer: TypeAlias = Callable[..., None]
"""Told how far a run is, in the arguments that the stage's own run names."""

State: TypeAlias = Literal["new", "begun", "complete", "changed"]
"""Nothing there; some of it; all of it; or what other settings, another model or other pairs made."""


@dataclass(frozen=True, slots=True)
class Status:
    """How what is in a stage's directory compares with what is requested.

    `content` says in words what there is; `changes` has one entry for each setting that differs.
    """

    state: State
    content: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What running a stage will do, in one line.

    `deletes` says that the line tells of a loss, `idle` that the stage is complete already.
    """

    text: str
    deletes: bool = False
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A stage's result for its reader.

    `body` is a text, or what rich prints in at least `columns` columns; `footer` is a text below it. `data`
    gives the same for a program, as a JSON object; None for a stage that has no such form.
    """

    body: RenderableType
    columns: int = 0
    footer: str = ""
    data: Callable[[], Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What fills a key that a recipe leaves out: the directory made by the last of `stages` before.

    Nothing fills it where the recipe gives the key `unless`, or where `needed` says of the inputs that they
    have no use for it.
    """

    stages: tuple[str, ...]
    unless: str | None = None
    needed: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class Stage(Generic[InputsT, ResultT]):
    """One kind of work: what it needs, what it finds in its directory, what it does, and what it reports.

    Recipes, `pts run` and the command of the same name use one such object; `pts.stages.registry` lists them.
    Its functions import what they need when they are called, so that naming a stage costs nothing.

    - `inputs` is a frozen dataclass: its fields are the keys of a recipe and the options of the command.
    - `plan(inputs, context)` says what `run` will do and refuses what cannot be done. It writes nothing.
    - `run(inputs, observe)` does the work, or what is left of it, and returns the result.
    - `report(inputs, result)` shows the result.
    - `takes` says which keys the stages before it in a recipe fill.
    - `directory(inputs)` is what a later stage reads; None for a stage that makes nothing for others.
    - `status(inputs)` compares that directory with the inputs; None where there is nothing to compare.
    - `parts` are the names at which the stage can stop, in order; its inputs have a field `until`.
    - `remakes` says that what other settings made is deleted and made again without `fresh`.
    - `notice(inputs)` is a line to show before a run, `resume_note(inputs)` one for a run that was stopped,
      `recipe_hint(inputs)` one below the report of a recipe's stage.

    Example:
        >>> from pts.stages.registry import find_stage
        >>> stage = find_stage("search")
        >>> stage.name, stage.inputs.__name__
        ('search', 'SearchInputs')
    """

    name: str
    summary: str
    inputs: type[InputsT]
    plan: Callable[[InputsT, Context], Plan]
    run: Callable[[InputsT, Observer | None], ResultT]
    report: Callable[[InputsT, ResultT], Report]
    takes: Mapping[str, Source] = field(default_factory=dict)
    directory: Callable[[InputsT], Path] | None = None
    status: Callable[[InputsT], Status] | None = None
    parts: tuple[str, ...] = ()
    remakes: bool = False
    notice: Callable[[InputsT], str | None] | None = None
    resume_note: Callable[[InputsT], str | None] | None = None
    recipe_hint: Callable[[InputsT], str | None] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A stage with its inputs: an entry of a recipe."""

    stage: Stage[Any, Any]
    inputs: Any

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def directory(self) -> Path | None:
        """The directory that it makes and a later stage reads, or None where there is no such thing."""
        return None if self.stage.directory is None else self.stage.directory(self.inputs)

    @property
    def parts(self) -> tuple[str, ...]:
        """What `--from` and `--until` can name inside it, in order: the stage's parts, or the stage itself."""
        parts = self.stage.parts
        return parts[: parts.index(self.inputs.until) + 1] if parts else (self.name,)

    @property
    def status(self) -> Status | None:
        """How its directory compares with its inputs; None for a stage that has no status. Raises PtsError."""
        return None if self.stage.status is None else self.stage.status(self.inputs)


@dataclass(frozen=True, slots=True)
class Context:
    """What comes before a stage in its recipe: the steps, and the names of those that will make something."""

    before: Sequence[Step] = ()
    active: frozenset[str] = frozenset()

    def inputs_of(self, stage: str) -> list[Any]:
        """The inputs of the steps of a stage before this one."""
        return [step.inputs for step in self.before if step.name == stage]


def note_of_measured(written: Path, *, fresh: bool) -> str | None:
    """What a stopped stage leaves, by its first file `written`; None where that is not there yet."""
    if not written.exists():
        return None
    again = "the same command without --fresh" if fresh else "the same command"
    return f"what was measured is kept in {written.parent}; {again} continues."
