"""Checks that a model and its engine do what a search counts on; anyone can run them on their own model."""

from pts.verification.report import CheckResult, VerificationReport
from pts.verification.subject import Subject, subject_of
from pts.verification.verify import INSIDE, checks_inside, quick_verify, require_verified, verify

__all__ = [
    "INSIDE",
    "CheckResult",
    "Subject",
    "VerificationReport",
    "checks_inside",
    "quick_verify",
    "require_verified",
    "subject_of",
    "verify",
]
