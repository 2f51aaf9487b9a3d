"""Graders: completion text to success, one file per kind of answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pts.errors import GraderError
from pts.graders.choice import ChoiceGrader
from pts.graders.code import CodeGrader
from pts.graders.exact import ExactGrader
from pts.graders.mathematics import MathGrader
from pts.graders.mixed import MixedGrader
from pts.graders.numeric import NumericGrader
from pts.graders.pattern import PatternGrader
from pts.graders.protocol import CallableGrader, Grader
from pts.graders.registered import registered_grader, registered_graders
from pts.graders.thinking import AfterThinking
from pts.plugins import load_plugin, plugin_names
from pts.setting_names import setting

__all__ = ["GRADER_NAMES", "CallableGrader", "Grader", "make_grader"]

_PLAIN: Mapping[str, Callable[[], Grader]] = {
    "math": MathGrader,
    "choice": ChoiceGrader,
    "exact": ExactGrader,
    "numeric": NumericGrader,
    "mixed": MixedGrader,
    "code": CodeGrader,
}

GRADER_NAMES = (*_PLAIN, "regex", *registered_graders())


def _maker(name: str, pattern: str | None) -> Callable[[], Grader]:
    """What makes the grader of a name. Raises GraderError for an unknown one, ConfigError as `load_plugin`."""
    added: Callable[[], Grader] | None = load_plugin("grader", name, GRADER_NAMES)
    registered = registered_grader(name)
    if name == "regex":
        return lambda: PatternGrader(pattern)
    make = added if registered is None else registered.make
    if make is None and name not in _PLAIN:
        names = ", ".join((*GRADER_NAMES, *plugin_names("grader", GRADER_NAMES)))
        raise GraderError(f"There is no grader {name!r}; choose from {names}.")
    return _PLAIN[name] if make is None else make


def make_grader(
    name: str, *, pattern: str | None = None, think_end: str | None = None, think_required: bool = False
) -> Grader:
    """The grader of that name, bundled or of an installed package (`docs/extending.md`).

    `pattern` is the regex grader's own. Where `think_end` is given (a registered grader has its own default),
    only the text after its last occurrence is graded; with `think_required` a completion without it fails.
    Raises GraderError for an unknown name, a bad pattern, or an option that would go unused.
    """
    make = _maker(name, pattern)
    if pattern is not None and name != "regex":
        raise GraderError(f"A pattern is for the regex grader, not {name!r}; use {setting('grader', 'regex')}.")
    registered = registered_grader(name)
    if think_end is None and registered is not None:
        think_end = registered.think_end
    if think_required and not think_end:
        raise GraderError(
            f"Thinking is required but the end tag is unknown; give it with {setting('think_end')}."
        )
    grader = make()
    return AfterThinking(grader, think_end, think_required) if think_end else grader
