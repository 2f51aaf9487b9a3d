"""Runs programs that a model wrote: in child processes with no network, no files and hard limits."""
