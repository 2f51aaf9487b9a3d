"""The relative links of README, changelog and pages lead to files and headings that exist."""

import re
from pathlib import Path

import pytest

import pts

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("benchmarks/results/*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
LINK = re.compile(r"\[[^\]\n]*\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


def text_of(document):
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(document):
    headings = re.findall(r"^#+ (.*)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links(document):
    broken = []
    for match in LINK.finditer(text_of(document)):
        if re.match(r"[a-z]+:", match["path"]):
            continue
        target = (document.parent / match["path"]).resolve() if match["path"] else document
        checked = match["anchor"] and target.suffix == ".md"
        if not target.exists() or (checked and match["anchor"] not in anchors(target)):
            broken.append(match[0])
    assert not broken


def test_every_page_is_in_the_documents():
    assert len([path for path in DOCUMENTS if path.parent.name == "docs"]) >= 6


def test_the_page_of_public_names_has_them_all():
    listed = re.findall(
        r"^::: pts\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted(pts.__all__)


def test_the_files_that_the_architecture_names_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {
        path
        for path in re.findall(r"`([\w/]+(?:\.py|/))`", text)
        if "/" in path.rstrip("/") or path.endswith("/")
    }
    assert len(named) > 60
    assert [
        path for path in sorted(named) if not (ROOT / path).exists() and not (ROOT / "pts" / path).exists()
    ] == []
