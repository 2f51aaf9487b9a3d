"""Batches of graded rollouts, read whole with a vector added, and how likely the policy makes their tokens.

The policy is the model with its sampler: log-probabilities are over the tokens that the sampler keeps of the
unsteered model's, at its temperature. Under that policy the expected gradient of a token's log-probability is
zero, which it is not where the tokens that were cut off are counted. Memory: a batch has as many rows as one
pass with gradients may have of tokens and of logits (`pts.steering.reading_memory`); what is kept of every
rollout is its tokens' sampled columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pts.errors import ConfigError, DataError
from pts.models.decoder_layers import adding
from pts.policies.transformers.distribution import truncate
from pts.policies.transformers.untruncated import truncates_nothing
from pts.records import Sampling
from pts.setting_names import setting
from pts.steering.graded_rollouts import RolloutSample, Start, advantages, arms_of, is_joint
from pts.steering.reading_memory import ReadingMemory

_FOREIGN = 0.01
"""Share of freely drawn tokens that the policy would not draw, from which on another one drew them. Rounding
between a step and a pass over a whole text accounts for less."""
_COLUMNS = 128
"""Tokens of the sampler that are kept at each place."""
_BATCH_TOKENS = 8_192
"""Tokens of a batch, where memory allows them."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadRollout:
    """A rollout with what the unsteered policy says of it.

    `kept` [n, width] are the ids that the sampler keeps at each of its n new tokens (−1: none), `logs`
    [n, width] the model's log-probabilities of them at the sampler's temperature, over the whole vocabulary.
    `column` [n] is the place of the token itself; −1 where it was not drawn, and says nothing. Where the
    sampler keeps more than `_COLUMNS`, these are the likeliest and the token itself, and probabilities are
    `whole` [n]: over the vocabulary. `first` is the advantage of the first new token, `advantage` that of the
    others.
    """

    ids: tuple[int, ...]
    prompt: int
    kept: torch.Tensor
    logs: torch.Tensor
    column: torch.Tensor
    whole: torch.Tensor
    advantage: float = 0.0
    weight: float = 0.0
    first: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts read together, left-padded, on the model's device.

    `ids` and `mask` are [rows, width], `completions` [rows, width, 1] says which positions are of completions.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    completions: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Steered:
    """Vectors [hidden] by layer, added to the outputs of the decoder `blocks` at positions of completions.

    With `after` only where the token read is one of these ids, as a `tokens` gate has it.
    """

    blocks: Any
    vectors: Mapping[int, torch.Tensor]
    after: tuple[int, ...] | None = None

    def where(self, texts: Texts) -> torch.Tensor:
        """The positions that are steered [rows, width, 1]."""
        if self.after is None:
            return texts.completions
        allowed = torch.tensor(self.after, device=texts.ids.device)
        return texts.completions & torch.isin(texts.ids, allowed)[..., None]


@dataclass(frozen=True, slots=True, eq=False)
class RolloutBatch:
    """Rollouts read together.

    `kept` and `logs` are [rows, n, columns] for the last n tokens of each row, `column`, `whole` and
    `advantages` [rows, n], `weights` [rows].
    """

    texts: Texts
    kept: torch.Tensor
    logs: torch.Tensor
    column: torch.Tensor
    whole: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor


def read_rollouts(
    model: Any,
    sample: RolloutSample,
    memory: ReadingMemory,
    where: str,
    steering: Steered | None = None,
) -> list[ReadRollout]:
    """What the policy that drew them says of each rollout, with its advantage, in the order of the sample.

    That is the unsteered policy, or the one steered by `steering`. Rollouts that did as well as their prefix
    are left out. Raises ConfigError for a greedy sampler, and DataError where another model or sampler drew the
    rollouts (`where` names them).
    """
    if sample.sampling.temperature == 0:
        raise ConfigError(
            f"{where} was drawn greedily, so no rollout could have gone otherwise: search again with "
            f"{setting('temperature')} above 0."
        )
    _require_vocabulary(model, sample, where)
    read: list[ReadRollout] = [_unread()] * len(sample.rollouts)
    firsts: list[float | None] = [None] * len(sample.starts)
    texts = [_ids(sample.starts[each.start], each.new) for each in sample.rollouts]
    fresh = [len(each.new) for each in sample.rollouts]
    for group in _by_length([len(ids) for ids in texts], fresh, memory):
        prompts = [len(sample.starts[sample.rollouts[place].start].prompt) for place in group]
        padded = _padded(model, [texts[place] for place in group], prompts)
        with torch.no_grad():
            logits = _logits(model, padded, max(fresh[place] for place in group), steering)
        here = [(row, place) for row, place in enumerate(group) if fresh[place]]
        # The rows' own positions in one, since the sampler's truncation costs as much for one as for many.
        own = torch.cat([logits[row, logits.shape[1] - fresh[place] :] for row, place in here])
        new = [token for _, place in here for token in sample.rollouts[place].new]
        ends = np.cumsum([fresh[place] for _, place in here])
        columns = _columns(own, new, sample.sampling)
        for (row, place), end in zip(here, ends.tolist(), strict=True):
            rollout, part = sample.rollouts[place], slice(end - fresh[place], end)
            kept, logs, column, whole = (each[part].clone() for each in columns)
            read[place] = ReadRollout(texts[place], prompts[row], kept, logs, column, whole)
            token = sample.starts[rollout.start].token
            if token is not None:
                firsts[rollout.start] = _first_prob(read[place], token)
    _require_own(read, sample, where)
    return _with_advantages(read, sample, firsts)


def _with_advantages(
    read: Sequence[ReadRollout], sample: RolloutSample, firsts: Sequence[float | None]
) -> list[ReadRollout]:
    """The rollouts with something to say; equal ones with both grades as one, by their mean."""
    arms = arms_of(sample)
    found: dict[tuple[int, str, tuple[int, ...]], ReadRollout] = {}
    for each, rollout, worth in zip(read, sample.rollouts, advantages(sample, firsts), strict=True):
        start = sample.starts[rollout.start]
        kept, column = each.kept, each.column
        if rollout.arm != "free" and not is_joint(arms[rollout.start], firsts[rollout.start]):
            # The first token was given, or drawn from what is left without the token that was avoided.
            kept, column = kept.clone(), column.clone()
            if rollout.arm == "forced":
                column[0] = -1
            else:
                kept[0][kept[0] == start.token] = -1
        if not worth.weight or not len(rollout.new):
            continue
        made = replace(
            each, kept=kept, column=column, first=worth.first, advantage=worth.later, weight=worth.weight
        )
        key = (rollout.start, rollout.arm, rollout.new)
        found[key] = _joined(found[key], made) if key in found else made
    return [each for each in found.values() if each.first or (each.advantage and len(each.column) > 1)]


def _joined(one: ReadRollout, other: ReadRollout) -> ReadRollout:
    """Two equal rollouts with other grades as one, with their mean advantages."""
    weight = one.weight + other.weight
    first, advantage = (
        (one.weight * a + other.weight * b) / weight
        for a, b in ((one.first, other.first), (one.advantage, other.advantage))
    )
    return replace(one, first=first, advantage=advantage, weight=weight)


def rollout_bytes(model: Any, sampling: Sampling) -> int:
    """Bytes that are kept of a rollout's token at most."""
    vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
    return 16 + 8 * min(_COLUMNS, vocabulary, 2 * sampling.top_k or vocabulary)


def batches(model: Any, rollouts: Sequence[ReadRollout], memory: ReadingMemory) -> Iterator[RolloutBatch]:
    """The rollouts in batches, by length, on the model's device."""
    sizes = [len(each.ids) for each in rollouts]
    for group in _by_length(sizes, [len(each.column) for each in rollouts], memory):
        yield _batch(model, [rollouts[place] for place in group])


def policy_logs(
    model: Any, batch: RolloutBatch, steering: Steered, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """How likely a steered policy makes the rollouts' tokens.

    First the log-ratio to the policy that drew them [rows, n], over the tokens that its sampler keeps and 0
    where a token was not drawn; then KL(steered ‖ that policy) [rows, n], of the kept tokens and all others as
    one.
    """
    logits = _logits(model, batch.texts, batch.column.shape[1], steering)
    scores = logits.float() / temperature
    there = batch.kept >= 0
    steered = scores.gather(-1, batch.kept.clamp(min=0)) - scores.logsumexp(-1, keepdim=True)
    ratio = _renormalised(steered, batch, there) - _renormalised(batch.logs, batch, there)
    return ratio, _kl(steered, batch.logs, there)


def _renormalised(logs: torch.Tensor, batch: RolloutBatch, there: torch.Tensor) -> torch.Tensor:
    """Log-probability of each row's own tokens among the kept ones [rows, n]; 0 where none was drawn."""
    among = logs.masked_fill(~there, -torch.inf)
    drawn = batch.column >= 0
    total = torch.where(drawn[..., None], among, torch.zeros_like(among)).logsumexp(-1)
    total = total.masked_fill(batch.whole, 0.0)
    own = logs.gather(-1, batch.column.clamp(min=0)[..., None])[..., 0]
    return torch.where(drawn, own - total, torch.zeros_like(own))


def _kl(steered: torch.Tensor, unsteered: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    inside = torch.where(there, steered.exp() * (steered - unsteered), torch.zeros_like(steered)).sum(-1)
    rests = [
        (1 - torch.where(there, logs.exp(), torch.zeros_like(logs)).sum(-1)).clamp(min=1e-6)
        for logs in (steered, unsteered)
    ]
    return torch.where(there.any(-1), inside + rests[0] * (rests[0] / rests[1]).log(), torch.zeros_like(inside))


def _logits(model: Any, texts: Texts, fresh: int, steering: Steered | None) -> torch.Tensor:
    """Logits before each of the last `fresh` tokens [rows, fresh, vocabulary]."""
    with ExitStack() as stack:
        if steering is not None:
            where = steering.where(texts)
            for layer, vector in steering.vectors.items():
                stack.enter_context(adding(steering.blocks[layer], where.to(vector.dtype) * vector))
        output = model(
            input_ids=texts.ids,
            attention_mask=texts.mask,
            position_ids=(texts.mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=fresh + 1,
        )
    logits: torch.Tensor = output.logits[:, -fresh - 1 : -1]
    return logits


def _padded(model: Any, texts: Sequence[Sequence[int]], prompts: Sequence[int]) -> Texts:
    width = max(map(len, texts))
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    mask = torch.zeros(len(texts), width, dtype=torch.long)
    completions = torch.zeros(len(texts), width, 1, dtype=torch.bool)
    for row, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        ids[row, width - len(text) :] = torch.tensor(text)
        mask[row, width - len(text) :] = 1
        completions[row, width - len(text) + prompt :] = True
    return Texts(ids.to(model.device), mask.to(model.device), completions.to(model.device))


def _batch(model: Any, rollouts: Sequence[ReadRollout]) -> RolloutBatch:
    texts = _padded(model, [each.ids for each in rollouts], [each.prompt for each in rollouts])
    fresh = max(len(each.column) for each in rollouts)
    columns = max(each.kept.shape[1] for each in rollouts)
    kept = torch.full((len(rollouts), fresh, columns), -1, dtype=torch.long)
    logs = torch.zeros(len(rollouts), fresh, columns)
    column = torch.full((len(rollouts), fresh), -1, dtype=torch.long)
    whole = torch.zeros(len(rollouts), fresh, dtype=torch.bool)
    advantages = torch.zeros(len(rollouts), fresh)
    for row, each in enumerate(rollouts):
        n, width = each.kept.shape
        kept[row, fresh - n :, :width], logs[row, fresh - n :, :width] = each.kept, each.logs
        column[row, fresh - n :], whole[row, fresh - n :] = each.column, each.whole
        advantages[row, fresh - n :] = each.advantage
        advantages[row, fresh - n] = each.first
    device = model.device
    return RolloutBatch(
        texts,
        kept.to(device),
        logs.to(device),
        column.to(device),
        whole.to(device),
        advantages.to(device),
        torch.tensor([each.weight for each in rollouts], device=device),
    )


def _columns(
    logits: torch.Tensor, new: Sequence[int], sampling: Sampling
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`kept`, `logs`, `column` and `whole` of `ReadRollout` at positions with these logits [n, vocabulary]."""
    logs = torch.log_softmax(logits.float() / sampling.temperature, -1).cpu()
    token = torch.tensor(new)[:, None]
    if truncates_nothing(sampling):
        kept = logs.topk(min(_COLUMNS, logs.shape[-1]), -1).indices
        whole = torch.ones(len(new), dtype=torch.bool)
    else:
        found = truncate(logits, sampling)
        kept = torch.from_numpy(np.where(found.probs > 0, found.ids, -1))
        whole = (kept >= 0).sum(-1) > _COLUMNS
    drawn = (kept == token).any(-1) | whole
    kept = kept[:, :_COLUMNS].clone()
    kept[whole, -1] = torch.where((kept == token).any(-1), kept[:, -1], token[:, 0])[whole]
    same = kept == token
    column = torch.where(drawn & same.any(-1), same.int().argmax(-1), -1)
    return kept.int(), logs.gather(-1, kept.clamp(min=0)), column, whole


def _first_prob(read: ReadRollout, token: int) -> float:
    """The unsteered policy's probability of a token at the first new one's place."""
    logs, kept = read.logs[0].double(), read.kept[0]
    total = 1.0 if read.whole[0] else float(logs[kept >= 0].exp().sum())
    return float(logs[kept == token].exp().sum()) / total


def _require_vocabulary(model: Any, sample: RolloutSample, where: str) -> None:
    size = int(model.config.get_text_config(decoder=True).vocab_size)
    largest = max(max(_ids(sample.starts[each.start], each.new)) for each in sample.rollouts)
    if largest >= size:
        raise DataError(
            f"{where} holds the token id {largest}, and the model's vocabulary has {size}: "
            "its rollouts are of another model; give that one, or search again."
        )


def _require_own(read: Sequence[ReadRollout], sample: RolloutSample, where: str) -> None:
    """Raise DataError where freely drawn tokens are not among those that the policy draws."""
    drawn = strange = 0
    for each, rollout in zip(read, sample.rollouts, strict=True):
        free = each.column[0 if rollout.arm == "free" else 1 :]
        drawn += len(free)
        strange += int((free < 0).sum())
    if strange > _FOREIGN * drawn:
        raise DataError(
            f"{where}: the model and sampler of the search would not draw {strange} of the {drawn} tokens "
            "of its rollouts: another model or sampler drew them; search again with another "
            f"{setting('output')}."
        )


def _by_length(lengths: Sequence[int], fresh: Sequence[int], memory: ReadingMemory) -> Iterator[list[int]]:
    """Places in groups, the shortest texts first, that one pass with gradients can hold; one always fits."""
    most_tokens = min(_BATCH_TOKENS, memory.trained_tokens)
    group: list[int] = []
    widest = 0
    for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
        widest = max(widest, fresh[place])
        rows = len(group) + 1
        if group and (rows * lengths[place] > most_tokens or rows * (widest + 1) > memory.batch_rows):
            yield group
            group, widest = [], fresh[place]
        group.append(place)
    if group:
        yield group


def _ids(start: Start, new: Sequence[int]) -> tuple[int, ...]:
    return (*start.prompt, *start.prefix, *new)


def _unread() -> ReadRollout:
    empty = torch.zeros(0, 0)
    return ReadRollout((), 0, empty, empty, empty, empty)
