"""To disk and to the hub and back: the same model, whole, without network, and every stranger's file is named."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import socket
import sys
import warnings
from pathlib import Path

import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from conftest import SMPS, a_few
from huggingface_hub import ModelCard, hub_mixin
from huggingface_hub.errors import EntryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import smp_feedback as smpf
from smp_feedback.dynamics import Dynamics
from smp_feedback.errors import (
    FeedbackError,
    InvalidType,
    InvalidValue,
    PluginWarning,
    UnknownKeyword,
    UnknownName,
)
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.projections import Softmax
from smp_feedback.registry.public import Plugin, catalogue
from smp_feedback.saving import files, provenance

SIZE = {"DPT": 224, "PAN": 128}
DPT = {"decoder_intermediate_channels": (16, 16, 16, 16), "decoder_fusion_channels": 16}
IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def arguments(arch="Unet", **more):
    encoder = "tu-vit_tiny_patch16_224" if arch == "DPT" else "tu-test_resnet.r160_in1k"
    return {"encoder_name": encoder, "encoder_weights": None, "classes": 3} | (DPT if arch == "DPT" else {}) | more


@torch.no_grad()
def shaken(model):
    """*model* with weights and statistics that are nobody else's."""
    for value in model.state_dict().values():
        value.add_(0.01 * torch.randn_like(value) if value.is_floating_point() else 1)
    return model.eval()


def made(arch="Unet", feedback=True, **more):
    return shaken(smpf.create(arch, **arguments(arch, **more), feedback=feedback))


@torch.no_grad()
def assert_same(one, other, image=IMAGE):
    assert type(one) is type(other)
    assert one.loop_config == other.loop_config
    assert one.state_dict().keys() == other.state_dict().keys()
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    path = one.trajectory(image)
    assert path.isfinite().all()
    assert torch.equal(path, other.trajectory(image))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return made()


@pytest.fixture(scope="module")
def original(model, tmp_path_factory):
    return model.save_pretrained(tmp_path_factory.mktemp("original"))


@pytest.fixture
def saved(original, tmp_path):
    """A directory of one's own with *model* in it."""
    return Path(shutil.copytree(original, tmp_path / "saved"))


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Body(nn.Module):
    """Nothing of smp."""

    def __init__(self, in_channels, classes, tied=False):
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.second, self.third = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        if tied:
            self.third.weight = self.second.weight
        self.head = nn.Conv2d(8, classes, 1)

    def forward_features(self, image):
        return self.third(self.second(self.first(image).tanh()).tanh())

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


@pytest.fixture
def body(restored):
    def build(encoder_name, encoder_weights, in_channels, classes, tied=False):
        return Body(in_channels, classes, tied)

    smpf.register_architecture("Body", build)


# --- there and back


@pytest.mark.parametrize("arch", a_few(SMPS, "Unet", "DPT", "PAN"))
def test_every_architecture_comes_back_the_same(arch, tmp_path):
    model = made(arch, smpf.Recurrent(steps=2, projection="probabilities"))
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    size = SIZE.get(arch, 64)
    assert_same(again, model, torch.rand(1, 3, size, size))
    assert json.dumps(again.config) == json.dumps(model.config)
    assert not again.training


@pytest.mark.parametrize("arch", a_few(SMPS, "Unet", "DPT", "PAN"))
def test_every_wrapped_architecture_comes_back_the_same(arch, tmp_path):
    model = shaken(smpf.wrap(smp.create_model(arch, **arguments(arch)), feedback=smpf.Recurrent(steps=2)))
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    size = SIZE.get(arch, 64)
    assert_same(again, model, torch.rand(1, 3, size, size))


@pytest.mark.parametrize("steps", [1, 3])
def test_an_architecture_that_is_not_smps_comes_back_the_same_with_tied_weights(body, tmp_path, steps):
    model = shaken(smpf.create("Body", tied=True, feedback={"steps": steps}))
    assert model.third.weight is model.second.weight
    assert_same(smpf.from_pretrained(model.save_pretrained(tmp_path)), model)


def test_saving_twice_writes_the_same_bytes(model, saved):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    assert len(before) == 3
    model.save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_the_config_says_how_to_build_the_model_and_with_what_it_was_saved(model, saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["architecture"] == "Unet"
    assert config["arguments"] == {"in_channels": 3, **arguments()}
    assert config["feedback"] == model.loop_config.to_dict()
    assert config["plugins"] == {}
    libraries = [smpf, torch, smp, timm]
    assert config["versions"] == {library.__name__: str(library.__version__) for library in libraries}


def test_a_model_goes_to_the_device_that_is_named(saved):
    model = smpf.from_pretrained(saved, map_location="meta")
    assert {value.device.type for value in model.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("way", [smpf.FeedbackModel, type], ids=["FeedbackModel", "its own class"])
def test_the_class_method_of_smp_leads_here(model, saved, way):
    cls = type(model) if way is type else way
    assert_same(cls.from_pretrained(saved), model)
    assert cls.from_pretrained(saved, feedback={"steps": 2}).loop_config.steps == 2


def test_a_class_refuses_a_model_of_another_class(saved):
    fpn = type(smpf.create("FPN", **arguments()))
    with pytest.raises(InvalidType, match="RecurrentModelUnet, no RecurrentModelFPN"):
        fpn.from_pretrained(saved)


# --- the card


def test_the_card_holds_dataset_metrics_and_how_to_load(model, tmp_path):
    numbers = {"my_metric": 0.99, "mean": torch.tensor(0.5)}
    model.save_pretrained(tmp_path, dataset="test_dataset", metrics=numbers, model_card_kwargs={"license": "mit"})
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "smp_feedback"
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "image-segmentation"
    for words in ("test_dataset", '"my_metric": 0.99', '"mean": 0.5', "smp_feedback.from_pretrained("):
        assert words in card.text
    assert '"encoder_name": "tu-test_resnet.r160_in1k"' in card.text
    assert '"dynamics": "decay"' in card.text


def test_the_card_may_be_given_as_smp_gives_it(model, tmp_path):
    model.save_pretrained(tmp_path, model_card_kwargs={"dataset": "theirs", "metrics": {"iou": 1}}, dataset="ours")
    text = (tmp_path / "README.md").read_text()
    assert '"iou": 1' in text
    assert "ours" in text
    assert "theirs" not in text


def test_a_card_is_renewed_and_a_text_of_ones_own_is_kept(model, saved):
    model.save_pretrained(saved, dataset="another set")
    assert "another set" in (saved / "README.md").read_text()
    (saved / "README.md").write_text("My words.")
    model.save_pretrained(saved, dataset="a third set")
    assert (saved / "README.md").read_text() == "My words."


def test_a_config_of_ones_own_and_lost_keywords_are_refused(model, tmp_path):
    with pytest.raises(InvalidValue, match=r"config\.json says how to build"):
        model.save_pretrained(tmp_path / "new", config={"classes": 2})
    with pytest.raises(InvalidType, match="commit_message: only push_to_hub=True"):
        model.save_pretrained(tmp_path / "new", commit_message="lost")
    assert not (tmp_path / "new").exists()


# --- whole or not at all


def crash_at(monkeypatch, target, name, moment):
    calls, work = iter(range(99)), getattr(target, name)

    def crash(*given, **more):
        if next(calls) == moment:
            raise OSError("no space left on device")
        return work(*given, **more)

    monkeypatch.setattr(target, name, crash)


@pytest.mark.parametrize("cleaned", a_few([True, False], False), ids=["raised", "killed"])
@pytest.mark.parametrize(
    ("target", "name", "moment"),
    [(os, "fsync", 0), (os, "fsync", 1), (os, "fsync", 2)] + [(Path, "replace", i) for i in range(3)],
)
def test_a_crash_at_any_moment_of_a_save_leaves_the_old_model_whole(
    model, saved, monkeypatch, target, name, moment, cleaned
):
    other = made("FPN", smpf.Recurrent(steps=2))
    with monkeypatch.context() as patch:
        crash_at(patch, target, name, moment)
        if not cleaned:  # nobody removes the drafts of a process that was killed
            patch.setattr(Path, "unlink", lambda *given, **more: None)
        with pytest.raises(OSError, match="no space"):
            other.save_pretrained(saved)
    if cleaned:
        assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    mixed = (name, moment) == ("replace", 2)
    if mixed:
        with pytest.warns(UserWarning, match="of another save"):
            again = smpf.from_pretrained(saved)
    else:
        again = smpf.from_pretrained(saved)
    assert_same(again, model)
    other.save_pretrained(saved)
    assert_same(smpf.from_pretrained(saved), other)


def test_a_config_of_another_model_is_set_aside(model, saved, tmp_path):
    shutil.copy(made("FPN").save_pretrained(tmp_path / "fpn") / "config.json", saved)
    with pytest.warns(UserWarning, match=r"model\.safetensors.*save it again"):
        again = smpf.from_pretrained(saved)
    assert_same(again, model)


def test_a_config_edited_by_hand_is_obeyed(saved):
    edit(saved, lambda config: config["feedback"].update(steps=2))
    assert smpf.from_pretrained(saved).loop_config.steps == 2


def test_weights_that_know_of_no_config_are_not_mixed_with_one(saved):
    save_file(load_file(saved / "model.safetensors"), saved / "model.safetensors")
    with pytest.raises(FeedbackError, match="not of one save"):
        smpf.from_pretrained(saved)


# --- the hub


class Hub:
    """What of ``HfApi`` a push needs, with a folder for the hub."""

    def __init__(self, folder):
        self.folder, self.asked = folder, []

    def __call__(self, token=None):
        self.asked.append(token)
        return self

    def create_repo(self, repo_id, **how):
        self.asked.append((repo_id, how["private"]))
        return type("Repo", (), {"repo_id": repo_id})

    def upload_folder(self, *, repo_id, folder_path, commit_message, **how):
        shutil.copytree(folder_path, self.folder / repo_id)
        return f"https://hub/{repo_id}/commit/{commit_message}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub_mixin, "HfApi", hub)
    return hub


@pytest.mark.parametrize("arch", ["Unet", "Body"])
def test_a_pushed_model_is_on_the_hub_whole(body, hub, arch):
    model = made() if arch == "Unet" else shaken(smpf.create("Body"))
    how = {"private": True, "token": "hf_x", "commit_message": "first"}
    url = model.push_to_hub("me/mine", model_card_kwargs={"metrics": {"my_metric": 0.99}}, **how)
    assert url == "https://hub/me/mine/commit/first"
    assert hub.asked == ["hf_x", ("me/mine", True)]
    assert sorted(p.name for p in (hub.folder / "me/mine").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert_same(smpf.from_pretrained(hub.folder / "me/mine"), model)
    text = (hub.folder / "me/mine/README.md").read_text()
    assert 'from_pretrained("me/mine")' in text
    assert '"my_metric": 0.99' in text


@pytest.mark.parametrize("repo_id", ["me/named", None])
def test_a_save_that_pushes_returns_the_url_and_leaves_the_directory(model, hub, tmp_path, repo_id):
    url = model.save_pretrained(
        tmp_path / "mine", repo_id=repo_id, push_to_hub=True, dataset="test_dataset", commit_message="second"
    )
    name = repo_id or "mine"
    assert url == f"https://hub/{name}/commit/second"
    for folder in (tmp_path / "mine", hub.folder / name):
        assert "test_dataset" in (folder / "README.md").read_text()
        assert_same(smpf.from_pretrained(folder), model)


SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A function that puts a directory into a hub cache, as huggingface_hub lays it out; there is no network."""

    def refuse(*given, **more):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    def put(folder, repository="me/mine", sha=SHA, ref="main"):
        home = tmp_path / "cache" / f"models--{repository.replace('/', '--')}"
        shutil.copytree(folder, home / "snapshots" / sha)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / ref).write_text(sha)
        return tmp_path / "cache"

    return put


def test_a_repository_in_the_cache_loads_offline(model, original, cache, monkeypatch):
    folder = cache(original)
    assert_same(smpf.from_pretrained("me/mine", cache_dir=folder, local_files_only=True), model)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert_same(smpf.from_pretrained("me/mine", cache_dir=folder), model)
    assert_same(type(model).from_pretrained("me/mine", cache_dir=folder), model)


def test_a_revision_is_the_one_that_is_loaded(model, original, cache, tmp_path):
    other = made("FPN")
    cache(original)
    folder = cache(other.save_pretrained(tmp_path / "other"), sha=SHA[::-1], ref="v2")
    for revision, wanted in ((None, model), ("main", model), (SHA, model), ("v2", other), (SHA[::-1], other)):
        again = smpf.from_pretrained("me/mine", revision=revision, cache_dir=folder, local_files_only=True)
        assert_same(again, wanted)


def test_what_is_not_in_the_cache_is_named_offline(original, cache):
    folder = cache(original)
    (folder / "models--me--mine" / "snapshots" / SHA / "model.safetensors").unlink()
    for repository, name in (("me/mine", r"model\.safetensors"), ("you/yours", r"config\.json")):
        with pytest.raises(FeedbackError, match=f"'{repository}' is no directory here, and {name} of the hub"):
            smpf.from_pretrained(repository, cache_dir=folder, local_files_only=True)
    with pytest.raises(FeedbackError, match="'me/no name' is no directory here"):
        smpf.from_pretrained("me/no name")


def test_a_repository_without_a_model_is_told_so(monkeypatch):
    def absent(*given, **more):
        raise EntryNotFoundError("404")

    monkeypatch.setattr(files, "hf_hub_download", absent)
    with pytest.raises(FeedbackError, match=r"config\.json of the hub repository of that name .*: it holds none"):
        smpf.from_pretrained("me/mine")


def test_the_hubs_keywords_reach_the_hub(model, original, monkeypatch):
    asked = []

    def download(repository, *, filename, **hub):
        asked.append((repository, filename, hub))
        return str(original / filename)

    monkeypatch.setattr(files, "hf_hub_download", download)
    hub = {"revision": "v1", "cache_dir": "here", "token": "hf_x", "force_download": True, "local_files_only": False}
    assert_same(smpf.from_pretrained("me/mine", **hub), model)
    assert asked == [("me/mine", "config.json", hub), ("me/mine", "model.safetensors", hub)]


@torch.no_grad()
def test_a_plain_model_of_smps_is_loaded_from_the_hub(cache, tmp_path):
    plain = shaken(smp.Unet(**arguments()))
    plain.save_pretrained(tmp_path / "plain")
    folder = cache(tmp_path / "plain")
    model = smpf.wrap(smp.Unet(**arguments()))
    model.load_feedforward("me/mine", cache_dir=folder, local_files_only=True)
    torch.testing.assert_close(model.eval()(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("encoder", "weights"), [("resnet18", "imagenet"), ("tu-resnet18", True)])
def test_pretrained_weights_of_the_base_are_never_asked_for(encoder, weights, tmp_path, cache, monkeypatch):
    model = made(encoder_name=encoder)
    model.save_pretrained(tmp_path)
    edit(tmp_path, lambda config: config["arguments"].update(encoder_weights=weights))
    monkeypatch.setattr(smp.encoders, "hf_hub_download", None)
    monkeypatch.setattr(timm.models._builder, "load_pretrained", None)
    assert_same(smpf.from_pretrained(tmp_path), model)
    assert_same(smpf.from_pretrained(tmp_path, encoder_weights=None), model)
    with pytest.raises(InvalidValue, match="the saved weights are loaded, and no others"):
        smpf.from_pretrained(tmp_path, encoder_weights=weights)


def test_a_path_to_a_pickle_in_a_config_is_not_followed(tmp_path):
    model = made(encoder_name="tu-resnet18")
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(print))
    path = str(tmp_path / "weights.pth")
    edit(tmp_path / "saved", lambda config: config["arguments"].update(checkpoint_path=path))
    assert_same(smpf.from_pretrained(tmp_path / "saved"), model)


# --- other arguments than the saved ones


@pytest.mark.parametrize("arch", ["Unet", "Body"])
def test_other_classes_load_all_that_fits_and_name_what_does_not(body, tmp_path, arch):
    feedback = smpf.Recurrent(projection="probabilities")
    model = made(feedback=feedback) if arch == "Unet" else shaken(smpf.create("Body", classes=3, feedback=feedback))
    model.save_pretrained(tmp_path)
    with pytest.raises(FeedbackError, match=r"(?s)head.*size mismatch.*strict=False"):
        smpf.from_pretrained(tmp_path, classes=2)
    with pytest.warns(UserWarning, match="Mismatched keys") as caught:
        again = smpf.from_pretrained(tmp_path, classes=2, strict=False)
    assert again.config["classes"] == 2
    assert again(IMAGE).shape[1] == 2
    before, after = model.state_dict(), again.state_dict()
    changed = {key for key in before if before[key].shape != after[key].shape}
    assert any(key.startswith("feedback.readers") for key in changed)
    assert any("head" in key for key in changed)
    assert before.keys() == after.keys()
    (warning,) = caught
    assert {line.split(":")[0] for line in str(warning.message).split("\n - ")[1:]} == changed
    assert all(torch.equal(before[key], after[key]) for key in before.keys() - changed)


def test_what_is_missing_or_too_much_is_listed(saved):
    path = saved / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    tensors["encoder.conv9.weight"] = tensors.pop("encoder.model.conv1.0.weight")
    save_file(tensors, path, metadata=about)
    with pytest.raises(
        FeedbackError, match=r"(?s)weights of this Unet.*encoder\.model\.conv1\.0\.weight.*encoder\.conv9\.weight"
    ):
        smpf.from_pretrained(saved)
    with pytest.warns(UserWarning, match=r"(?s)0\.weight: not saved.*conv9\.weight: saved, and not in this model"):
        smpf.from_pretrained(saved, strict=False)


def test_overrides_are_named_as_create_names_them(saved):
    with pytest.warns(UserWarning, match=r"conv1\.0\.weight: \(16, 3, 3, 3\) \(saved\) -> \(16, 1, 3, 3\)"):
        assert smpf.from_pretrained(saved, in_channels=1, strict=False).config["in_channels"] == 1
    with pytest.warns(UserWarning, match="layer3"):
        again = smpf.from_pretrained(saved, encoder="resnet34", strict=False)
    assert again.config["encoder_name"] == "resnet34"
    with pytest.raises(UnknownKeyword, match=r"'clases'\. Did you mean 'classes'"):
        smpf.from_pretrained(saved, clases=2)
    with pytest.raises(InvalidValue, match="'arch' is no argument"):
        smpf.from_pretrained(saved, arch="FPN")


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_another_number_of_steps_is_the_one_a_call_would_name(model, saved, steps):
    again = smpf.from_pretrained(saved, feedback={"steps": steps})
    assert again.feedback.statistics[0].running_mean.shape[0] == steps - 1
    assert torch.equal(again.trajectory(IMAGE), model.trajectory(IMAGE, steps=steps))
    assert again.loop_config == smpf.Recurrent(steps=steps)


@torch.no_grad()
def test_shared_statistics_and_those_per_step_become_each_other(tmp_path):
    shared = made(feedback=smpf.Recurrent(statistics="shared"))
    shared.save_pretrained(tmp_path)
    apart = smpf.from_pretrained(tmp_path, feedback={"statistics": "per_step"})
    assert torch.equal(apart(IMAGE), shared(IMAGE))
    apart.save_pretrained(tmp_path)
    again = smpf.from_pretrained(tmp_path, feedback={"statistics": "shared"})
    assert torch.equal(again(IMAGE), shared(IMAGE))


def test_the_loop_is_changed_field_by_field_or_replaced_whole(tmp_path):
    saved = made(feedback=smpf.Recurrent(tau=3.0, steps=2)).save_pretrained(tmp_path)
    wanted = smpf.Recurrent(dynamics="fractional", steps=3)
    assert smpf.from_pretrained(saved, feedback={"steps": 3}).loop_config == smpf.Recurrent(tau=3.0, steps=3)
    assert smpf.from_pretrained(saved, feedback=wanted).loop_config == wanted
    assert smpf.from_pretrained(saved, feedback="recurrent").loop_config == smpf.Recurrent()
    with pytest.warns(UserWarning, match=r"feedback\.dynamics\.gamma: not saved"):
        smpf.from_pretrained(saved, feedback={"dynamics": "residual"}, strict=False)
    with pytest.raises(InvalidValue, match="the saved model looks again"):
        smpf.from_pretrained(saved, feedback=False)
    with pytest.raises(UnknownKeyword, match=r"'step'\. Did you mean 'steps'"):
        smpf.from_pretrained(saved, feedback={"step": 3})


# --- parts of plugins


class Latest(Dynamics):
    """h' = e."""

    def begin(self, steps):
        return lambda h, e, t: e


class Twice(RecurrentModel):
    """The recurrent loop under another name."""

    config_class = type("TwiceConfig", (smpf.Recurrent,), {"loop": "twice"})


class Paints(nn.Conv2d):
    """An image of an image."""

    def __init__(self, config, in_channels, classes):
        super().__init__(in_channels, in_channels, 3, padding=1)


def registry_of(kind):
    """The registry of that kind of part."""
    return next(one for one in catalogue().registries().values() if one.kind == kind)


def brought(kind, origin):
    """A model with one part that *origin* brought; only that is registered."""
    registry = registry_of(kind)
    if kind == "architecture":
        registry.register(
            "Part",
            lambda encoder_name, encoder_weights, in_channels, classes: Body(in_channels, classes),
            origin=origin,
        )
        return lambda: shaken(smpf.create("Part"))
    part = {"dynamics": Latest, "loop": Twice, "projection": catalogue().projections["softmax"], "restorer": Paints}[
        kind
    ]
    name = "twice" if kind == "loop" else "Part"
    registry.register(name, part, origin=origin)
    around = {"loop": "restoration"} if kind == "restorer" else {}
    return lambda: made(feedback={kind: name, **around})


@pytest.mark.parametrize("kind", [kind for kind in provenance.KINDS if kind != "encoder"])  # see test_brought_parts
def test_a_part_whose_plugin_is_not_installed_says_what_to_install(kind, restored, tmp_path):
    registry = registry_of(kind)
    before = registry.copy()
    make = brought(kind, "loud-parts 1.2.3")
    model = make()
    model.save_pretrained(tmp_path)
    name = "twice" if kind == "loop" else "Part"
    record = {"name": name, "distribution": "loud-parts", "version": "1.2.3"}
    assert json.loads((tmp_path / "config.json").read_text())["plugins"] == {kind: record}
    assert "pip install smp_feedback loud-parts==1.2.3" in (tmp_path / "README.md").read_text()
    assert_same(smpf.from_pretrained(tmp_path), model)

    registry.replace(before)
    with pytest.raises(UnknownName, match=rf"No {kind} is called '{name}'.*pip install loud-parts==1\.2\.3$"):
        smpf.from_pretrained(tmp_path)

    catalogue().plugins.append(Plugin("loud", "Loud_Parts", "1.2.4", state="broken", error="KeyError: 7"))
    with pytest.raises(UnknownName, match=r"loud-parts 1\.2\.3; Loud_Parts 1\.2\.4 is installed, and left out: Key"):
        smpf.from_pretrained(tmp_path)


@pytest.mark.parametrize("now", ["loud-parts 2.0", "quiet-parts 1.2.3", "smp_feedback", "parts.module"])
def test_a_part_of_another_version_is_used_with_a_warning_that_names_both(restored, tmp_path, now):
    before = restored.dynamics.copy()
    model = brought("dynamics", "loud-parts 1.2.3")()
    model.save_pretrained(tmp_path)
    restored.dynamics.replace(before)
    restored.dynamics.register("Part", Latest, origin=now)
    with pytest.warns(PluginWarning, match=rf"dynamics 'Part' of loud-parts 1\.2\.3; here .*{now}"):
        again = smpf.from_pretrained(tmp_path)
    assert_same(again, model)


def test_parts_of_one_distribution_are_warned_of_once(restored, tmp_path):
    def registered(number):
        for name, registry, part in (("Part", restored.dynamics, Latest), ("also", restored.projections, Softmax)):
            registry.register(name, part, origin=f"loud-parts {number}")
        restored.loops.register("twice", Twice, origin=f"quiet-parts {number}")

    before = {kind: registry.copy() for kind, registry in restored.registries().items()}
    registered("1.2")
    made(feedback={"loop": "twice", "dynamics": "Part", "projection": "also"}).save_pretrained(tmp_path)
    for kind, registry in restored.registries().items():
        registry.replace(before[kind])
    registered("2.0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        smpf.from_pretrained(tmp_path)
    assert [str(one.message) for one in caught if one.category is smpf.PluginWarning] == [
        "The model was saved with loop 'twice' of quiet-parts 1.2; here it is that of quiet-parts 2.0.",
        "The model was saved with dynamics 'Part', projection 'also' of loud-parts 1.2; "
        "here they are those of loud-parts 2.0.",
    ]


def test_a_part_that_is_overridden_needs_no_plugin(restored, tmp_path):
    before = restored.dynamics.copy()
    brought("dynamics", "loud-parts 1.2.3")().save_pretrained(tmp_path)
    restored.dynamics.replace(before)
    assert smpf.from_pretrained(tmp_path, feedback={"dynamics": "decay"}).loop_config == smpf.Recurrent()


def test_a_part_of_ones_own_script_asks_for_its_import(restored, tmp_path):
    before = restored.dynamics.copy()
    smpf.register_dynamics("Part", Latest)
    made(feedback={"dynamics": "Part"}).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["plugins"] == {
        "dynamics": {"name": "Part", "module": __name__}
    }
    restored.dynamics.replace(before)
    with pytest.raises(UnknownName, match=rf"registered by the module '{__name__}': import that first"):
        smpf.from_pretrained(tmp_path)


def test_a_part_that_a_decorator_registered_is_traced_to_its_distribution(restored, tmp_path, monkeypatch):
    (tmp_path / "loud_module.py").write_text(
        """
from smp_feedback import register_dynamics
from smp_feedback.dynamics import Dynamics


@register_dynamics("Loud")
class Loud(Dynamics):
    def begin(self, steps):
        return lambda h, e, t: e
"""
    )
    info = tmp_path / "loud_parts-3.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-parts\nVersion: 3.1\n")
    (info / "top_level.txt").write_text("loud_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loud_module", raising=False)
    importlib.import_module("loud_module")
    made(feedback={"dynamics": "loud"}).save_pretrained(tmp_path / "saved")
    record = {"name": "loud", "distribution": "loud-parts", "version": "3.1"}
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["plugins"] == {"dynamics": record}
    del sys.modules["loud_module"]


# --- strangers' files

FOREIGN = {"empty": b"", "a page": b"<!DOCTYPE html><html><body>Sign in</body></html>" * 9, "a list": b"[1, 2]"}
FOREIGN |= {
    "a pickle": pickle.dumps({"state_dict": [1.0] * 99}),
    "a pointer": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("content", FOREIGN)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_something_else_is_named(saved, name, content):
    (saved / name).write_bytes(FOREIGN[content])
    with pytest.raises(FeedbackError, match=name) as caught:
        smpf.from_pretrained(saved)
    wanted = ("no JSON", "not written by smp_feedback") if name == "config.json" else ("no safetensors file",)
    assert any(words in str(caught.value) for words in wanted)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_truncated_file_is_named(saved, name, part):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(part * len(content))])
    with pytest.raises(FeedbackError, match=name):
        smpf.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_not_there_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FeedbackError, match=f"holds no {name}"):
        smpf.from_pretrained(saved)


def test_smps_own_directory_leads_to_load_feedforward(tmp_path):
    smp.Unet(**arguments()).save_pretrained(tmp_path)
    with pytest.raises(FeedbackError, match=r"not written by smp_feedback.*load_feedforward"):
        smpf.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config["feedback"].update(wormhole=1), "Recurrent has no field 'wormhole'"),
        (lambda config: config["feedback"].update(dynamics="future"), "No dynamics is called 'future'"),
        (lambda config: config["arguments"].update(colour=1), "takes no 'colour'"),
        (lambda config: config.update(tiles=[2, 2]), "'tiles'"),
        (lambda config: config.pop("architecture"), "'architecture'"),
        (lambda config: config.update(feedback="recurrent"), "'feedback'"),
        (lambda config: config.update(plugins={"loop": "x"}), r"'plugins\.loop'"),
    ],
)
def test_what_a_later_version_wrote_is_refused_with_both_versions(saved, change, words):
    edit(saved, lambda config: (config["versions"].update(smp_feedback="9.8.7"), change(config)))
    with pytest.raises(FeedbackError, match=rf"(?s)(?=.*{words}).*by smp_feedback 9\.8\.7; this is {smpf.__version__}"):
        smpf.from_pretrained(saved)


@pytest.mark.parametrize(("place", "error"), [("file", InvalidValue), (None, InvalidType)])
def test_what_is_no_directory_is_refused_in_words(place, error, tmp_path):
    (tmp_path / "file").write_text("mine")
    model = smpf.create("PlainConv", classes=2)
    with pytest.raises(error, match="expected a directory"):
        model.save_pretrained(place and tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"
