"""Steering variants that are sent to a server arrive as they were, under a name of their content."""

import json

import torch

from pts.policies.vllm.wire import content_name
from pts.steering.tables import Intervention
from pts.steering.vector_set import Gate
from pts.steering.wire import described_variants, variants_of


def variants(seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(12, generator=generator) for _ in range(3)]
    return [
        (Intervention(3, vectors[0]), Intervention(0, vectors[1], Gate("tokens", token_ids=(4, 9)))),
        (Intervention(5, vectors[2], Gate("probe", threshold=-0.1234567890123, weight=vectors[0])),),
        (Intervention(1, vectors[1], Gate("entropy", threshold=0.5)),),
    ]


def test_they_arrive_as_they_were():
    sent = variants(1)
    found = variants_of(json.loads(json.dumps(described_variants(sent))))
    assert len(found) == len(sent)
    for one, other in zip(sent, found, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert torch.equal(mine.vector, theirs.vector)
            assert mine.layer == theirs.layer
            ours, its = mine.gate, theirs.gate
            assert (ours.kind, ours.threshold, ours.token_ids) == (its.kind, its.threshold, its.token_ids)
            assert ours.weight is its.weight is None or torch.equal(ours.weight, its.weight)


def test_the_name_is_that_of_the_content():
    assert content_name(described_variants(variants(1))) == content_name(described_variants(variants(1)))
    assert content_name(described_variants(variants(1))) != content_name(described_variants(variants(2)))
