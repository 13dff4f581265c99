"""The template: copied, renamed by its command, installed and used, by processes that know nothing else of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import ROOT, forget_modules_of, install, process, run

import smp_feedback as smpf
from smp_feedback.errors import UnknownName
from smp_feedback.registry import public as plugins
from smp_feedback.testing import check_plugin

TEMPLATE = ROOT / "plugins" / "template"
RUBBISH = shutil.ignore_patterns(".*_cache", "__pycache__", "*.egg-info", "build", "dist")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy, renamed."""
    copy = tmp_path_factory.mktemp("copies") / "mine"
    shutil.copytree(TEMPLATE, copy, ignore=RUBBISH)
    subprocess.run([sys.executable, "rename.py", "two_eyes"], cwd=copy, check=True)
    return copy


@pytest.fixture(scope="module")
def site(folder, tmp_path_factory):
    """The copy, built and installed where nothing else is."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", str(place), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def test_renaming_leaves_no_word_of_the_template_and_nothing_of_its_own(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        assert "template" not in str(path.relative_to(folder)).lower()
        assert "template" not in path.read_text().lower(), path
    assert not (folder / "rename.py").exists()
    assert (folder / "smp_feedback_two_eyes" / "py.typed").exists()
    assert (folder / ".github" / "workflows" / "test.yml").exists()


@pytest.mark.parametrize("name", ["", "Mine", "two-eyes", "2eyes", "two__eyes", "_eyes"])
def test_a_name_that_python_would_not_take_is_refused_and_nothing_renamed(tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(TEMPLATE, copy, ignore=RUBBISH)
    done = subprocess.run([sys.executable, "rename.py", name], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 1
    assert "my_name" in done.stderr
    assert (copy / "rename.py").exists()
    assert (copy / "smp_feedback_template").is_dir()


def test_a_renamed_copy_is_clean_by_its_own_rules(folder):
    for command in (["ruff", "check", "--no-cache", "."], ["ruff", "format", "--no-cache", "--check", "."]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def said(site, tmp_path_factory):
    """What one process with the copy installed says of it, after listing it, training with it and saving it."""
    model = tmp_path_factory.mktemp("saved") / "model"
    code = f"""
        import contextlib, io, json, sys
        import smp_feedback as smpf
        from smp_feedback.cli.main import main
        (plugin,) = [p for p in smpf.list_plugins() if p.name == "two_eyes"]
        imported = sorted(m for m in sys.modules if m.startswith("smp_feedback_two"))
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            assert main(["list", "architectures", "twoeyes*"]) == 0

        import torch
        from smp_feedback.training.build_loss import build_loss
        torch.manual_seed(0)
        feedback = {{"steps": 3, "dynamics": "two_eyes_gate"}}
        model = smpf.create("twoeyesnet", classes=2, feedback=feedback)
        image = torch.rand(2, 3, 32, 32)
        target, loss = (image.mean(1) > 0.5).long(), build_loss("two_eyes_margin", 255)
        optimizer, values = torch.optim.Adam(model.parameters(), 0.01), []
        for _ in range(20):
            optimizer.zero_grad()
            values.append(loss(model(image), target))
            values[-1].backward()
            optimizer.step()
        model.eval().save_pretrained({str(model)!r})
        again = smpf.from_pretrained({str(model)!r})
        trained = [values[0].item(), values[-1].item(), torch.equal(again(image), model(image))]
        facts = {{"imported": imported, "shown": shown.getvalue(), "trained": trained, "model": {str(model)!r}}}
        print(json.dumps(plugin.to_dict() | facts))
    """
    return process(code, site)


@pytest.mark.sweep
def test_installed_it_is_listed_with_its_distribution_and_version(said):
    assert (said["distribution"], said["version"], said["state"]) == ("smp-feedback-two-eyes", "0.1.0", "loaded")
    assert said["brought"] == {
        "architectures": ["TwoEyesNet"],
        "dynamics": ["two_eyes_gate"],
        "losses": ["two_eyes_margin"],
    }
    assert said["imported"] == ["smp_feedback_two_eyes", "smp_feedback_two_eyes.plugin"], "its parts are for later"
    assert "TwoEyesNet" in said["shown"]


def test_installed_it_is_created_trained_saved_and_loaded(said):
    first, last, same = said["trained"]
    assert last < first
    assert same
    with pytest.raises(UnknownName, match="smp-feedback-two-eyes"):  # here it is not installed
        smpf.from_pretrained(said["model"])


# make test holds the template to its promises by its own name: here is that the copy's other tests are whole, too
@pytest.mark.sweep
def test_installed_its_own_tests_pass(folder, site):
    where = ["-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    done = run(["-m", "pytest", "-q", "-k", "not promises and not keep", *where], site)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d+ passed", done.stdout)


# --- check_plugin

LOSS = """
    from smp_feedback.hookspecs import hookimpl
    from smp_feedback.losses.pixels import PixelLoss

    class Mine(PixelLoss):
        def of(self, pixels):
            return -(pixels.logits.log_softmax(1) * pixels.one_hot).sum(1).{}

    @hookimpl
    def register_losses(register):
        register("{}", Mine)
"""


def held(*arguments):
    try:
        return check_plugin(*arguments)
    except AssertionError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::smp_feedback.errors.PluginWarning")
def test_a_plugin_is_held_to_its_promises(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(plugins, "_process", [])  # which has not looked for plugins yet
    install(tmp_path, "fine-plugin", "1.0", LOSS.format("mean()", "mine"), entry="fine")
    install(tmp_path, "rows-plugin", "1.0", LOSS.format("mean(1)", "rows"), entry="rows")
    install(tmp_path, "sick-plugin", "1.0", "1 / 0", entry="sick")
    install(tmp_path, "hollow-plugin", "1.0", "from smp_feedback.hookspecs import hookimpl", entry="hollow")
    calls = [("fine",), ("Fine_Plugin",), ("rows",), ("sick",), ("hollow",), ("fin",), ("fine", {"yours": {}})]
    said = [held(*call) for call in calls]
    forget_modules_of(tmp_path)
    assert said[:2] == [None, None]
    for words, found in zip(
        (
            r"losses 'rows' of the plugin 'rows': it has the shape \(2,\)",
            "The plugin 'sick' is left out: (?s:.*)ZeroDivisionError",
            "'hollow' brings nothing",
            "No plugin 'fin' is installed; there is: .*fine",
            "'fine' brings no yours; it brings mine",
        ),
        said[2:],
        strict=True,
    ):
        assert re.search(words, found), found


def test_the_template_says_what_the_overview_says():
    overview = (ROOT / "docs" / "plugins.md").read_text()
    for command in ("python rename.py my_name", 'pip install -e ".[test]"'):
        assert command in overview
        assert command in (TEMPLATE / "README.md").read_text()
    readme = Path(TEMPLATE / "README.md").read_text()
    for name in ("TemplateNet", "template_gate", "template_margin"):
        assert name in readme
