"""The report looks as in the pictures of this folder, which a person has looked at: compared coarsely.

The data are those of the documents' page, drawn in Chromium with fixed fonts by the templates and scripts of
today. Both pictures are made small, so that letters do not count. What is left is where things are and the
colour of areas: parts that are missing or elsewhere, charts without marks, swapped colours, dark in place of
light. The tests below break a report so, and it must be seen. The colour of a single word is too small to be
seen. A picture that changes on purpose is made again by reference_pictures.py.
"""

import io

import numpy as np
import pytest
from reference_pictures import ADDRESS, PARTS, PICTURES, VIEW, page_of_today

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

CELLS = (24, 16)
"""Columns and rows of a small picture: a cell is some 48 pixels wide, about a word."""
MEAN, WORST = 3.0, 15.0
"""Mean and 99th percentile of the differences of cells that are let pass, of 255.

Measured in Chromium 156: 0.5 and 2 with the fonts of the pictures, 0.7 and 3 with serif for sans serif and the
reverse, 1.1 and 7 with letters that are 5% smaller; a missing curve has 1.9 and 30, a missing card 6.8 and 36.
"""

pytestmark = pytest.mark.slow


def small(picture):
    """A picture as averages of its cells [rows, columns, 3]."""
    return np.asarray(picture.convert("RGB").resize(CELLS, Image.Resampling.BOX), dtype=float)


def difference(picture, reference):
    """Mean and 99th percentile of the differences of the cells, and the ratio of the heights."""
    gaps = np.abs(small(picture) - small(reference)).max(axis=-1)
    ratio = (picture.height / picture.width) / (reference.height / reference.width)
    return gaps.mean(), np.quantile(gaps, 0.99), ratio


def alike(found):
    mean, worst, ratio = found
    return mean <= MEAN and worst <= WORST and 0.8 <= ratio <= 1.25


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return page_of_today(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def compared(look, drawn):
    """Compares a part of the page, with a style sheet added, with its picture."""

    def compare(name, style=""):
        page = look(drawn, ADDRESS, **VIEW)
        page.add_style_tag(content=style or "/* none */")
        shot = page.locator(PARTS[name]).first.screenshot()
        reference = Image.open(PICTURES / f"{name}.png")
        return difference(Image.open(io.BytesIO(shot)), reference)

    return compare


@pytest.mark.parametrize("name", PARTS)
def test_the_report_looks_as_in_its_picture(compared, name):
    found = compared(name)
    assert alike(found), f"{name}: {found}; look at it, and make the pictures again if it is meant"


@pytest.mark.parametrize("name", PARTS)
def test_other_fonts_make_no_difference(compared, name):
    assert alike(compared(name, ":root { --serif: sans-serif; --sans: serif }"))


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("report_overview", ".point, .bar { visibility: hidden }"),
        ("report_overview", ".charts { display: block }"),
        ("report_overview", ":root { --helps: #c05200; --harms: #1668b8 }"),
        ("report", ".card { visibility: hidden }"),
        ("report", ".columns { display: block }"),
        ("report", ".curve-host { visibility: hidden }"),
        ("report", ".curve, .band { display: none }"),
        ("report", ":root { color-scheme: dark }"),
    ],
)
def test_a_broken_report_is_seen(compared, name, style):
    found = compared(name, style)
    assert not alike(found), found
