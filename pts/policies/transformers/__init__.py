"""The policy over a transformers model: see policy.py for the whole, engine.py for the loop."""

from pts.policies.transformers.policy import TransformersPolicy, Work

__all__ = ["TransformersPolicy", "Work"]
