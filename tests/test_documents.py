"""README and docs: their code runs, their commands exist, every hook is documented."""

from __future__ import annotations

import contextlib
import inspect
import multiprocessing
import os
import re
import runpy
import traceback
import warnings
from pathlib import Path

import pytest

from smp_feedback import hookspecs, testing

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOOKS = [name for name in vars(hookspecs) if name.startswith("register_")]
CODE = [
    pytest.param(block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


SLOW = ("lightning.pytorch", "matplotlib.pyplot", "monai.inferers", "onnxruntime", "onnxscript")  # where they are there
FRESH = multiprocessing.get_context("forkserver")  # a process for each block, which need not import all again
FRESH.set_forkserver_preload(["torch", "torchvision", "segmentation_models_pytorch", *SLOW])


def run_as_it_stands(block, folder):
    os.chdir(folder)
    with open("said", "w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):  # noqa: PTH123
        try:
            warnings.simplefilter("error")
            Path("block.py").write_text(block)
            runpy.run_path("block.py", run_name="__main__")
        except BaseException:
            traceback.print_exc()
            raise


@pytest.mark.parametrize("block", CODE)
def test_the_code_in_the_documents_runs_as_it_stands(block, tmp_path):
    process = FRESH.Process(target=run_as_it_stands, args=(block, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0, (tmp_path / "said").read_text()


def test_code_that_does_not_run_is_noticed(tmp_path):
    process = FRESH.Process(target=run_as_it_stands, args=("import warnings; warnings.warn('old')", tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 1
    assert "UserWarning: old" in (tmp_path / "said").read_text()


def test_there_is_code_in_the_readme():
    assert any("README" in case.id for case in CODE)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_page_with_its_signature_an_example_and_its_check(hook):
    kind = hook.removeprefix("register_")
    overview, page = ROOT / "docs" / "plugins.md", ROOT / "docs" / "plugins" / f"{kind}.md"
    (check,) = re.findall(rf"\[`{hook}`\]\(plugins/{kind}.md\) .*`(check_\w+)`", overview.read_text())
    title, _, signature, *_ = page.read_text().splitlines()
    assert title == f"# `{hook}`"
    said = re.search(r"``(register\(.*?)\)?``", getattr(hookspecs, hook).__doc__)[1]
    assert signature.startswith("`register(")
    assert signature.endswith(")`")
    assert len(signature.split(",")) >= len(said.split(",")), "the page says less than the hook"
    example, *_ = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert f"@hookimpl\ndef {hook}(register):" in example
    assert f"\n{check}(" in example, "the example is not checked"
    assert hasattr(testing, check)
    for section in ("## Example", "## Test", "## What the errors catch"):
        assert section in page.read_text()


@pytest.mark.parametrize("name", testing.__all__)
def test_the_signature_of_every_check_is_in_the_overview(name):
    signature = inspect.signature(getattr(testing, name))
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    said = f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"
    overview = (ROOT / "docs" / "plugins.md").read_text()
    (block,) = re.findall(r"### Signatures of the checks\n.*?```\n(.*?)```", overview, re.DOTALL)
    assert said in block.splitlines(), f"docs/plugins.md: expected the line {said}"
    assert len(block.splitlines()) == len(testing.__all__)


def test_every_command_in_the_documents_exists():
    text = "\n".join(page.read_text() for page in PAGES)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", text)) <= targets
    for module in set(re.findall(r"python -m ([\w.]+)", text)):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module


def test_every_local_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_documents_name_no_placeholder():
    for page in PAGES:
        assert not re.search(r"\b(TODO|TBD|XXX|FIXME)\b", page.read_text()), page.name
