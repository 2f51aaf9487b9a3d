"""A search's report with a vector set: what the model computes with and without it, and what the page shows."""

import json
import shutil
from dataclasses import replace

import pytest

import pts
from pts.errors import ConfigError, DataError, ModelError, RunError
from pts.evaluation.steered_traces import read_steered
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.report.write_report import write_report
from pts.runs.manifest import read_manifest
from pts.runs.search_run import read_search
from pts.stages.recipe.plan import plan_stages
from pts.stages.recipe.read import read_recipe
from pts.stages.report.inputs import ReportInputs
from pts.stages.report.steered import steered_run
from pts.stages.search.reload import searched_inputs
from pts.steering.hooks import interventions
from pts.steering.vector_files import load_vectors
from tests.cli.one_line import complaint

STRONG = {"all": 1.0}


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelOptions(spec="demo", dtype="float32"))


def read(loaded, run, strengths=None, **given):
    variant = interventions(load_vectors("demo"), strengths or STRONG)
    return read_steered(loaded.model, run.results, variant, searched_inputs(run).sampling(), **given)


def test_unsteered_it_reads_what_the_search_recorded(searched, loaded):
    run = read_search(searched)
    both = read(loaded, run)
    assert len(both.traces) == sum(len(result.traces) for result in run.results)
    for result in run.results:
        for index, trace in enumerate(result.traces):
            tokens = both.traces[result.problem_id, index].tokens
            assert [token.plain for token in tokens] == pytest.approx(list(trace.token_probs), abs=1e-4)
        for candidate in result.candidates:
            choice = both.choices[result.problem_id, candidate.trace, candidate.position, candidate.end]
            assert choice.taken.plain == pytest.approx(candidate.token_prob, abs=1e-4)
            recorded = [other.prob for other in candidate.alternatives]
            assert [moved.plain for moved in choice.others] == pytest.approx(recorded, abs=1e-4)
            assert choice.taken.steered + sum(moved.steered for moved in choice.others) <= 1 + 1e-6
    changes = [abs(token.steered - token.plain) for trace in both.traces.values() for token in trace.tokens]
    assert max(changes) > 0.1


def test_a_vector_of_no_strength_moves_nothing(searched, loaded):
    nothing = read(loaded, read_search(searched), {"all": 0.0})
    tokens = [token for trace in nothing.traces.values() for token in trace.tokens]
    assert [token.steered for token in tokens] == pytest.approx([token.plain for token in tokens], abs=1e-6)


def test_the_completions_with_the_strongest_findings_are_read_first(searched, loaded):
    run = read_search(searched)
    reported = [(finding.problem, finding.candidate) for finding in run.findings]
    strongest = max(run.findings, key=lambda finding: abs(finding.candidate.delta))
    told = []
    few = read(
        loaded,
        run,
        reported=reported,
        most_tokens=1,
        observe=lambda tokens, share: told.append((tokens, share)),
    )
    place = (strongest.problem.problem_id, strongest.candidate.trace)
    assert list(few.traces) == [place]
    assert told == [(len(few.traces[place].tokens), 1.0)]


def test_another_model_than_the_one_searched_is_refused(searched, loaded):
    run = read_search(searched)
    hot = replace(searched_inputs(run).sampling(), temperature=5.0)
    variant = interventions(load_vectors("demo"), STRONG)
    with pytest.raises(ModelError, match="other probabilities than the search recorded"):
        read_steered(loaded.model, run.results, variant, hot)


def test_a_set_made_of_the_same_problems_is_known(searched):
    shown = steered_run(ReportInputs(searched), "demo").steering
    assert (shown.name, shown.read, shown.of) == ("demo", shown.of, shown.read)
    # The bundled set was made of the first problems of the same draw.
    assert shown.fitted is not None
    assert shown.fitted > 0
    assert shown.added == ("all (layer 1, strength 0.8, gate tokens)",)


def test_what_cannot_be_steered_is_one_line(searched, capsys, tmp_path):
    vectors = str(pts.load_vectors("demo").directory)
    page = ("--output", str(tmp_path / "page.html"))
    assert "is no search (vectors)" in complaint(capsys, "report", vectors, "--vectors", "demo", *page)
    said = complaint(capsys, "report", str(searched), str(searched), "--vectors", "demo", *page)
    assert "make a report of each" in said
    assert "--vectors" in complaint(capsys, "report", str(searched), "--pattern", "all", *page)
    assert "no pattern x" in complaint(
        capsys, "report", str(searched), "--vectors", "demo", "--pattern", "x", *page
    )
    gone = tmp_path / "gone"
    shutil.copytree(searched, gone)
    manifest = json.loads((gone / "manifest.json").read_text())
    manifest["settings"]["model"] = "./deleted"
    (gone / "manifest.json").write_text(json.dumps(manifest))
    assert "deleted" in complaint(capsys, "report", str(gone), "--vectors", "demo", *page)
    damaged = tmp_path / "set"
    shutil.copytree(vectors, damaged)
    (damaged / "records.parquet").write_text("{")
    assert "records.parquet cannot be read" in complaint(
        capsys, "report", str(gone), "--vectors", str(damaged), *page
    )
    manifest["resolved"]["model_revision"] = "another"
    (gone / "manifest.json").write_text(json.dumps(manifest))
    # Said before the model, which is not there, is loaded.
    assert "(--same-shape)" in complaint(capsys, "report", str(gone), "--vectors", "demo", *page)
    (gone / "problems.jsonl").write_text("")
    with pytest.raises(DataError, match="no completion yet"):
        pts.write_report(gone, vectors="demo", output=tmp_path / "page.html")
    with pytest.raises(ConfigError, match="has no setting patern"):
        pts.write_report(searched, vectors="demo", patern={"all": 1.0})
    with pytest.raises(RunError, match="does not exist"):
        pts.write_report(tmp_path / "nowhere", vectors="demo")
    assert not (tmp_path / "page.html").exists()


def test_a_recipe_may_end_with_a_report(searched, tmp_path):
    recipe, page = tmp_path / "recipe.yaml", tmp_path / "page.html"
    keys = {**read_manifest(searched).settings, "problems": 4, "levels": [2, 3]}
    recipe.write_text(
        "stages:\n"
        f"  - {{stage: search, problems: {keys['problems']}, levels: {keys['levels']}, output: {searched}}}\n"
        f"  - {{stage: report, vectors: demo, output: {page}}}\n"
    )
    steps = read_recipe(str(recipe))
    assert steps[1].inputs.sources == (searched,)
    planned = plan_stages(steps[:1], steps[1:], fresh=False)
    assert planned[0].plan.text == f"report: writes {page}."
    stage = planned[0].step.stage
    written = stage.run(planned[0].step.inputs, None)
    assert stage.report(planned[0].step.inputs, written).body.startswith(f"{page}: ")
    assert "Steered beside unsteered" in page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def steered(searched, tmp_path_factory):
    """What steering does to the run, and its report."""
    made = steered_run(ReportInputs(searched), "demo")
    output = tmp_path_factory.mktemp("steered") / "steered.html"
    return made, write_report(searched, output=output, steered=made)


@pytest.fixture
def event(searched, steered):
    """The reported token that steering moves most, and what it does there."""
    made, _ = steered
    by_change = []
    for finding in read_search(searched).findings:
        place = (finding.problem.problem_id, finding.candidate.trace, finding.candidate.position, None)
        moved = made.read.choices[place].taken
        by_change.append((abs(moved.steered - moved.plain), place, moved))
    _, place, moved = max(by_change)
    return place, moved


@pytest.mark.slow
def test_a_completion_shows_where_gates_opened_and_what_moved(look, steered, event):
    made, path = steered
    (problem, index, position, _), moved = event
    page = look(path, f"#{problem}/{index}/{position}")
    assert page.locator(".reading .opened").count() == 0
    page.get_by_label("Coloured by").select_option("steered")
    trace = made.read.traces[problem, index]
    opened = {str(i) for i, one in enumerate(trace.opened) if one}
    assert opened
    assert set(page.locator(".reading .opened").evaluate_all("all => all.map(one => one.dataset.i)")) == opened
    coloured = page.locator(".reading .likelier, .reading .rarer").evaluate_all(
        "all => all.map(one => [Number(one.dataset.i), one.classList.contains('likelier')])"
    )
    changes = {i: token.steered - token.plain for i, token in enumerate(trace.tokens)}
    assert dict(coloured) == {i: change > 0 for i, change in changes.items() if abs(change) >= 0.02}
    assert page.locator(f".chosen[data-i='{position}']").count() >= 1
    assert page.locator(".gates").get_attribute("d").count("M") >= 1
    assert (
        f"The gate was open at {len(opened)} of {len(trace.tokens)} tokens"
        in page.locator(".moved-legend").inner_text()
    )
    page.locator(f".reading [data-i='{position}']").last.hover()
    said = f"Steered: probability {moved.plain:.2f} → {moved.steered:.2f}"
    assert said in page.locator("#tip").inner_text()


@pytest.mark.slow
def test_an_event_has_steered_probabilities_beside_the_others(look, searched, steered, event):
    made, path = steered
    (problem, index, position, _), moved = event
    page = look(path, f"#{problem}/{index}/{position}")
    said = page.locator(".steered-here").inner_text()
    assert f"with probability {moved.steered:.2f} in place of {moved.plain:.2f}" in said
    assert page.locator(".alternatives thead th").all_inner_texts() == [
        *("token", "prob.", "steered", "value", "interval", "draws")
    ]
    (found,) = (
        f.candidate
        for f in read_search(searched).findings
        if (f.problem.problem_id, f.candidate.trace, f.candidate.position) == (problem, index, position)
    )
    choice = made.read.choices[problem, index, position, None]
    both = [(found.token_prob, choice.taken)]
    both += [(o.prob, m) for o, m in zip(found.alternatives, choice.others, strict=True)]
    shown = page.locator(".alternatives tbody td:nth-child(3)").all_inner_texts()
    wanted = [f"{each.steered:.2f}" for _, each in sorted(both, key=lambda pair: -pair[0])]
    assert [text.strip("↑↓ ") for text in shown] == wanted


@pytest.mark.slow
def test_all_reported_tokens_are_drawn_and_listed(look, searched, steered):
    _, path = steered
    run, page = read_search(searched), look(path)
    part = page.locator("#steered-run")
    assert part.locator("circle.point").count() == sum(f.candidate.delta > 0 for f in run.findings)
    assert part.locator("rect.point").count() == sum(f.candidate.delta < 0 for f in run.findings)
    assert part.locator("tbody tr").count() == len(run.findings)
    assert "The vectors were made of pivots of" in part.locator(".warning").inner_text()
    part.locator("tbody a").first.click()
    assert page.locator(".steered-here").count() == 1
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.get_by_label("Coloured by").select_option("steered")
    found = axe.run(page).response["violations"]
    assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == []


@pytest.mark.slow
def test_a_narrow_screen_needs_no_sideways_scrolling(look, steered):
    page = look(steered[1], viewport={"width": 375, "height": 800})
    page.get_by_label("Coloured by").select_option("steered")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
