"""Notebooks: stored without outputs, and each runs as it stands, with less to train than a reader has."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLER = {
    "first_steps": {"train_steps": 2, "test_mazes": 2, "looks": [1, 2]},
    "my_images": {"train_steps": 2, "seeds": 1},
}
"""What takes the place of a notebook's parameters."""
KERNEL = "this-python"

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def parameters_of(book):
    (cell,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


def executed(book, folder, monkeypatch):
    """*book*, run in *folder* by the Python of the tests, which has this package."""
    spec = folder / "jupyter" / "kernels" / KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": KERNEL, "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # without, jupyter_core warns of where it will look one day
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm's, where there is no ipywidgets
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))
    return NotebookClient(book, kernel_name=KERNEL, timeout=300, resources={"metadata": {"path": folder}}).execute()


def test_every_notebook_is_known():
    assert {path.stem for path in NOTEBOOKS} == SMALLER.keys()


@every_notebook
def test_a_notebook_is_stored_valid_and_without_outputs(path):
    book = read(path)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@every_notebook
def test_what_the_tests_make_smaller_are_the_parameters(path):
    told = {target.id for line in ast.parse(parameters_of(read(path)).source).body for target in line.targets}
    assert told == SMALLER[path.stem].keys()


@every_notebook
def test_a_notebook_runs_as_it_stands(path, tmp_path, monkeypatch):
    book = read(path)
    parameters_of(book).source += "".join(f"\n{name} = {value!r}" for name, value in SMALLER[path.stem].items())
    done = executed(book, tmp_path, monkeypatch)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    seen = [out for cell in code for out in cell.outputs]
    assert not [out.text for out in seen if out.get("name") == "stderr"], "a warning that a reader would see"
    assert any("image/png" in out.get("data", ()) for out in seen), "something is drawn"
