"""The report of a run for the documents: the page itself, and pictures of it in Chromium.

    python benchmarks/report_pictures.py RUN [--address '#problem/trace/position'] [--vectors SET]
        [--figures docs/figures] [--page docs/reports/demo.html]

Writes report.png (one completion and one finding, light), report_dark.png and report_overview.png. Without an
address it shows the run's first finding. With a vector set the page also shows the run steered by it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from pts.api.report import write_report

WIDTH, HEIGHT = 1180, 900
_SCALE = 1.5
"""Pixels of a picture for one of the page: sharp on a screen of high resolution."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--address", default="")
    parser.add_argument("--vectors", help="vector set by which the page shows the run steered")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--page", type=Path, default=Path("docs/reports/demo.html"))
    options = parser.parse_args()
    page_path = write_report(options.run, output=options.page, vectors=options.vectors).resolve()
    browser = next(
        found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found
    )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for scheme, name in (("light", "report.png"), ("dark", "report_dark.png")):
            context = started.new_context(
                offline=True,
                viewport={"width": WIDTH, "height": HEIGHT},
                device_scale_factor=_SCALE,
                color_scheme=scheme,
                reduced_motion="reduce",
            )
            page = context.new_page()
            page.goto(page_path.as_uri() + options.address)
            page.wait_for_selector("html[data-ready]")
            page.locator(".trace .columns").screenshot(path=options.figures / name)
            if scheme == "light":
                page.locator("#overview").screenshot(path=options.figures / "report_overview.png")
            context.close()
        started.close()


if __name__ == "__main__":
    main()
