"""The README on a package index: nothing in it is relative there."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[1]
ADDRESS = "https://host.example/owner/name"
RELATIVE = re.compile(r"\]\((?!https?://)")
A_PAGE = 120


def described(text):
    return email.message_from_string(text).get_payload()


def built(folder, *kinds):
    """The descriptions of what hatchling builds of the project in *folder*."""
    targets = [f"--target={kind}" for kind in kinds]
    command = [sys.executable, "-m", "hatchling", "build", "--directory", "dist", *targets]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        yield described(opened.read(name).decode())
    with tarfile.open(sdist) as opened:
        (name,) = [name for name in opened.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO")]
        yield described(opened.extractfile(name).read().decode())


@pytest.fixture
def project(tmp_path):
    """Of this project what its metadata are made of, and a package of one module."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "smp_feedback/_version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def test_without_an_address_pictures_go_and_links_are_their_text(project):
    settings = project / "pyproject.toml"
    assert 'address = ""' in settings.read_text(), "the project has no address yet"
    for text in built(project, "wheel", "sdist"):
        assert not RELATIVE.search(text)
        assert "![" not in text
        assert "\n## Helps, and does not\n" in text
        assert "The tutorial goes from photographs" in text
        assert "](https://arxiv.org/abs/2509.15905)" in text


def test_with_an_address_links_and_pictures_are_absolute(project):
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text().replace('address = ""', f'address = "{ADDRESS}/"'))
    for text in built(project, "wheel", "sdist"):
        assert not RELATIVE.search(text)
        assert f"]({ADDRESS}/raw/main/docs/maze.gif)" in text
        assert f"[The tutorial]({ADDRESS}/blob/main/docs/tutorial.md)" in text
        for path in re.findall(rf"\({ADDRESS}/(?:raw|blob)/main/([^)#]+)", text):
            assert (ROOT / path).exists(), path


def test_this_checkout_has_that_description():
    project = ProjectMetadata(str(ROOT), PluginManager())
    assert project.core.readme_content_type == "text/markdown"
    assert project.core.readme.startswith("# smp_feedback")
    assert not RELATIVE.search(project.core.readme)


def test_pip_makes_a_wheel_and_an_editable_one_without_network(project, tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*command, "--wheel-dir", tmp_path / "wheels", project], check=True, capture_output=True)
    assert len([*(tmp_path / "wheels").iterdir()]) == 1
    target = ["--target", tmp_path / "installed", "--editable", project]
    install = [sys.executable, "-m", "pip", "install", *command[4:]]
    subprocess.run([*install, *target], check=True, capture_output=True)
    assert [*(tmp_path / "installed").glob("*.dist-info")] != []


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= A_PAGE
