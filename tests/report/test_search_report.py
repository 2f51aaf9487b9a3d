"""A search's report in a browser: drawn without a network, linked, sorted, filtered, and safe."""

import json
import re
import shutil
from collections import Counter

import pytest
from rich.console import Console

from pts.lexicon import label_pivot
from pts.report.one_file import pack, unpack
from pts.report.terminal import summary_report
from pts.report.write_report import write_report
from pts.runs.search_run import read_search
from pts.runs.search_summary import search_summary

pytestmark = pytest.mark.slow


def rows(page):
    return page.locator("#problem-table tbody tr")


def first_column(page):
    return page.locator("#problem-table tbody td:first-child a").all_inner_texts()


def numbers(page, heading):
    titles = page.locator("#problem-table th").all_inner_texts()
    at = next(i for i, title in enumerate(titles) if title.startswith(heading))
    cells = page.locator(f"#problem-table tbody td:nth-child({at + 1})").all_inner_texts()
    return [float(text.replace(",", "")) for text in cells]


def chosen(page):
    """The address of an event of the page's own data, and its text."""
    return page.evaluate("""async () => {
        const { runs } = await unpack();
        for (const problem of runs[0].problems) for (const [t, trace] of problem.traces.entries())
            for (const event of trace.events) if (event.reported)
                return { address: `#${encodeURIComponent(problem.id)}/${t}/${event.position}`,
                         token: event.token, problem: problem.id, delta: event.delta,
                         position: event.position };
    }""")


def test_a_run_whose_rollouts_are_gone_says_so(searched, tmp_path):
    whole, run = search_summary(read_search(searched)), tmp_path / "run"
    shutil.copytree(searched, run)
    shutil.rmtree(run / "rollouts")
    summary = search_summary(read_search(run))
    assert summary.tokens_lost == summary.tokens_generated == whole.tokens_generated
    assert (summary.findings, summary.completions, whole.tokens_lost) == (whole.findings, None, 0)
    lost = f"the rollouts of {whole.tokens_generated:,} of the generated tokens are no longer in"
    with Console(width=300, record=True) as console:
        console.print(summary_report(summary))
    text = console.export_text()
    assert lost in text
    assert "Cut by the budget: unknown; the rollouts are gone" in text
    page = write_report(run, output=tmp_path / "page.html").read_text()
    assert lost in page
    assert lost not in write_report(searched, output=tmp_path / "whole.html").read_text()


def test_the_figures_are_those_of_the_summary(look, searched, report):
    page, summary = look(report), json.loads((searched / "summary.json").read_text())
    facts = page.locator(".facts").inner_text()
    assert f"{summary['findings']} of {summary['candidates']} tested candidates" in facts
    assert "temperature 0.6, top-p 0.95, top-k 20; at most 96 new tokens" in facts
    assert f"{summary['helping']} help, {summary['harming']} harm" in facts
    assert f"{summary['tokens_generated']:,}" in facts
    recall = summary["recall"]
    assert f"{recall['audited']} of {recall['dropped']} places that the screen dropped" in facts
    assert f"{recall['recall']:.0%} ({recall['low']:.0%} to {recall['high']:.0%})" in facts
    assert f"{summary['tokens_confirm']:,}" in facts
    assert sum(numbers(page, "reported")) == summary["findings"]
    assert sum(numbers(page, "help")) == summary["helping"]
    assert rows(page).count() == summary["searched"] + summary["out_of_range"]
    points = page.locator("#charts figure").first.locator("g.point")
    assert points.count() == summary["findings"]


def test_effects_stand_against_the_entropy_of_the_choice(look, searched, report, tmp_path):
    candidates = [candidate for result in read_search(searched).results for candidate in result.candidates]
    page = look(report)
    figure = page.locator("#charts figure", has_text="Effect and entropy")
    assert figure.locator("circle.point").count() == len(candidates)
    figure.locator("circle.point").last.hover()
    assert "entropy" in page.locator("#tip").inner_text()
    earlier = tmp_path / "earlier"
    shutil.copytree(searched, earlier)
    lines = [json.loads(line) for line in (earlier / "problems.jsonl").read_text().splitlines()]
    for line in lines:
        for candidate in line["result"]["candidates"]:
            del candidate["entropy"]
    (earlier / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = look(write_report(earlier, output=tmp_path / "earlier.html")).locator(
        "#charts figure", has_text="Effect and entropy"
    )
    assert "This run has no entropies" in figure.inner_text()
    assert figure.locator("svg").count() == 0


def test_findings_are_counted_by_the_pattern_of_their_words(look, searched, report):
    run = read_search(searched)
    contexts = [run.context(finding) for finding in run.findings]
    counts = Counter(label_pivot(each.before, each.token, each.after) for each in contexts)
    assert len(counts) > 1
    figure = look(report).locator("#charts figure", has_text="Patterns by their words")
    label = figure.locator("svg").get_attribute("aria-label")
    assert label.startswith("Reported tokens by pattern: ")
    told = dict(each.rsplit(" ", 1) for each in label.split(": ", 1)[1].split(", "))
    assert told == {name.replace("_", " "): str(count) for name, count in counts.items()}


def test_the_table_is_sorted_and_filtered(look, report):
    page = look(report)
    page.get_by_role("button", name="tokens", exact=True).click()
    falling = numbers(page, "tokens")
    assert falling == sorted(falling, reverse=True)
    page.get_by_role("button", name="tokens", exact=True).click()
    assert numbers(page, "tokens") == falling[::-1]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    everything = first_column(page)
    page.get_by_label("Text").fill(everything[0])
    assert first_column(page) == everything[:1]
    page.get_by_label("Text").fill("no problem says this")
    assert rows(page).count() == 0
    page.get_by_label("Text").fill("")
    page.get_by_label("Findings").select_option("harms")
    assert all(count > 0 for count in numbers(page, "harm"))
    page.get_by_label("Findings").select_option("all")
    page.get_by_label("Value at most").fill("0.4")
    assert all(value <= 0.4 for value in numbers(page, "value"))


def test_an_address_opens_its_event(look, report):
    event = chosen(look(report))
    page = look(report, event["address"])
    assert page.locator("#trace-title").inner_text() == f"Problem {event['problem']}"
    assert event["token"].strip() in page.locator("#event-title").inner_text()
    assert f"{abs(event['delta']):.2f}" in page.locator("#event-title").inner_text()
    assert page.locator(f".chosen[data-i='{event['position']}']").count() >= 1
    # Another address on the same page.
    page.evaluate(f"location.hash = '#{event['problem']}/1'")
    page.wait_for_function(
        "document.querySelector('.choice[aria-current]').textContent.startsWith('Completion 2')"
    )


def test_the_pointer_links_text_and_curve(look, report):
    page = look(report, chosen(look(report))["address"])
    token = page.locator(".reading a.t").first
    token.hover()
    assert page.locator("#tip").is_visible()
    assert "probability" in page.locator("#tip").inner_text()
    assert page.locator(".cursor").is_visible()
    page.locator(".curve-host").hover(position={"x": 200, "y": 60})
    assert page.locator(".reading .here").count() >= 1


def test_the_keyboard_walks_along_the_completion(look, report):
    page = look(report, chosen(look(report))["address"])
    page.locator(".reading").focus()
    page.keyboard.press("Home")
    assert page.locator(".reading .here").first.get_attribute("data-i") == "0"
    page.keyboard.press("ArrowRight")
    assert page.locator(".reading .here").first.get_attribute("data-i") == "1"
    page.keyboard.press("Home")
    page.keyboard.press("n")
    marked = page.locator(".reading .here").last.get_attribute("data-i")
    assert page.locator(f".reading a[data-i='{marked}']").count() == 1
    page.keyboard.press("Enter")
    assert re.search(rf"/{marked}$", page.url)
    assert f"token {marked}" in page.locator(".event .hint").last.inner_text()


def test_examples_and_pairs_are_a_click_away(look, report):
    page = look(report, chosen(look(report))["address"])
    details = page.locator(".examples details").first
    details.locator("summary").click()
    assert details.locator("blockquote").first.inner_text().strip()
    record = page.evaluate("""async () => {
        const { runs } = await unpack(); complete(runs);
        const event = runs[0].events.find((one) => one.pairs.length);
        return event ? preferencePairs(event).split("\\n").map(JSON.parse) : null;
    }""")
    assert record
    assert all(set(pair) == {"prompt", "chosen", "rejected"} and pair["prompt"] for pair in record)


def test_a_later_sentence_that_is_linked_is_a_click_away(look, report, tmp_path):
    event = chosen(look(report))
    text = report.read_text(encoding="utf-8")
    packed = re.search(r'id="data">([A-Za-z0-9+/=]+)<', text)[1]
    data = unpack(packed)
    (problem,) = (one for one in data["runs"][0]["problems"] if one["id"] == event["problem"])
    trace = int(event["address"].split("/")[1])
    (found,) = (one for one in problem["traces"][trace]["events"] if one["position"] == event["position"])
    found["links"] = [
        {
            "text": " <b>So</b> it is 9 .",
            "position": 3,
            "written": 0.6,
            "written_without": 0.25,
            "low": 0.1,
            "high": 0.55,
            "p_value": 0.01,
            "q_value": 0.02,
        }
    ]
    linked = tmp_path / "linked.html"
    linked.write_text(text.replace(packed, pack(data)), encoding="utf-8")
    page = look(linked, event["address"])
    item = page.locator(".links li")
    assert "written by 60% of the completions with it and by 25% without: +0.35" in item.inner_text()
    assert "<b>So</b> it is 9 ." in item.inner_text()
    item.locator("a").click()
    assert page.url.endswith(f"/{trace}/3")
    assert page.locator(".chosen[data-i='3']").count() >= 1


def long_report(report, folder, tokens):
    """The report with its first trace repeated to so many tokens."""
    text = report.read_text(encoding="utf-8")
    packed = re.search(r'id="data">([A-Za-z0-9+/=]+)<', text)[1]
    data = unpack(packed)
    problem = next(p for p in data["runs"][0]["problems"] if p["traces"] and p["traces"][0]["events"])
    trace = problem["traces"][0]
    count = len(trace["lengths"])
    calm = tokens - count
    trace["text"] += "\n and so on" * (calm // 2)
    trace["lengths"] += [4, 7] * (calm // 2)
    for name in ("probs", "values", "lows", "highs"):
        trace[name] += [trace[name][-1]] * (2 * (calm // 2))
    trace["fates"] += "e" * (2 * (calm // 2))
    path = folder / "long.html"
    path.write_text(text.replace(packed, pack(data)), encoding="utf-8")
    return path, problem["id"], len(trace["lengths"])


def test_calm_stretches_fold_and_unfold(look, report, tmp_path):
    path, problem, tokens = long_report(report, tmp_path, 2000)
    page = look(path, f"#{problem}/0")
    folded = page.locator(".reading [data-i]").count()
    assert folded < 200
    assert "calm tokens" in page.locator(".fold").last.inner_text()
    page.locator(".fold").last.click()
    assert page.locator(".reading [data-i]").count() > 1500
    page.get_by_label("Fold calm stretches").uncheck()
    assert page.locator(".fold").count() == 0
    places = page.locator(".reading [data-i]").evaluate_all(
        "all => new Set(all.map(one => one.dataset.i)).size"
    )
    assert places == tokens


def test_dark_and_light_differ_and_can_be_chosen(look, report):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = look(report, color_scheme="light"), look(report, color_scheme="dark")
    assert paper(light) != paper(dark)
    light.locator("#theme").click()
    light.locator("#theme").click()
    assert "dark" in light.locator("#theme").inner_text()
    assert paper(light) == paper(dark)


def test_a_narrow_screen_needs_no_sideways_scrolling(look, report):
    page = look(report, viewport={"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_hostile_texts_stay_texts(look, hostile, tmp_path):
    page = look(write_report(hostile, output=tmp_path / "hostile.html"))
    page.locator("#problem-table tbody a").first.click()
    page.locator(".reading a.t").first.click()
    assert page.evaluate("window.attacked") is None
    assert page.locator("main img").count() == 0
    assert "<img src=x" in page.locator(".question").inner_text()
    text = page.locator(".reading").inner_text()
    assert "⟨RLO⟩abc␇ 🦉" in text
    assert "tokenizer was not to be had" in page.locator(".warning").inner_text()


def test_two_runs_stand_side_by_side(look, searched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    shutil.copytree(searched, folder / "second")
    page = look(write_report(searched, folder / "second", output=folder / "both.html"))
    titles = page.locator("#problem-table th").all_inner_texts()
    assert [title.strip(" ↑↓") for title in titles[1:4]] == ["value small", "value second", "difference"]
    assert set(page.locator("#problem-table tbody td:nth-child(4)").all_inner_texts()) <= {"+0.00"}
    assert page.locator(".reading").count() == 2
    page.locator(".reading").nth(1).locator("a.t").first.click()
    assert re.search(r"/\d+/2$", page.url)
    ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_two_runs_of_one_name_are_told_apart_by_their_paths(searched, tmp_path):
    other = tmp_path / searched.name
    shutil.copytree(searched, other)
    text = write_report(searched, other, output=tmp_path / "both.html").read_text(encoding="utf-8")
    assert f"{searched} beside {other}" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(look, report, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = look(report, chosen(look(report))["address"], color_scheme=scheme)
    found = axe.run(page).response["violations"]
    serious = [
        (rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []
