"""Training from weights of the user's own, a rate of its own for what a loop adds, and what looks are worth."""

from __future__ import annotations

import functools
import io
import types

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from PIL import Image
from rich.console import Console
from torch import nn

import smp_feedback as smpf
from smp_feedback.cli.tables import _size, score_table
from smp_feedback.config.data import DataConfig
from smp_feedback.data import Shapes
from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.evaluation import evaluate
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.comparison.variants import make_twin
from smp_feedback.training import FeedbackModule, PairsModule
from smp_feedback.training.build import build_module
from smp_feedback.training.cycle import make_schedule
from smp_feedback.training.facts import Facts
from smp_feedback.training.looks_report import Looks, looks_report, measured, report_lines
from smp_feedback.training.metric import LookMetric, Scored
from smp_feedback.training.opening import open_pairs
from smp_feedback.training.optim import make_optimizer

NAME = "test_resnet.r160_in1k"
ARGUMENTS = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
TINY = {"encoder_name": f"tu-{NAME}", "encoder_weights": None, "classes": 3, **ARGUMENTS}
FACTS = Facts(("a", "b", "c"), None, "segmentation", (3, 32, 32))
BUILT = {"encoder": f"tu-{NAME}", "arguments": ARGUMENTS}


@pytest.fixture
def mine(tmp_path):
    torch.manual_seed(7)
    plain = smp.Unet(**TINY).eval()
    torch.save({"state_dict": {f"net.{key}": x for key, x in plain.state_dict().items()}}, tmp_path / "mine.ckpt")
    return plain, str(tmp_path / "mine.ckpt")


def same(one, other):
    for key, value in other.state_dict().items():
        assert torch.equal(one.state_dict()[key], value), key


@torch.no_grad()
def test_a_loop_that_begins_with_other_answers_than_the_plain_models_says_so(mine):
    plain, path = mine
    image = torch.rand(1, 3, 32, 32)
    with pytest.warns(UserWarning, match=r"dynamics 'decay' begin with other answers .*--model.feedback.dynamics resi"):
        other = build_module(FACTS, **BUILT, init=path).model.eval()
    kept = build_module(FACTS, **BUILT, feedback={"dynamics": "residual"}, init=path).model.eval()
    assert torch.allclose(kept(image), plain(image), atol=1e-5)
    assert not torch.allclose(other(image), plain(image), atol=1e-5)


@pytest.mark.parametrize("feedback", [{"dynamics": "residual"}, False])
def test_a_training_begins_from_a_plain_models_weights_and_downloads_none(mine, monkeypatch, feedback):
    plain, path = mine

    def refused(*args, **more):
        raise AssertionError("no weights are to be fetched")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refused)
    module, own = build_module(FACTS, **BUILT, feedback=feedback, init=path), timm.get_pretrained_cfg(NAME)
    same(module.model, plain)
    assert module.model.data_config.mean == tuple(own.mean), "as its encoder was pretrained"
    assert module.model.data_config.classes == FACTS.classes


def test_a_looping_model_begins_whole_and_with_its_own_normalisation(tmp_path):
    model = smpf.create("Unet", **TINY)
    nn.init.normal_(model.feedback.readers[0].weight)
    model.data_config = DataConfig(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 0.5))
    model.save_pretrained(tmp_path / "model")
    module = build_module(FACTS, **BUILT, init=str(tmp_path / "model"))
    same(module.model, model)
    assert module.model.data_config.mean == (0.1, 0.2, 0.3)


def test_weights_that_do_not_fit_are_refused_before_anything_is_trained(mine):
    facts = Facts(tuple("abcd"), None, "segmentation", (3, 32, 32))
    with pytest.raises(FeedbackError, match=r"of 3 classes, the model has 4"):
        build_module(facts, **BUILT, init=mine[1])
    with pytest.raises(FeedbackError, match="there is no such file"):
        build_module(FACTS, **BUILT, init="nowhere.pth")


@pytest.mark.parametrize("name", ["feedback", "plain", "one-step", "equal-compute"])
def test_every_model_of_a_comparison_begins_with_the_weights_it_is_told(mine, name):
    plain, path = mine
    how = {"encoder": BUILT["encoder"], "arch_options": ARGUMENTS, "init": path}
    same(make_twin(name, ComparisonSettings(base_norm=None, **how), 3, seed=1).model, plain)
    with pytest.raises(FeedbackError, match=r"init: .*unexpected.*running_mean[\s\S]*base_norm=None"):
        make_twin(name, ComparisonSettings(**how), 3, seed=1)


def trained(**how):
    torch.manual_seed(0)
    return FeedbackModule(smpf.wrap(smp.Unet(**TINY), smpf.Recurrent(dynamics="residual", steps=3)), classes=3, **how)


@pytest.mark.parametrize("make", [None, functools.partial(torch.optim.SGD, lr=1e-4, momentum=0.9)])
def test_what_the_loop_added_learns_at_a_rate_of_its_own_and_nothing_is_left_out(make):
    module = trained(lr=1e-4, feedback_lr=1e-2, optimizer=make)
    optimizer = make_optimizer(module, module.optimizer, 1e-4, 0.01, module.feedback_lr)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in optimizer.param_groups)
    for name, parameter in module.named_parameters():
        lr, decay = rates[id(parameter)]
        assert lr == (1e-2 if name.startswith("model.feedback.") else 1e-4), name
        assert (decay == 0) == (parameter.ndim <= 1 or make is not None), name
    make_schedule(optimizer, None, 10, "val_loss")
    assert [group["max_lr"] for group in optimizer.param_groups] == [1e-4, 1e-4, 1e-2, 1e-2]


def test_without_a_rate_of_its_own_there_are_the_two_groups_that_there_were():
    groups = make_optimizer(trained(), None, 1e-3, 0.01).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 0.01), (1e-3, 0.0)]


def test_the_groups_keep_the_order_in_which_an_older_run_saved_its_optimiser():
    module = trained(loss=torch.nn.PReLU(3))  # a loss that learns comes after the model
    wanted = [id(p) for p in module.parameters() if p.ndim <= 1]
    assert [id(p) for p in make_optimizer(module, None, 1e-3, 0.01).param_groups[1]["params"]] == wanted


def test_a_rate_of_something_that_is_not_there_is_refused():
    with pytest.raises(InvalidValue, match=r"feedback_lr=0\.1 .* this Unet has none"):
        FeedbackModule(smp.Unet(**TINY), classes=3, feedback_lr=0.1)
    with pytest.raises(InvalidValue, match="feedback_lr=0"):
        trained(feedback_lr=0)


def test_the_looks_of_a_loop_that_is_not_used_change_nothing_and_a_run_says_so():
    data = PairsModule(Shapes(4, 32), val=Shapes(4, 32, seed=1), batch_size=3)
    classes = len(data.val.classes)
    model = smpf.wrap(smp.Unet(**TINY | {"classes": classes}), smpf.Recurrent(dynamics="residual", steps=3))
    model.data_config = DataConfig()
    module = FeedbackModule(model, classes=classes, task="segmentation")
    modes = [part.training for part in module.modules()]
    lines = looks_report(module, data)
    assert lines[0].startswith("looks 1-3: ")
    assert lines[0].endswith(" mIoU")
    assert lines[1].startswith("looks 2-3 change 0 % of the pixels: the loop is hardly used")
    assert [part.training for part in module.modules()] == modes


def test_looks_are_those_of_all_images_where_this_process_is_one_of_several():
    data = PairsModule(val=Shapes(5, 32), batch_size=2)
    data.trainer = types.SimpleNamespace(world_size=2, global_rank=1)
    assert [len(batch[0]) for batch in data.val_dataloader()] == [2]
    assert [index for batch in data.whole_val_dataloader() for index in batch[2].tolist()] == [0, 1, 2, 3, 4]
    how = {"classes": 2, "steps": 2}
    assert [LookMetric("segmentation", **how, alone=alone).sync_on_compute for alone in (True, False)] == [False, True]


def test_looks_are_scored_and_counted_as_an_independent_pass_has_them():
    val = Shapes(4, 32, seed=1)
    classes = len(val.classes)
    model = smpf.create("Unet", **TINY | {"classes": classes}, feedback=smpf.Recurrent(steps=3)).eval()
    nn.init.normal_(model.feedback.readers[0].weight)
    module = FeedbackModule(model, classes=classes, task="segmentation")
    found = measured(module, PairsModule(Shapes(4, 32), val=val, batch_size=3))
    with torch.no_grad():
        labels = torch.stack([model.trajectory(val[i][0][None]).argmax(2)[:, 0] for i in range(4)], 1)
    assert found.changed == pytest.approx([(labels[t] != labels[0]).float().mean().item() for t in (1, 2)], abs=1e-3)
    assert max(found.changed) > 0, "or there was nothing to count"
    scores = evaluate(model, val, classes=classes, looks=[1, 2, 3], batch_size=3)
    assert found.scores == pytest.approx([score.score for score in scores], abs=1e-3)


def test_the_lines_say_what_is_meant():
    assert report_lines(Looks("accuracy", (0.5, 0.75), (0.25,), "classification")) == [
        "looks 1-2: 50.0 75.0 accuracy",
        "look 2 changes 25 % of the images' labels",
    ]
    assert (
        "looks 2-4 change 0.02 % of the pixels: the loop is hardly used"
        in report_lines(Looks("miou", (0.6,) * 4, (0.0001, 0.0002, 0.0002), "segmentation"))[1]
    )
    assert "rate" not in report_lines(Looks("miou", (0.6,) * 2, (0.0001,), "segmentation"), own_rate=False)[1]


@pytest.mark.parametrize(("count", "shown"), [(6, [1, 2, 3, 4, 5, 6]), (160, [1, 10, 20, 40, 80, 160])])
def test_of_many_looks_those_are_shown_that_a_console_holds(count, shown):
    shares = torch.arange(1, count + 1) / count
    scored = Scored("miou", shares, torch.stack([shares, 1 - shares], 1), shares / 2)
    console = Console(width=80, file=io.StringIO())
    console.print(score_table(scored, ("background", "path"), "runs/a, validate"))
    lines = console.file.getvalue().splitlines()
    rows = {line[1:13].strip(): line[13:].strip("│").split("│") for line in lines if line.startswith("│")}
    assert [float(cell) for cell in rows["path"]] == [round(100 * (1 - t / count), 1) for t in shown]
    assert [float(cell) for cell in rows["mIoU"]] == [round(100 * t / count, 1) for t in shown]
    assert [float(cell) for cell in rows["solved"]] == [round(50 * t / count, 1) for t in shown]
    assert (f"{len(shown)} of {count} looks" in lines[-1]) == (count > 6)
    line = report_lines(Looks("miou", tuple(shares.tolist()), (0.1,) * (count - 1), "segmentation"))[0]
    assert line.split(": ")[1] == " ".join(f"{100 * t / count:.1f}" for t in shown) + " mIoU"


def test_a_small_model_has_parameters_too():
    assert _size(nn.Linear(99, 290)) == "29.0 k parameters"
    assert _size(nn.Linear(999, 1250)) == "1.2 M parameters"


def test_a_model_with_one_look_is_not_reported_on():
    module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2)
    assert looks_report(module, PairsModule(Shapes(4, 32), val=Shapes(4, 32), batch_size=4)) == []
    assert looks_report(trained(task="segmentation"), PairsModule(Shapes(4, 32), batch_size=4)) == []


@pytest.mark.parametrize("told", [{"bands": [3, 2, 1]}, {"options": {"bands": [3, 2, 1]}}])
def test_bands_are_saved_with_the_model_wherever_they_were_told(told, tmp_path):
    for folder, mode in (("val", "RGB"), ("valannot", "L")):
        (tmp_path / folder).mkdir()
        Image.new(mode, (8, 6)).save(tmp_path / folder / "a.png")
    told = {"options": {}, **told}
    told["options"]["classes"] = ["a", "b"]
    _, facts = open_pairs("validate", 0, name="folder", root=str(tmp_path), **told)
    assert facts.config(DataConfig()).bands == (3, 2, 1)
