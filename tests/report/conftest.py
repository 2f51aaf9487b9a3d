"""A small search of the demo model, the same with hostile texts, and a browser that looks at their reports."""

import json
import shutil

import pytest
from report_browser import BROWSER, with_fixed_fonts

from pts.report.write_report import write_report
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search

HOSTILE = (
    '</script><script>window.attacked = 1</script><img src=x onerror="window.attacked = 1"> \u202eabc\u0007 🦉'
)


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """The directory of a finished search of four problems."""
    output = tmp_path_factory.mktemp("report") / "small"
    run_search(SearchInputs(output=output, problems=4, levels=(2, 3)))
    return output


@pytest.fixture(scope="session")
def hostile(searched, tmp_path_factory):
    """The same run with hostile texts wherever a text can stand, and without its tokenizer."""
    output = tmp_path_factory.mktemp("report") / "hostile"
    shutil.copytree(searched, output)
    manifest = json.loads((output / "manifest.json").read_text())
    manifest["settings"]["model"] = "./gone"
    manifest["resolved"]["model_id"] = HOSTILE
    (output / "manifest.json").write_text(json.dumps(manifest))
    lines = [json.loads(line) for line in (output / "problems.jsonl").read_text().splitlines()]
    for line in lines:
        result = line["result"]
        result["query"] = HOSTILE
        result["answer"] = HOSTILE
        result["problem_id"] = f"{result['problem_id']}/{HOSTILE}"
        for trace in result["traces"]:
            trace["tokens"] = [HOSTILE if i % 3 == 0 else token for i, token in enumerate(trace["tokens"])]
        for candidate in result["candidates"]:
            candidate["token"] = HOSTILE
            for other in candidate["alternatives"]:
                other["token"] = HOSTILE
    (output / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return output


@pytest.fixture(scope="session")
def report(searched):
    """The report of the search, as a file."""
    return write_report(searched, output=searched.parent / "small.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium with fixed fonts, or a skip with its reason. It ends with its module: its loop hinders
    others."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        fonts = with_fixed_fonts(tmp_path_factory.mktemp("fonts"))
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"], env=fonts)
        yield started
        started.close()


@pytest.fixture
def look(browser):
    """Opens a file with the network off and waits until it is drawn; at the end its console must be empty."""
    contexts, said = [], []

    def open_page(path, address="", **options):
        context = browser.new_context(offline=True, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"{path.as_uri()}{address}")
        page.wait_for_selector("html[data-ready]", timeout=30_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
