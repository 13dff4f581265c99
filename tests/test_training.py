"""Training and evaluation: small, and held to values."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.data import Noisy, Shapes
from smp_feedback.errors import InvalidType, InvalidValue, UnknownName
from smp_feedback.evaluation import miou, noise_sweep

pytest.importorskip("lightning")
from smp_feedback import demo
from smp_feedback.evaluation.pictures import colours, refinement, sweep_curve
from smp_feedback.training import FeedbackModule, PairsModule, fit


def tiny(feedback=True):
    return smpf.create("Unet", "resnet18", None, classes=3, feedback=feedback, decoder_channels=(32, 16, 8, 8, 8))


def batch(count=2):
    data = Shapes(count, size=32)
    return tuple(torch.stack(column) for column in zip(*(data[i] for i in range(count)), strict=True))


def test_the_loss_is_on_the_last_look_or_the_mean_over_all():
    model = tiny(smpf.Recurrent(steps=3)).eval()
    image, target = batch()
    each = [F.cross_entropy(logits, target) for logits in model.trajectory(image)]
    last = FeedbackModule(model, classes=3).loss_of((image, target))
    every = FeedbackModule(model, classes=3, supervise="all").loss_of((image, target))
    torch.testing.assert_close(last, each[-1])
    torch.testing.assert_close(every, sum(each) / 3)


def test_a_feed_forward_model_has_one_look():
    model = tiny(feedback=False).eval()
    image, target = batch()
    losses = [FeedbackModule(model, classes=3, supervise=s).loss_of((image, target)) for s in ("last", "all")]
    assert torch.equal(*losses)


def test_void_is_neither_trained_on_nor_scored():
    model = nn.Conv2d(3, 3, 1)
    image, target = batch()
    void = target.clone()
    void[:, :16] = 255
    loss = FeedbackModule(model, classes=3, ignore_index=255).loss_of((image, void))
    torch.testing.assert_close(loss, F.cross_entropy(model(image)[:, :, 16:], target[:, 16:]))
    scores = [
        miou(model, [(image[0], void[0])], classes=3, ignore_index=255),
        miou(model, [(image[0][:, 16:], target[0][16:])], classes=3),
    ]
    assert scores[0] == pytest.approx(scores[1])


def test_miou_is_intersection_over_union():
    prediction = torch.tensor([[0, 0, 1, 1], [2, 2, 1, 1]])
    target = torch.tensor([[0, 1, 1, 1], [2, 2, 2, 1]])
    logits = F.one_hot(prediction, 3).permute(2, 0, 1).float()
    assert miou(nn.Identity(), [(logits, target)], classes=3) == pytest.approx((1 / 2 + 3 / 5 + 2 / 3) / 3)


@pytest.mark.parametrize("feedback", [False, True])
def test_fitting_learns_and_repeats(feedback):
    torch.manual_seed(0)
    first = tiny(feedback)
    second, data = copy.deepcopy(first), Shapes(32, size=32)
    with torch.no_grad():
        before = FeedbackModule(copy.deepcopy(first).train(), classes=3).loss_of(batch(8))
    for model in (first, second):
        pairs = PairsModule(data, batch_size=4)
        fit(FeedbackModule(model, classes=3), pairs, steps=8, progress=False, accelerator="cpu")
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    with torch.no_grad():
        after = FeedbackModule(first.train(), classes=3).loss_of(batch(8))
    assert after < 0.9 * before


def test_validation_scores_as_miou_does():
    model, val = tiny(), Shapes(4, size=32, seed=3)
    module = FeedbackModule(model, classes=3)
    fit(module, PairsModule(Shapes(8, size=32), val, batch_size=4), steps=2, progress=False, accelerator="cpu")
    assert float(module.trainer.callback_metrics["val_miou"]) == pytest.approx(miou(model, val, classes=3), abs=1e-5)


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(InvalidValue, match="at most the 3 training images"):
        PairsModule(Shapes(3), batch_size=4)


def test_small_weights_do_not_decay_what_has_one_dimension():
    model = tiny(smpf.Recurrent(dynamics="residual"))
    module = FeedbackModule(model, classes=3, weight_decay=0.3)
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10})()
    groups = module.configure_optimizers()["optimizer"].param_groups
    free = {id(p) for p in groups[1]["params"]}
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert id(model.feedback.dynamics.gamma) in free
    assert id(model.encoder.conv1.weight) not in free


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"classes": 0}, InvalidValue, "classes=0"),
        ({"classes": 2.5}, InvalidType, "classes=2.5"),
        ({"classes": 3, "supervise": "lst"}, InvalidValue, "'last'"),
        ({"classes": 3, "lr": -1}, InvalidValue, "lr=-1"),
        ({"classes": 3, "loss": "dise"}, UnknownName, "'dice'"),
    ],
)
def test_bad_arguments_are_refused_at_birth(arguments, error, words):
    with pytest.raises(error, match=words):
        FeedbackModule(nn.Conv2d(3, 3, 1), **arguments)


def test_a_sweep_shows_every_model_the_same_noise():
    data, model = Shapes(4, size=32), nn.Conv2d(3, 3, 1)
    table = noise_sweep({"a": model, "b": copy.deepcopy(model)}, data, [0.0, 0.5], classes=3, seed=7)
    assert table["a"] == table["b"]
    assert table["a"][1] == miou(model, Noisy(data, 0.5, seed=7), classes=3)
    assert table["a"][0] == miou(model, data, classes=3)


def test_a_score_leaves_the_models_mode_alone():
    model = nn.Conv2d(3, 3, 1).train()
    miou(model, Shapes(1, size=32), classes=3)
    assert model.training


# --- pictures and the demo


def test_classes_are_told_apart_and_void_is_white():
    painted = colours(torch.tensor([[*range(12), 255, -1]]), classes=12)
    assert len({tuple(c) for c in painted[0].tolist()}) == 13
    assert painted[0, 12].tolist() == painted[0, 13].tolist() == [255, 255, 255]


def test_pictures_are_written_whole(tmp_path):
    samples = [Shapes(2, size=32)[i] for i in range(2)]
    models = {"plain": tiny(False).eval(), "feedback": tiny(smpf.Recurrent(steps=2)).eval()}
    files = [
        refinement(models, samples, tmp_path / "deep" / "refinement.png", classes=3),
        sweep_curve({"plain": [[0.1, 0.2], [0.2, 0.3]], "feedback": [[0.3, 0.3]]}, [0, 1], tmp_path / "curve.png"),
    ]
    from PIL import Image

    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert picture.convert("L").getextrema()[0] < 128
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.png", "deep"]
    with pytest.raises(InvalidValue, match="at least one"):
        refinement(models, [], tmp_path / "none.png", classes=3)


def test_the_demo_trains_both_prints_a_table_and_says_where_its_files_are(tmp_path, capsys):
    small = ["--steps", "2", "--images", "4", "--seeds", "2", "--accelerator", "cpu"]
    status = demo.main([*small, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert status == 0
    for words in ("mIoU", "feed-forward", "feedback", "±", "Averaged over noise", "of 2 agree"):
        assert words in printed
    for name in ("refinement.png", "noise.png", "results.json"):
        assert (tmp_path / "out" / name).is_file()
        assert str(tmp_path / "out" / name) in printed
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {len(rows) for rows in results["miou"].values()} == {2}
    assert all(0 <= v <= 1 for rows in results["miou"].values() for row in rows for v in row)


def test_the_demo_runs_on_a_folder_in_camvids_layout(tmp_path, capsys):
    from PIL import Image

    for split in ("train", "val"):
        for folder, mode in ((split, "RGB"), (f"{split}annot", "L")):
            (tmp_path / folder).mkdir()
            for i in range(8):
                Image.new(mode, (160, 120), i if mode == "L" else (i * 20, 90, 10)).save(tmp_path / folder / f"{i}.png")
    arguments = ["--data", str(tmp_path), "--steps", "1", "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    assert demo.main(arguments) == 0
    assert "DeepLabV3Plus" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/nowhere"], "/nowhere"),
        (["--seeds", "0"], "seeds=0"),
        (["--noise", "-1"], "noise=-1"),
        (["--steps", "0"], "steps=0"),
        (["--out", "/dev/null/x"], "/dev/null"),
    ],
)
def test_the_demo_refuses_nonsense_in_one_line_before_any_work(arguments, words, tmp_path, capsys):
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path / "out")]
    assert demo.main(arguments) == 1
    assert words in capsys.readouterr().out


def test_the_conclusion_is_plain_also_when_it_is_no():
    lost = demo.conclusion({demo.TWIN: [[0.5, 0.5]] * 3, demo.FEEDBACK: [[0.4, 0.4], [0.45, 0.45], [0.55, 0.55]]})
    assert "lost 3.3 points" in lost
    assert "2 of 3 agree" in lost
    assert "one seed says little" in demo.conclusion({demo.TWIN: [[0.1]], demo.FEEDBACK: [[0.2]]})
