"""What a run, a set and an evaluation show of themselves in a notebook: markup that needs nothing else."""

import html.parser
import re

import pytest

from pts.api.search import load_run
from pts.report.notebook import run_html
from pts.runs.search_run import read_search
from pts.steering.vector_files import load_vectors

VOID = {"br", "img", "input"}


class Elements(html.parser.HTMLParser):
    """The elements of a piece of markup, in order, with their attributes; each must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag not in VOID
        self.open.append(tag)
        self.found.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def shown(searched):
    return Elements(load_run(searched)._repr_html_())


def test_a_run_shows_the_completions_of_its_strongest_findings(searched, shown):
    run = read_search(searched)
    strongest = run.findings[0]
    titles = [values["title"] for tag, values in shown.found if tag == "span" and "title" in values]
    low, high = strongest.ci_low, strongest.ci_high
    measured = f"reported: {strongest.candidate.delta:+.2f} ({low:+.2f} to {high:+.2f})"
    assert any(title.startswith(measured) for title in titles)
    places = dict.fromkeys((f.problem.problem_id, f.candidate.trace) for f in run.findings)
    heads = [word for word in shown.words if re.search(r", completion \d+: ", word)]
    assert [head.split(", completion")[0] for head in heads] == [problem for problem, _ in places][:3]
    assert sum(tag == "svg" for tag, _ in shown.found) == min(3, len(places))
    assert [tag for tag, _ in shown.found].count("details") == min(3, len(places)) + 1
    assert str(searched) in "".join(shown.words).replace("\n", "")


def test_it_is_markup_alone(shown):
    assert {tag for tag, _ in shown.found} <= {
        *("div", "p", "i", "details", "summary", "span", "small", "pre"),
        *("svg", "line", "text", "polygon", "polyline", "circle"),
    }
    for _, attributes in shown.found:
        assert not any(name.startswith("on") or name in ("href", "src", "class", "id") for name in attributes)
        assert "url(" not in attributes.get("style", "")


def test_hostile_texts_are_no_markup(hostile):
    text = run_html(read_search(hostile), 5)
    tags = {tag for tag, _ in Elements(text).found}
    assert not tags & {"script", "img"}
    assert "&lt;img src=x" in text
    assert not set(text) & set("\u202e\u0007")


def test_it_stays_small_and_folds_long_calm_stretches(searched, report):
    run = read_search(searched)
    text = run_html(run, 5)
    assert len(text) < len(report.read_text(encoding="utf-8"))
    assert "calm tokens" not in text


def test_a_set_shows_its_effects_beside_random_directions():
    vectors = load_vectors("demo")
    shown = Elements(vectors._repr_html_())
    effects = vectors.effects.values()
    assert sum(tag == "circle" for tag, _ in shown.found) == len(effects)
    ticks = [values for tag, values in shown.found if tag == "line" and values.get("opacity") == ".5"]
    assert len(ticks) == sum(len(effect.random) for effect in effects)
    assert any(f"{vectors.effects['all'].difference:+.3f}" in word for word in shown.words)
