"""What generates: the Policy protocol and its implementations."""

from pts.policies.protocol import Policy

__all__ = ["Policy"]
