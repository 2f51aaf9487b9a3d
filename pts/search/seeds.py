"""Seeds derived from names: `pts.seeds`, under the name that the search and what is above it use."""

from __future__ import annotations

from pts.seeds import derive_seed

__all__ = ["derive_seed"]
