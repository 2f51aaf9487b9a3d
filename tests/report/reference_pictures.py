"""The pictures that reports are compared with: drawn in Chromium from the data of the documents' page.

    python tests/report/reference_pictures.py

makes them again, where the report was changed on purpose. Look at them before they are committed.
"""

import re
import tempfile
from pathlib import Path

from report_browser import BROWSER, with_fixed_fonts

from pts.report.one_file import render, unpack
from pts.report.search_page import Runs, search_page
from pts.runs.codec import from_json

PICTURES = Path(__file__).parent / "pictures"
ADDRESS = "#demo-train-0-2/1/24"
PARTS = {"report": ".trace .columns", "report_overview": "#overview"}
"""Names of the pictures, and what of the page they show."""
VIEW = {"viewport": {"width": 1180, "height": 900}, "color_scheme": "light"}
_PAGE = Path(__file__).parents[2] / "docs" / "reports" / "demo.html"


def page_of_today(folder: Path) -> Path:
    """The data of the documents' page, drawn by the templates and scripts of today."""
    text = _PAGE.read_text(encoding="utf-8")
    data = unpack(re.search(r'id="data">([A-Za-z0-9+/=]+)<', text)[1])
    path = folder / "demo.html"
    path.write_text(render(search_page(from_json(Runs, data).runs)), encoding="utf-8")
    return path


def main() -> None:
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"], env=with_fixed_fonts(Path(folder))
        )
        page = browser.new_context(offline=True, reduced_motion="reduce", **VIEW).new_page()
        page.goto(page_of_today(Path(folder)).as_uri() + ADDRESS)
        page.wait_for_selector("html[data-ready]")
        for name, part in PARTS.items():
            page.locator(part).first.screenshot(path=PICTURES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
