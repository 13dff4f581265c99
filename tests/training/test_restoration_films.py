"""Training the restoration loop on films: the cut between R and M frame after frame, truncation, and whole films."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.data import Corrupted, MovingShapes, Triplets
from smp_feedback.data.triplets import check_triplets, distorted
from smp_feedback.data.turbulence import Turbulence, Wind, of_wind
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.evaluation.films import LookByLook, evaluate_films, learn_cut
from smp_feedback.evaluation.image_quality import l1, psnr

pytest.importorskip("lightning")

from smp_feedback.training import RestorationModule, TripletsModule, fit
from smp_feedback.training.distortion import Distortion, open_triplets
from smp_feedback.training.restoration_step import end_to_end, step_by_step

LOOP = smpf.Restoration(depth=2, filters=2, reach=2.0, weight=1.0, carry="feedback")
LEARNT = replace(LOOP, carry="mean", weight="learnt")
CLASSES = 5


class Small(nn.Module):
    """Two convolutions, and a norm between them."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.c1, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c2 = nn.Conv2d(4, classes, 1)

    def forward_features(self, image):
        return self.norm(self.c1(image)).tanh()

    def forward_head(self, features):
        return self.c2(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def made(loop=LOOP):
    torch.manual_seed(0)
    model = smpf.wrap(Small(), loop).double().train()
    for parameter in model.restorer.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return model


def clips(frames=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 2, frames, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images[0], images[1], torch.randint(CLASSES, (2, frames, 8, 8), generator=generator)


def gradients(module):
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, msg=name, atol=1e-10, rtol=1e-7)


def judge(logits, target, t):
    return (1 + t) * F.cross_entropy(logits, target)


def cut_by_hand(model, batch, labelled, mean=False):
    """R's gradients of each frame, then M's of all: written down for two networks and no loop."""
    x, clean, target = batch
    restorer, sides, passes = model.restorer, [], []
    for t in range(x.shape[1]):
        heard = None
        if t:
            older = passes[max(0, t - 2)][1]
            heard = model.feed_back(passes[t - 1][1] - older, passes[t - 1][0])
        begun = restorer.begin(x[:, t], passes[t - 1][2]) if t and mean else restorer.begin(x[:, t])
        z = restorer.restore(x[:, t], begun, heard)
        shown = z.image
        lost = F.l1_loss(z.image, clean[:, t])
        if mean and t:
            shown = z.image + z.keep * t / (t + 1) * (passes[t - 1][2] - z.image)
            lost = lost + F.l1_loss(shown, clean[:, t])
        lost.backward()
        sides.append({name: p.grad.clone() for name, p in restorer.named_parameters() if p.grad is not None})
        restorer.zero_grad(set_to_none=True)
        logits = model.segment(shown.detach())
        if labelled[t]:
            judge(logits, target[:, t], t).backward()
        passes.append((z.image.detach(), logits.detach(), shown.detach()))
    return sides, gradients(model)


@pytest.mark.parametrize("loop", [LOOP, LEARNT], ids=["feedback", "mean"])
def test_each_frame_teaches_r_and_then_m_and_no_gradient_crosses_a_frame(loop):
    model, labelled, sides = made(loop), [True, False, True, True], []
    twin = copy.deepcopy(model)

    def update():
        sides.append({name: p.grad.clone() for name, p in model.restorer.named_parameters() if p.grad is not None})
        model.restorer.zero_grad(set_to_none=True)

    lost = step_by_step(model, clips(), nn.L1Loss(), judge, torch.Tensor.backward, update, labelled)
    expected, of_m = cut_by_hand(twin, clips(), labelled, mean=loop.carry == "mean")
    for ours, theirs in zip(sides, expected, strict=True):
        same(ours, theirs)
    same(gradients(model), of_m)
    for (name, ours), (_, theirs) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    assert lost.segmenting > 0


@pytest.mark.parametrize("truncate", [1, 3, None])
@pytest.mark.parametrize("loop", [LOOP, LEARNT], ids=["feedback", "mean"])
def test_end_to_end_gradient_goes_back_as_many_frames_as_is_said(loop, truncate):
    model = made(loop)
    x, clean, target = clips()
    lost = end_to_end(model, clips(), nn.L1Loss(), judge, torch.Tensor.backward, 0.5, truncate)
    ours, step, total = gradients(model), None, 0
    for t in range(4):
        step = model.look(x[:, t], step.detach() if step and truncate and t % truncate == 0 else step)
        total = total + F.l1_loss(step.restored, clean[:, t]) + 0.5 * judge(step.logits, target[:, t], t)
        if loop.carry == "mean" and t:
            total = total + F.l1_loss(step.mean, clean[:, t])
    total.backward()
    same(ours, gradients(model))
    torch.testing.assert_close(lost.restoring + 0.5 * lost.segmenting, total.detach())


@pytest.mark.parametrize("loop", [replace(LEARNT, steps=2), replace(LEARNT, weight=1.0, rate=0.3, steps=2)])
def test_of_images_m_is_shown_the_mean_that_the_loop_shows_it(loop):
    """Step by step, without an update of R, as the loop's own passes."""
    model, x = made(loop).eval(), clips()[0][:, 0]
    shown = []
    model.c1.register_forward_pre_hook(lambda _, given: shown.append(given[0].detach().clone()))
    batch = x, x, torch.zeros(2, 8, 8).long()
    step_by_step(model, batch, nn.L1Loss(), judge, torch.Tensor.backward, lambda: None)
    stepped = shown[:]
    shown.clear()
    with torch.no_grad():
        expected = [one.mean for one in model.passes(x)]
    for ours, theirs in zip(stepped, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


# --- runs


def films(split="train", count=8, **more):
    return MovingShapes(split, frames=4, count=count, size=16, **more)


def run(loop=LEARNT, steps=2, **told):
    train, val = Triplets(films(), "shimmer", 5, fresh=True), Triplets(films("val"), "shimmer", 5)
    data = TripletsModule(train, val, batch_size=2, clip=3)
    torch.manual_seed(0)
    model = smpf.wrap(Small(), replace(loop, rate="learnt"))
    module = RestorationModule(model, classes=CLASSES, lr_restorer=0.01, **told)
    return fit(module, data, steps=steps, progress=False, accelerator="cpu"), val


@pytest.mark.parametrize("told", [{}, {"end_to_end": True, "truncate": 2}], ids=["step by step", "end to end"])
def test_a_run_learns_all_that_is_carried_and_scores_whole_films(told):
    module, val = run(**told, class_weights=None)
    model, metrics = module.model, module.trainer.callback_metrics
    fresh = smpf.wrap(Small(), LEARNT)
    for name in ("weight", "keep.weight", "compare.2.weight", "last.weight"):
        assert not torch.equal(model.restorer.get_parameter(name), fresh.restorer.get_parameter(name)), name
    found = evaluate_films(model, distorted(val), classes=CLASSES)
    assert metrics["val_miou"].item() == pytest.approx(found.miou, abs=1e-6)
    close = []
    for film in val.films:
        step = None
        for frame in film:
            image, clean, _ = val[frame]
            with torch.no_grad():
                step = model.look(image[None], step)
            close.append(torch.stack([one(step.restored, clean[None]).mean() for one in (l1, psnr)]))
    for name, value in zip(("val_l1", "val_psnr"), torch.stack(close).mean(0), strict=True):
        assert metrics[name].item() == pytest.approx(value.item(), rel=1e-4)
    assert "val_miou/pass_0" not in metrics


def test_what_is_carried_is_shown_by_all_that_asks_for_it():
    model, val = smpf.wrap(Small(), LOOP).eval(), Triplets(films("val", count=12), "shimmer", 5)
    for parameter in model.restorer.last.parameters():
        nn.init.normal_(parameter, std=0.3)
    frames = distorted(val)
    by_look = evaluate_films(LookByLook(model), frames, classes=CLASSES)
    assert evaluate_films(model, frames, classes=CLASSES).miou == by_look.miou
    learned = learn_cut(model, frames, keep=True)
    assert model.loop_config.cut == learned.threshold > 0
    assert evaluate_films(model, frames, classes=CLASSES, reset="auto").frames == 12


def test_the_classes_of_a_clip_are_counted_once_each():
    module, _ = run(steps=1)
    weights = module.loss.loss.class_weights
    assert weights == pytest.approx(module.loss.balance(films()))


def test_what_begins_anew_is_not_trained_on_clips():
    with pytest.raises(InvalidValue, match="begins anew with every image"):
        run(replace(LOOP, carry=None))
    with pytest.raises(InvalidValue, match="truncate=2 with end_to_end=False"):
        run(truncate=2)
    images = TripletsModule(Triplets(films(), "shimmer"), Triplets(films(), "shimmer"), batch_size=2)
    module = RestorationModule(smpf.wrap(Small(), LOOP), classes=CLASSES, end_to_end=True, truncate=None)
    with pytest.raises(InvalidValue, match="truncate=None is for clips"):
        fit(module, images, steps=1, progress=False, accelerator="cpu")


# --- data


def test_clips_of_triplets_are_checked_frame_by_frame():
    x, clean, target = clips()
    assert all(map(torch.equal, check_triplets((x, clean, target[:, :, None].float())), (x, clean, target)))
    for wrong in ((x, clean[:, :3], target), (x, clean, target[:, :3]), (x, clean[..., :4], target)):
        with pytest.raises(InvalidInput, match=r"a batch of shapes .*expected"):
            check_triplets(wrong)


def test_air_of_ones_own_blows_through_a_film_and_is_drawn_once_a_clip():
    air = {"cn2": 1e-12, "path": 1000.0, "aperture": 0.1, "outer_scale": 1.0}
    told = Distortion(turbulence=air, wind=1.5)
    assert told.said.endswith("in a wind of 1.5 m/s")
    image, seeded = torch.rand(3, 16, 16), lambda: torch.Generator().manual_seed(5)
    seen = of_wind(air, 1.5)(image, 1, seeded(), time=3)
    assert torch.equal(seen, Wind(Turbulence(**air), 1.5).seen(image, seeded(), 3))
    frames = films("val")
    blown = Corrupted(frames, told.corruption, 1)
    assert torch.equal(blown[2][0], told.corruption(frames[2][0], 1, torch_generator(blown, 0), time=2))
    with pytest.raises(InvalidValue, match="wind=2: it is that of the air that turbulence= tells"):
        Distortion(wind=2)
    options = {"options": {"frames": 4, "count": 8}, "size": 16, "batch_size": 2}
    data, _ = open_triplets("fit", 0, Distortion(name="shimmer"), name="moving", clip=3, **options)
    batch = next(iter(data.train_dataloader()))
    assert [tuple(part.shape) for part in batch] == [(2, 3, 3, 16, 16)] * 2 + [(2, 3, 16, 16), (2,)]


def torch_generator(blown, film):
    return blown._generator(film)
