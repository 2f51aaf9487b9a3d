"""The reports of a vector set and of an evaluation, in a browser: their figures are those of the files."""

import json
import shutil
from pathlib import Path

import pytest

from pts.api.evaluate import evaluate
from pts.errors import RunError
from pts.evaluation.steered_examples import (
    MovedPivot,
    PatternExamples,
    ReadCompletion,
    SteeredExamples,
    write_examples,
)
from pts.report.evaluation_data import evaluation_data
from pts.report.vector_data import vector_data
from pts.report.write_report import write_report
from pts.steering.set_location import EXAMPLES_NAME
from pts.steering.vector_files import load_vectors

SET = Path(__file__).parents[2] / "vectors" / "demo"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The directory of an evaluation of two strategies on eight problems, steered and not."""
    output = tmp_path_factory.mktemp("evaluation") / "small"
    evaluate(
        *("demo", "demo"),
        strategies=("full", "nothink"),
        vectors="demo",
        limit=8,
        output=output,
        baselines=False,
        progress=False,
    )
    return output


def test_the_answers_are_those_of_the_summary(evaluated):
    data = evaluation_data(evaluated)
    assert len(data.problems) == data.summary.problems == 8
    for at, system in enumerate(data.summary.lines):
        answers = [answer for problem in data.problems for answer in problem.answers[at]]
        assert sum(answer.success for answer in answers) / len(answers) == pytest.approx(system.success)
        assert sum(answer.tokens for answer in answers) / len(answers) == pytest.approx(system.tokens)
        assert all((answer.text is not None) == system.asked for answer in answers)


def test_answers_that_are_gone_are_counted_in_a_warning(evaluated, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    lines = (run / "items.jsonl").read_bytes().splitlines(keepends=True)
    (run / "items.jsonl").write_bytes(b"".join(lines[5:]))
    data = evaluation_data(run)
    # Only answers of the systems of the table are counted, not those of controls.
    gone = [json.loads(line) for line in lines[:5]]
    assert data.missing == sum(row["line"] in {each.name for each in data.summary.lines} for row in gone) > 0
    assert len(data.problems) == 8
    assert (
        f"{data.missing} answers are no longer in the run"
        in write_report(run, output=tmp_path / "p").read_text()
    )
    assert evaluation_data(evaluated).missing == 0


def test_systems_can_be_hidden_and_problems_that_flipped_are_listed(look, evaluated, tmp_path):
    page = look(write_report(evaluated, output=tmp_path / "evaluation.html"))
    data = evaluation_data(evaluated)
    names = [system.name for system in data.summary.lines]
    assert page.locator("#frontier-chart g.point").count() == len(names)
    page.get_by_label("full + vectors").first.uncheck()
    assert page.locator("#frontier-chart g.point").count() == len(names) - 1
    page.get_by_label("First system").select_option("nothink")
    page.get_by_label("Second system").select_option("full + vectors")
    one, other = names.index("nothink"), names.index("full + vectors")

    def right(problem, at):
        return sum(answer.success for answer in problem.answers[at])

    flipped = {problem.id for problem in data.problems if right(problem, one) != right(problem, other)}
    assert set(page.locator("#flip-table tbody td:first-child").all_inner_texts()) == flipped
    page.get_by_label("Which problems").select_option("all")
    assert page.locator("#flip-table tbody tr").count() == 8
    page.locator("#frontier-chart g.point").first.hover(force=True)
    assert "success" in page.locator("#tip").inner_text()


def test_an_evaluation_that_is_not_finished_says_so(evaluated, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(evaluated, part)
    (part / "summary.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        write_report(part, output=tmp_path / "part.html")
    (part / "summary.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        write_report(part, output=tmp_path / "part.html")


def test_a_set_is_shown_with_its_effects_and_controls(look, tmp_path):
    page, vectors = look(write_report(SET, output=tmp_path / "set.html")), load_vectors(str(SET))
    assert page.locator("#strips g.point").count() == len(vectors.effects)
    assert page.locator("#strips .control").count() == sum(len(e.random) for e in vectors.effects.values())
    effect = vectors.effects["all"]
    assert f"{effect.difference:+.3f}" in page.locator("#pattern-list article").first.inner_text()
    assert page.locator("#cosine-table tbody tr").count() == len(vectors.vectors)
    assert "cannot be drawn" in page.locator("#heat").inner_text()


def test_calibration_is_a_map_of_layers_and_strengths(look, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(SET, copy)
    tried = [
        ("all/preference/layer 1/+0.4/always", [2, 1]),
        ("all/preference/layer 1/-0.4/always", [0, 1]),
        ("all/preference/layer 3/+0.4/always", [2, 2]),
        ("all/random-0/layer 1/+0.4/always", [1, 1]),
    ]
    lines = [
        {
            "setting": name,
            "first": 0,
            "end": 2,
            "samples": 2,
            "successes": right,
            "tokens": [9, 9],
            "cut": [0, 0],
        }
        for name, right in tried
    ]
    (copy / "calibration.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shares = {(s.method, s.layer, s.strength): s.success for s in vector_data(copy).calibration}
    assert shares["preference", 1, 0.4] == 0.75
    assert shares["random-0", 1, 0.4] == 0.5
    page = look(write_report(copy, output=tmp_path / "set.html"))
    assert page.locator("#heat tbody tr").count() == 2
    assert page.locator("#heat td.heat").all_inner_texts() == ["0.250", "0.750", "1.000"]


def with_examples(folder):
    """The demo's set with examples of two patterns, one of them with pivots and with a hostile text."""
    copy = folder / "examples"
    shutil.copytree(SET, copy)
    one = ReadCompletion(
        problem="p<1>",
        query="<img src=x onerror=alert(1)>",
        answer="4",
        unsteered="it is 3 .",
        unsteered_success=False,
        success=True,
        tokens=("it", " is", " </script>", " 4", " ."),
        plain=(1.0, 0.9, 0.5, 0.2, 1.0),
        steered=(1.0, 0.9, 0.1, 0.8, 1.0),
        opened=(1, 3),
    )
    pivots = (
        MovedPivot("it is", " 4", " 3", 1.0, 0.0, 0.2, 0.8, 0.6, 0.1),
        MovedPivot("so", " 5", " 6", 0.9, 0.1, 0.4, 0.6, 0.4, 0.3),
    )
    examples = SteeredExamples(
        {"all": PatternExamples((one,), pivots), "number": PatternExamples((one, one), ())}
    )
    write_examples(copy, examples)
    return copy


def test_a_set_shows_where_gates_opened_and_how_choices_moved(look, tmp_path):
    page = look(write_report(with_examples(tmp_path), output=tmp_path / "set.html"))
    part = page.locator("#steered-examples")
    assert "from 0.30 to 0.70, and the worse one's from 0.50 to 0.20" in part.locator(".lead").inner_text()
    assert part.locator("circle.point").count() == part.locator("rect.point").count() == 2
    assert "The gate was open at 2 of 5 tokens" in part.inner_text()
    assert part.locator(".opened[data-i]").all_inner_texts() == ["is", "4"]
    assert part.locator(".likelier[data-i]").all_inner_texts() == ["4"]
    assert part.locator(".rarer[data-i]").all_inner_texts() == ["</script>"]
    part.locator("[data-i='3']").hover()
    assert "0.20 unsteered, 0.80 steered" in page.locator("#tip").inner_text()
    page.get_by_label("Pattern of the examples").select_option("number")
    assert part.locator("article").count() == 2
    assert "No pivots were read both ways" in part.inner_text()
    assert part.locator("img").count() == 0


def test_a_narrow_screen_needs_no_sideways_scrolling(look, evaluated, tmp_path):
    for source in (with_examples(tmp_path), evaluated):
        report = write_report(source, output=tmp_path / f"{source.name}.html")
        page = look(report, viewport={"width": 375, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_set_without_examples_says_how_to_have_them(look, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(SET, copy)
    (copy / EXAMPLES_NAME).unlink(missing_ok=True)
    page = look(write_report(copy, output=tmp_path / "set.html"))
    assert "pts vectors measure SET --examples" in page.locator("#steered-examples").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(look, evaluated, tmp_path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for source in (with_examples(tmp_path), evaluated):
        page = look(write_report(source, output=tmp_path / f"{source.name}.html"), color_scheme=scheme)
        found = axe.run(page).response["violations"]
        serious = [
            (rule["id"], rule["nodes"][0]["html"])
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]
        assert serious == []
