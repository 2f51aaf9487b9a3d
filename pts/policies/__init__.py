"""What generates: the Policy protocol and its implementations."""

from pts.policies.open import open_policy, policy_of
from pts.policies.protocol import Policy, PolicyIdentity, SteerablePolicy
from pts.policies.source import RequestQueue, RolloutSource, as_source

__all__ = [
    "Policy",
    "PolicyIdentity",
    "RequestQueue",
    "RolloutSource",
    "SteerablePolicy",
    "as_source",
    "open_policy",
    "policy_of",
]
