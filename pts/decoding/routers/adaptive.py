"""A text classifier of the package adaptive-classifier as a router (an optional extra)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pts.decoding.routers.protocol import AUTO_BUDGETS, EASY, HARD, ClassBudgets, Route
from pts.decoding.session import Question, Session
from pts.errors import ConfigError, ModelError
from pts.policies.protocol import Prompt
from pts.records import TokenIds

logger = logging.getLogger(__name__)

AUTOTHINK_LABELS: ClassBudgets = {"HIGH": AUTO_BUDGETS[HARD], "LOW": AUTO_BUDGETS[EASY]}
"""The two labels of adaptive-classifier/llm-router, which AutoThink takes for hard and easy."""


class AdaptiveRouter:
    """Classifies the question's text by a classifier in a local directory or on the Hub.

    `budgets` maps its labels, any number of them, to budgets. Raises ConfigError where the package is missing
    or a label has no budget, ModelError where the classifier cannot be loaded.
    """

    name = "adaptive-classifier"

    def __init__(
        self, source: str | Path, budgets: ClassBudgets | None = None, *, device: str | None = None
    ) -> None:
        self.budgets: ClassBudgets = AUTOTHINK_LABELS if budgets is None else budgets
        self.source = str(source)
        self._classifier = _load(self.source, device)
        self._require_budgets()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that the classifier knows."""
        return tuple(self._classifier.label_to_id)

    def add_examples(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """Teach it further questions, without retraining the rest; by the classifier's own add_examples.

        Raises ConfigError for labels without a budget, or where there are not as many as texts.
        """
        if len(texts) != len(labels) or not texts:
            raise ConfigError(
                f"{len(texts)} questions and {len(labels)} labels do not match: give one "
                "label for each question."
            )
        self._require_budgets(labels)
        self._classifier.add_examples(list(texts), list(labels))

    def save(self, directory: Path) -> None:
        """Write the classifier with what it was taught, so that it can be loaded from there."""
        self._classifier.save(str(directory), include_onnx=False)

    def check(self, session: Session) -> None:
        """It fits every model."""

    def route(
        self,
        session: Session,  # noqa: ARG002 - the signature is the protocol's
        questions: Sequence[Question],
        prompts: Sequence[TokenIds],  # noqa: ARG002
    ) -> list[Route]:
        """Each question's likeliest label; the time is shared alike."""
        started = time.perf_counter()
        texts = [_text(question.prompt) for question in questions]
        predicted = self._classifier.predict_batch(texts, k=max(1, len(self.labels)))
        seconds = (time.perf_counter() - started) / max(1, len(questions))
        return [self._route(dict(labels), seconds) for labels in predicted]

    def _route(self, probabilities: dict[str, float], seconds: float) -> Route:
        best = max(probabilities, key=lambda label: probabilities[label])
        return Route(best, {label: float(value) for label, value in probabilities.items()}, seconds)

    def _require_budgets(self, labels: Sequence[str] | None = None) -> None:
        known = self.labels if labels is None else labels
        missing = [label for label in known if label not in self.budgets]
        if missing or not known:
            what = f"the label {missing[0]} without a budget" if missing else "no labels"
            raise ConfigError(
                f"the classifier {self.source} has {what}; budgets are given for {', '.join(self.budgets)}."
            )


def _load(source: str, device: str | None) -> Any:
    try:
        from adaptive_classifier import AdaptiveClassifier
    except ImportError as error:
        raise ConfigError(
            "the router adaptive-classifier needs the package of that name: pip install adaptive-classifier."
        ) from error
    try:
        return AdaptiveClassifier.load(source, device=device, use_onnx=False)
    except Exception as error:  # the package and the Hub raise whatever they like
        raise ModelError(
            f"the classifier {source} cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]}): "
            "give a directory that it was saved to, or its Hub id."
        ) from error


def _text(prompt: Prompt) -> str:
    """What is classified: the question, of a conversation its last message."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]
