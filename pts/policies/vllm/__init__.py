"""Generation by vLLM, in this process; vLLM is imported when a policy is opened."""

from pts.policies.vllm.policy import VllmPolicy

__all__ = ["VllmPolicy"]
