"""What generates: the Policy protocol and its implementations."""

from pts.policies.protocol import Policy
from pts.policies.source import RequestQueue, RolloutSource, as_source

__all__ = ["Policy", "RequestQueue", "RolloutSource", "as_source"]
