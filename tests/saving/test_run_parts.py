"""A run's folder says who brought its parts, and whoever takes it up without them is told what to install."""

from __future__ import annotations

import json

import pytest
from distributions import forget_modules_of, install, new_site

pytest.importorskip("lightning")
from smp_feedback.cli.main import main
from smp_feedback.errors import InvalidValue, PluginWarning, UnknownName
from smp_feedback.registry import public as plugins
from smp_feedback.saving.run_parts import PARTS, explained, keep_parts, kept_parts, records_of, say_changed

BRINGS = """
    import torch
    from torch import nn
    from torchvision.transforms import v2
    from smp_feedback.evaluation import NamedMetric
    from smp_feedback.hookspecs import hookimpl

    class Columns(torch.utils.data.Dataset):
        classes, ignore_index, normalised = ("dark", "bright"), None, False

        def __init__(self, split, *, root=None, size=None, seed=0, count=None, transform=None):
            self.split, self.transform = split, transform

        def __len__(self):
            return 2

        def __getitem__(self, index):
            mask = torch.zeros(8, 8).long()
            mask[:, index : index + 2] = 1
            image = mask.float().repeat(3, 1, 1)
            return self.transform(image, mask) if self.transform else (image, mask)

        def name(self, index):
            return f"{self.split} {index}"

    class Brier(nn.Module):
        def forward(self, logits, target):
            wanted = nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1)
            return (logits.softmax(1) - wanted).square().mean()

    def mirror():
        return v2.RandomHorizontalFlip()

    @hookimpl
    def register_datasets(register):
        register("columns", Columns)

    @hookimpl
    def register_losses(register):
        register("brier", Brier)

    @hookimpl
    def register_augmentations(register):
        register("mirror", mirror)

    @hookimpl
    def register_metrics(register):
        register("hits", NamedMetric("hits", None, "hits", of_all=lambda n: n.hit.sum(-1) / n.scored[..., 0]))
"""
FIT = ["--data.name=columns", "--data.augment=mirror", "--model.arch=PlainConv", "--model.loss=brier"]
FIT += ["--monitor=hits", "--model.feedback={steps: 1}", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
FIT += ["--data.batch_size=2", "--trainer.enable_progress_bar=false", "--data.normalise=none"]
NAMED = [("metric", "hits"), ("loss", "brier"), ("dataset", "columns"), ("augmentation", "mirror")]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a package, and a process that has not looked for plugins yet."""
    with new_site(tmp_path, monkeypatch) as folder:
        install(folder, "four-parts", "0.4", BRINGS)
        yield folder


def gone(site, monkeypatch):
    """As if the package had been uninstalled, in a new process."""
    for path in (site / "four_parts-0.4.dist-info").iterdir():
        path.unlink()
    forget_modules_of(site)
    monkeypatch.setattr(plugins, "_process", [])


SETTINGS = {
    "model": {"arch": "Unet", "loss": "Brier", "feedback": {"loop": "recurrent", "dynamics": "decay"}},
    "data": {"name": "columns", "augment": "mirror"},
    "monitor": "val_hits",
}


def test_what_a_package_brought_is_kept_and_what_we_brought_is_not(site, tmp_path):
    assert plugins.list_plugins()
    keep_parts(tmp_path, SETTINGS)
    found = {(one["kind"], one["name"], one["distribution"], one["version"]) for one in kept_parts(tmp_path)}
    assert found == {(kind, name, "four-parts", "0.4") for kind, name in NAMED}
    assert records_of({"model": {"arch": "Unet", "encoder": "resnet18"}, "data": {"name": "polygons"}}) == []


def test_a_missing_part_is_told_with_its_package_and_all_that_came_with_it(site, tmp_path, monkeypatch):
    assert plugins.list_plugins()
    keep_parts(tmp_path, SETTINGS)
    gone(site, monkeypatch)
    said = str(explained(UnknownName("dataset", "Columns", []), [tmp_path]))
    assert said.startswith("No dataset is called 'columns'. It came with four-parts 0.4, as did ")
    assert all(f"{kind} '{name}'" in said for kind, name in NAMED if kind != "dataset")
    assert said.endswith(": pip install four-parts==0.4")
    other = UnknownName("dataset", "another", [])
    assert explained(other, [tmp_path, tmp_path / "none"]) is other


def test_another_version_is_warned_of_once(site, tmp_path, monkeypatch):
    assert plugins.list_plugins()
    keep_parts(tmp_path, SETTINGS)
    say_changed(tmp_path)
    gone(site, monkeypatch)
    (site / "four_parts-0.4.dist-info").rmdir()
    install(site, "four-parts", "0.5", BRINGS)
    with pytest.warns(PluginWarning, match=r"'hits'.* of four-parts 0.4; here it is four-parts 0.5") as caught:
        say_changed(tmp_path)
    assert len(caught) == 1


def test_a_file_of_somebody_elses_is_refused_with_its_path(tmp_path):
    (tmp_path / PARTS).write_text("[1]")
    with pytest.raises(InvalidValue, match=f"{PARTS} is not what was written there"):
        kept_parts(tmp_path)


def test_an_experiment_keeps_who_brought_its_parts_and_says_what_to_install(site, tmp_path, monkeypatch, capsys):
    told = ["--data.name=columns", "--data.augment=mirror", "--loss=brier", "--arch=PlainConv", "--train=[clean]"]
    told += ["--train_steps=1", "--data.train_count=1", "--seeds=1", f"--out={tmp_path}/out"]

    def made(*_):
        raise InvalidValue("enough")

    monkeypatch.setattr("smp_feedback.experiments.engine.run_all", made)
    assert main(["compare", *told]) == 2
    assert "enough" in capsys.readouterr().err
    of_training = {*NAMED} - {("metric", "hits")}
    assert {(one["kind"], one["name"]) for one in kept_parts(tmp_path / "out")} == of_training
    gone(site, monkeypatch)
    assert main(["compare", *told]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "It came with four-parts 0.4, as did" in said
    assert said.endswith("pip install four-parts==0.4")


def test_conditions_name_corruptions_whatever_their_severity(restored):
    restored.corruptions.register("own fog", lambda image, severity, generator: image)
    told = {"corruptions": ["own fog", "occlusion"], "train": ["clean", "own fog:4"], "tests": ["own fog:1"]}
    (record,) = records_of(told)
    assert (record["kind"], record["name"]) == ("corruption", "own fog")


def test_a_run_without_its_package_says_what_to_install(site, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    assert main(["fit", "--out", str(run), *FIT]) == 0
    assert {(one["kind"], one["name"]) for one in json.loads((run / PARTS).read_text())} == {*NAMED}
    gone(site, monkeypatch)
    for words in (["test", "--run"], ["predict", "--run"], ["fit", "--resume"]):
        capsys.readouterr()
        assert main([*words, str(run)]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("smp-feedback: No ")
        assert "It came with four-parts 0.4, as did" in said
        assert all(f" {name!r}" in said for _, name in NAMED)
        assert said.endswith("pip install four-parts==0.4")
