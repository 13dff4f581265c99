"""What the benchmarks measure, where a promise can be checked without a clock."""

from __future__ import annotations

import argparse
import json

import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

import smp_feedback as smpf
from benchmarks import clicks, connectivity, cost, loops, measure, memory, places
from benchmarks.measure import bytes_held, interleaved, ratio
from smp_feedback.experiments.comparison.variants import make_twin

IMAGE = torch.rand(1, 3, 64, 64)


def test_bytes_held_are_those_that_live_on():
    def run():
        temporary = torch.zeros(1000)
        kept = temporary + 1
        return kept.view(10, 100).add_(1)

    assert bytes_held(run) == 4000
    weight = torch.ones(1000, requires_grad=True)
    assert bytes_held(lambda: (weight * 2).exp().sum()) >= 4000, "exp keeps its result for backward"


@pytest.mark.parametrize("arch", ["Unet", "DeepLabV3Plus", "FPN"])
def test_recomputing_eight_steps_keeps_no_more_than_one_plain_forward(arch):
    plain = smp.create_model(arch, "resnet18", encoder_weights=None).train()
    image = torch.rand(2, 3, 64, 64)
    unit = bytes_held(lambda: plain(image))
    thrifty = smpf.wrap(plain, smpf.Recurrent(steps=8, recompute=True)).train()
    assert bytes_held(lambda: thrifty(image)) <= unit
    keen = smpf.wrap(plain, smpf.Recurrent(steps=8)).train()
    assert bytes_held(lambda: keen(image)) > 6 * unit, "the measure sees nothing"


@pytest.mark.sweep
def test_memory_with_a_backward_per_step_does_not_grow_with_the_steps():
    model = smpf.create("Unet", "resnet18", None, feedback=smpf.Recurrent()).train()
    kept = memory.kept_per_step(model, torch.rand(2, 3, 64, 64))
    assert kept[16] <= 1.001 * kept[2]
    assert kept[16] <= 1.08 * kept[1], "the first step has no state before it"


def test_recomputation_keeps_the_states_and_a_constant():
    model = smpf.create("Unet", "resnet18", None, feedback=smpf.Recurrent(recompute=True)).train()
    image = torch.rand(2, 3, 64, 64)
    state = memory.state_bytes(model, image)
    beyond = {steps: held - steps * state for steps, held in memory.kept(model, image).items()}
    assert max(beyond.values()) <= 1.05 * min(beyond.values())


def test_inference_keeps_nothing_but_the_answer():
    model = smpf.create("Unet", "resnet18", None, classes=3).eval()
    with torch.no_grad():
        assert bytes_held(lambda: model(IMAGE, steps=6)) == 3 * 64 * 64 * 4


def test_ratios_are_taken_turn_by_turn():
    assert ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == (2.0, 2.0, 2.0)
    calls = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert calls == ["a", "b"] * 5
    assert {len(row) for row in seconds.values()} == {3}


@pytest.mark.sweep
def test_the_cost_of_an_architecture_is_measured_side_by_side(monkeypatch, tmp_path, capsys):
    arguments = ["cost", "--archs", "Unet", "--encoder", "resnet18", "--size", "64", "--repeats", "2", "--threads", "1"]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path / "cost.json")])
    cost.main()
    assert "Unet" in capsys.readouterr().out
    assert (tmp_path / "cost.json").is_file()


def test_the_goals_of_each_place():
    """Of ``decoder`` one encoder and five decoders in units of five forwards, and 3 %."""
    assert [places.goal("input", 0.5, 5, training=training) for training in (False, True)] == [1.03, 1.08]
    assert places.goal("stage:3", 0.5, 5, training=True) == 0.75
    encoder, decoder = 3.0, 1.0
    limit = 1.03 * (encoder + 5 * decoder) / (5 * (encoder + decoder))
    assert places.goal("decoder", 0.75, 5, training=False) == pytest.approx(limit)
    assert places.goal("stem", 0.5, 5, training=False) is None
    over = {"ratio": 1.05, "low": 1.04, "high": 1.1, "goal": 1.03}
    assert places.cell(over) == ["1.05 (1.04 - 1.10)", "1.03 MISSED"]
    assert places.cell({**over, "low": 1.0})[1] == "1.03 not shown"
    assert places.cell({**over, "ratio": 1.02, "low": 1.0, "high": 1.03})[1] == "1.03 held"


def test_places_measured_before_are_taken_up_where_the_settings_are_the_same(tmp_path):
    args = argparse.Namespace(out=tmp_path / "places.json", places=["input", "stem"])
    assert places.measured_before("T = 5", args) == {}
    measure.keep("T = 5", {"Unet": {"input": {}, "stem": {}}, "FPN": {"input": {}}}, args.out)
    assert list(places.measured_before("T = 5", args)) == ["Unet"]
    assert places.measured_before("T = 4", args) == {}


def test_places_are_compared_in_turns_and_one_that_is_not_there_is_said():
    plain = smp.create_model("Unet", "tu-test_resnet.r160_in1k", None, encoder_depth=3, decoder_channels=(16, 8, 8))
    models, refused = places.opened(plain, ["input", "stage:5"], 2)
    assert list(models) == ["input"]
    assert "stage:5" in refused["stage:5"]
    assert places.row("Unet", "stage:5", {"refused": refused["stage:5"]})[2] == "not there"
    args = argparse.Namespace(steps=2, repeats=2)
    for training in (False, True):
        found = places.compared(models, plain, IMAGE, args, training=training)["input"]
        assert found["ratio"] > 0.5
        assert 0 < found["encoder"] < 1.5


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("name", list(loops.VARIANTS))
def test_every_loop_that_is_compared_can_be_made(name, depth):
    settings = loops.settings(name, argparse.Namespace(depth=depth, train_steps=10))
    model = make_twin(loops.VARIANTS[name][0], settings, classes=2, seed=0).model.eval()
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 2, 32, 32)


def test_connectivity_reads_images_and_masks_from_files(tmp_path):
    for split in ("train", "test"):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
            Image.new("RGB" if folder == split else "L", (40, 24), 1).save(tmp_path / folder / "one.png")
    args = argparse.Namespace(root=str(tmp_path), **{**connectivity.USUAL, "crop": 16})
    (image, mask), (whole, _) = connectivity.opened(args, "train")[0], connectivity.opened(args, "test")[0]
    assert image.shape == (3, 16, 16)
    assert mask.unique().tolist() == [1]
    assert whole.shape == (3, 24, 40)


def test_rows_of_connectivity_that_were_kept_of_other_settings_are_not_shown(tmp_path):
    told = {"data": "vessels", "root": None, "out": tmp_path, **connectivity.USUAL}
    args = argparse.Namespace(**told)
    path = tmp_path / "vessels/plain_pixels-0.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"dice": 0.5, "told": connectivity.told_of(args)}))
    assert connectivity.scored(args, "plain", "pixels", 0)["dice"] == 0.5
    args.steps += 1
    with pytest.raises(SystemExit, match="give another --out"):
        connectivity.scored(args, "plain", "pixels", 0)


def test_models_of_clicks_that_were_kept_under_other_settings_are_refused(tmp_path):
    told = {**clicks.USUAL, "root": None, "radius": 3.0, "data": "assemblies", "out": tmp_path}
    asked = argparse.Namespace(**told)
    clicks.check_kept(asked)
    (tmp_path / "assemblies" / "carried-0.json").write_text("{}")
    clicks.check_kept(asked)
    with pytest.raises(SystemExit, match="holds models of other settings"):
        clicks.check_kept(argparse.Namespace(**told | {"steps": 3}))
