"""The notebook of the documents runs from its first cell to its last, in a kernel of its own."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tour.ipynb"


@pytest.mark.slow
def test_the_tour_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len([cell for cell in notebook.cells if cell.cell_type == "code"]) == len(
        [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    )
    html = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert any("Run directory" in text for text in html)
    assert any("nothink" in text for text in html)


def test_the_tour_is_kept_with_its_output():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert "/tmp/" not in NOTEBOOK.read_text(encoding="utf-8")
