"""The notebook runs from a fresh kernel as it stands, and what it shows is no noise."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = REPOSITORY / "docs" / "examples" / "first_steps.ipynb"
LARGEST_BYTES = 300_000
MEAN_AP = (
    r"mean AP of the twelve: ([\d.]+), of the two taught: ([\d.]+); of random scores about ([\d.]+)"
)


def text_of(outputs) -> str:
    """Return what a cell printed, as a terminal leaves it."""
    parts = [one.get("text", "") for one in outputs if one["output_type"] == "stream"]
    whole = "".join("".join(part) for part in parts).replace("\r\n", "\n")
    return "\n".join(line.rpartition("\r")[2] for line in whole.split("\n"))


def pictures_of(outputs) -> int:
    return sum("image/png" in one.get("data", {}) for one in outputs)


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_a_fresh_kernel_runs_it_to_scores_that_random_ones_do_not_reach(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    import nbformat

    programs = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([programs, os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code_cells(notebook):
        cell.update(outputs=[], execution_count=None)
    where = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=800, kernel_name="python3", resources=where)
    client.execute()  # raises where a cell does

    cells = code_cells(notebook)
    said = [text_of(cell.outputs) for cell in cells]
    for cell, text in zip(cells, said, strict=True):
        assert "error:" not in text and "Traceback" not in text, (cell.source, text)
    assert sum(pictures_of(cell.outputs) for cell in cells) == 4
    assert any(re.search(r"^person \d+: .* to .* s, score 0\.\d\d$", text, re.M) for text in said)
    twelve, taught, random = map(float, re.search(MEAN_AP, "\n".join(said)).groups())
    assert 0.05 < random < 0.2
    assert twelve > 0.25 and taught > 0.3, "the lower bounds are twice what random scores reach"
    for name in ("annotated.mp4", "review.html"):
        assert (tmp_path / "found/first" / name).is_file()
    assert (tmp_path / "mine/label/review.html").is_file()


def test_it_is_committed_small_and_with_the_outputs_of_one_run():
    assert NOTEBOOK.stat().st_size < LARGEST_BYTES
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "as Jupyter writes it"
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(one["output_type"] == "error" for cell in cells for one in cell["outputs"])
    assert sum(pictures_of(cell["outputs"]) for cell in cells) == 4
    assert all("\r" not in text_of(cell["outputs"]) for cell in cells)
    assert {key for cell in notebook["cells"] for key in cell["metadata"]} == set()


def test_it_names_no_machine():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        shown = "".join(cell["source"])
        if cell["cell_type"] == "code":
            shown += text_of(cell["outputs"])
        found = re.search(
            r"(?<![\w.])/(?:home|root|tmp|usr|work|Users|var|opt)/|[A-Z]:\\|\S@\S", shown
        )
        assert not found, found


def test_its_links_lead_to_pages():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    prose = "".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    named = re.findall(r"`(docs/[\w/.]+)`", prose)
    assert len(named) > 3
    assert all((REPOSITORY / name).is_file() for name in named)
