"""What is drawn of clicks to train with, what the loss reaches, and what is scored."""

import pytest
import torch

pytest.importorskip("lightning")

import smp_feedback as smpf
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data import Assemblies
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation import evaluate_clicks
from smp_feedback.training import ClickModule, PairsModule, fit

HOW = ClickConfig(radius=2)
LOOP = {"preset": "anytime", "steps": 1, "dynamics": "gated", "feedback_init": 0.1}


def module(how=HOW, feedback=LOOP, **told):
    torch.manual_seed(0)
    model = smpf.create("PlainConv", in_channels=3 + how.channels, classes=1, width=8, feedback=feedback)
    return ClickModule(model, how=how, **told)


def test_what_is_drawn_of_a_batch_is_a_function_of_its_place_and_within_what_was_asked():
    made = module(clicks=[2, 4], free_clicks=[0, 3], drop=0.5)
    talks = [made.talk(0, 0, batch) for batch in range(60)]
    assert talks == [made.talk(0, 0, batch) for batch in range(60)] != [made.talk(1, 0, b) for b in range(60)]
    assert {talk.clicks for talk in talks} == {2, 3, 4}
    assert {talk.free for talk in talks} == {0, 1, 2, 3}
    assert {k for talk in talks for k in talk.forgotten} == set(range(1, 7))
    drawn = sum(len(talk.forgotten) for talk in talks) / sum(talk.free + talk.clicks - 1 for talk in talks)
    assert 0.35 < drawn < 0.65
    assert not any(module(drop=0.0).talk(0, 0, b).forgotten for b in range(50))


def test_the_loss_is_the_mean_over_the_clicks_that_have_one():
    batch = torch.rand(2, 3, 12, 12), Assemblies(size=16, count=2)[0][1][None, :12, :12].expand(2, 12, 12)
    made = module(drop=0.0)
    torch.manual_seed(3)
    all_three = made.loss_of(batch, (0, 3, frozenset()))
    losses = []
    for k in (1, 2, 3):  # the last click of each, so that all before are free
        torch.manual_seed(3)
        losses.append(made.loss_of(batch, (k - 1, 1, frozenset())))
    torch.testing.assert_close(all_three, torch.stack(losses).mean())


@pytest.mark.parametrize("carry", [True, False])
def test_gradient_goes_through_the_clicks_where_the_state_is_carried(carry):
    made = module(ClickConfig(radius=2, carry=carry), drop=0.0)
    readers = made.model.recurrent.readers
    batch = torch.rand(1, 3, 12, 12), torch.ones(1, 12, 12, dtype=torch.long)
    made.loss_of(batch, (0, 2, frozenset())).backward()
    seen = [float(weight.grad.abs().sum()) for weight in readers.parameters() if weight.grad is not None]
    assert (sum(seen) > 0) is carry  # what is fed back before the first look is nothing


def test_what_is_clicked_on_is_learnt():
    made, mask = module(clicks=3), torch.zeros(2, 16, 16, dtype=torch.long)
    mask[0, 2:9, 3:9], mask[1, 6:14, 5:15] = 1, 1
    batch = mask[:, None].expand(2, 3, 16, 16).float(), mask
    optimizer = torch.optim.Adam(made.parameters(), lr=2e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(made.loss_of(batch))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 4
    assert evaluate_clicks(made.model, [*zip(*batch, strict=True)], clicks=2, how=HOW).iou.min() > 0.9


def test_a_run_scores_as_the_evaluation_does():
    data = Assemblies("val", size=16, count=4)
    made = module(clicks=1, scored_clicks=3)
    fit(made, PairsModule(data, data, batch_size=4), steps=1, progress=False, accelerator="cpu")
    found, logged = evaluate_clicks(made.model, data, clicks=3, how=HOW).iou, made.trainer.callback_metrics
    assert logged["val_iou"].item() == pytest.approx(float(found.mean()), abs=1e-5)
    for k in range(3):
        assert logged[f"val_iou/click_{k + 1}"].item() == pytest.approx(float(found[:, k].mean()), abs=1e-5)


def test_a_run_that_is_taken_up_again_ends_with_the_same_weights(tmp_path):
    def run(steps, out, resume=False):
        made = module(ClickConfig(radius=2, mask=True), clicks=[1, 2], drop=0.3, damaged=0.5, schedule=constant)
        data = PairsModule(Assemblies(size=16, count=6), batch_size=2)
        fit(made, data, steps=steps, progress=False, accelerator="cpu", out=out, resume=resume)
        return made.model.state_dict()

    whole = run(5, tmp_path / "whole")
    run(3, tmp_path / "parts")
    resumed = run(5, tmp_path / "parts", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def constant(optimizer):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


def test_what_cannot_be_trained_is_refused_at_birth():
    for told, error in (
        ({"drop": 1.0}, InvalidValue),
        ({"clicks": 0}, InvalidValue),
        ({"free_clicks": -1}, InvalidValue),
    ):
        with pytest.raises(error):
            module(**told)
    with pytest.raises(InvalidType, match=r"clicks=\[1, 2, 3\]"):
        module(clicks=[1, 2, 3])
    model = smpf.create("PlainConv", in_channels=5, classes=1, feedback="anytime")
    with pytest.raises(InvalidValue, match="does not say that it listens"):
        ClickModule(model)
    with pytest.raises(InvalidValue, match="a person"):
        module().predict_step(None, 0)
