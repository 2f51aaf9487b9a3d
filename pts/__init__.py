"""Pivotal Token Search: find the few tokens that decide a language model's answer."""

__version__ = "0.1.0"
