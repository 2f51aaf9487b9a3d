"""Different sentences by embeddings of the policy's own model, in place of the words that they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from pts.errors import ConfigError
from pts.models.prompt import PromptFormat
from pts.policies.protocol import Policy, SteerablePolicy
from pts.setting_names import setting

QUESTION = 'This sentence: "{}" means in one word: " a'
"""What the model reads; the residual stream before the last token is the embedding (Jiang et al. 2023)."""
FROM_THE_END = 2
"""The layer that is read, counted from the end: the last but one."""

Floats = npt.NDArray[np.float32]


class EmbeddedSentences:
    """Compares sentences by the cosine of their embeddings. Two are different below the median of all pairs.

    `pairs` are the sentences of one problem, each with what rollouts wrote in its place; the median is over
    their unequal pairs, as thought anchors take it over a whole data set (Bogdan et al. 2025). So about half of
    what was written counts as different, whatever it says. Raises ConfigError for a policy without a residual
    stream.
    """

    def __init__(self, policy: Policy, pairs: Iterable[tuple[str, Sequence[str]]]) -> None:
        self._policy = require_embeddings(policy)
        self._vectors: dict[str, Floats] = {}
        unequal = [
            cosine
            for sentence, others in pairs
            for other, cosine in zip(others, self.cosines(sentence, others), strict=True)
            if other.strip() != sentence.strip()
        ]
        self._below = float(np.median(unequal)) if unequal else -np.inf

    def __call__(self, sentence: str, others: Sequence[str]) -> list[bool]:
        """Which of `others` are different from a sentence."""
        compared = zip(others, self.cosines(sentence, others), strict=True)
        # Equal texts by name: where all cosines are close to 1, rounding may put theirs below the median.
        return [other.strip() != sentence.strip() and cosine < self._below for other, cosine in compared]

    def cosines(self, sentence: str, others: Sequence[str]) -> list[float]:
        """The cosine of each of `others` with a sentence."""
        own, *rest = self._embedded([sentence, *others])
        return [float(own @ each) for each in rest]

    def _embedded(self, sentences: Sequence[str]) -> list[Floats]:
        """Unit vectors [hidden] of sentences, each read once."""
        texts = [sentence.strip() for sentence in sentences]
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            plain = PromptFormat(chat_template=False)
            prompts = [self._policy.encode_prompt(QUESTION.format(text), plain) for text in new]
            layer = max(0, int(self._policy.identity.layers or 1) - FROM_THE_END)
            states = self._policy.residuals(prompts, [layer])[:, 0].numpy()
            lengths = np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
            self._vectors |= dict(zip(new, states / lengths, strict=True))
        return [self._vectors[text] for text in texts]


def require_embeddings(policy: Policy) -> SteerablePolicy:
    """The policy, which can read residual streams. Raises ConfigError where it cannot."""
    if not _has_residuals(policy):
        raise ConfigError(
            f"this engine has no residual stream to embed sentences with: use {setting('different', 'words')}."
        )
    return policy


def _has_residuals(policy: Policy) -> TypeGuard[SteerablePolicy]:
    return hasattr(policy, "residuals")
