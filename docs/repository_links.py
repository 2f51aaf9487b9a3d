"""Links from a page to files of the repository that are not pages are checked, and plain text on the site.

On the code host such a link leads to the file. The site holds only the pages, so there the name of the file is
all that can be shown. A link to a file that does not exist is a warning, which `make docs` treats as an error.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

logger = logging.getLogger("mkdocs.hooks.repository_links")

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?P<target>(?:\.\./)+[^)\s#]*)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The page's text with each link out of the docs folder replaced by its own text."""
    folder = Path(page.file.abs_src_path).parent
    docs = Path(config.docs_dir).resolve()

    def plain(match: re.Match[str]) -> str:
        target = (folder / match["target"]).resolve()
        if target.is_relative_to(docs):
            return match[0]
        if not target.exists():
            logger.warning("%s: the link %s leads to no file", page.file.src_path, match["target"])
        return match["text"]

    return LINK.sub(plain, markdown)
