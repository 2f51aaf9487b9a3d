"""The packages of the extra `train`, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from pts.errors import ConfigError

PACKAGES = ("trl", "peft", "accelerate")
"""What training needs beside pts."""


def require_packages(*names: str) -> None:
    """Raise ConfigError, with what to install, where one of the packages (by default all) is missing."""
    missing = [name for name in names or PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs packages that are not installed ({', '.join(missing)}): "
            "pip install 'pivotal-tokens[train]'."
        )
