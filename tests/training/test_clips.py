"""A model that carries its state is trained on clips, a look a frame, and scored on whole films."""

from __future__ import annotations

import contextlib
import functools
import weakref
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import smp_feedback as smpf
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue

pytest.importorskip("lightning")
from smp_feedback.data import Clips, MovingShapes
from smp_feedback.evaluation.films import evaluate_films
from smp_feedback.loops.base import Step
from smp_feedback.registry.public import catalogue
from smp_feedback.training import FeedbackModule, PairsModule, fit
from smp_feedback.training.clip_loss import check_sends_back
from smp_feedback.training.clips_told import clips_told
from smp_feedback.training.film_parts import FilmParts, Ongoing
from smp_feedback.training.quiet import quiet
from smp_feedback.training.trainer import build_trainer
from smp_feedback.training.unrolling import Unrolling, warn_of_untrained_statistics

VOID = 255
CARRYING = [name for name, rule in catalogue().dynamics.items() if rule.carries]
OTHERS = [name for name in catalogue().dynamics if name not in CARRYING]
QUICK = {"progress": False, "accelerator": "cpu"}
SGD = functools.partial(torch.optim.SGD, lr=0.5)


def constant(optimizer):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def tiny(**loop):
    """A loop without BatchNorm, whose feedback is heard."""
    torch.manual_seed(0)
    film = {"dynamics": "gated", "projection": "state", "channels": 2, "norm_error": "pixel", "feedback_init": 0.3}
    return smpf.create("PlainConv", in_channels=3, classes=2, width=4, depth=2, feedback=film | loop)


@functools.cache
def in_double():
    return tiny().double()


class Films(Dataset):
    """Random frames of 8 px, and films of these lengths; *labelled* says which frames are."""

    classes, ignore_index, size, task = ("ground", "thing"), VOID, (8, 8), "segmentation"

    def __init__(self, *lengths, labelled=lambda index: True):
        draw = torch.Generator().manual_seed(3)
        self.count = sum(lengths)
        self.images = torch.rand(self.count, 3, 8, 8, generator=draw)
        self.masks = (self.images.mean(1) > 0.5).long()
        for index in range(self.count):
            if not labelled(index):
                self.masks[index] = VOID
        ends = [sum(lengths[: k + 1]) for k in range(len(lengths))]
        self.films = tuple(range(end - length, end) for end, length in zip(ends, lengths, strict=True))

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.images[index], self.masks[index]


def clip(frames=5, count=2, void=()):
    draw = torch.Generator().manual_seed(1)
    image = torch.rand(count, frames, 3, 8, 8, generator=draw, dtype=torch.double)
    target = torch.randint(0, 2, (count, frames, 8, 8), generator=draw)
    target[:, list(void)] = VOID
    return image, target


def written_out(model, image, target, *, truncate, free=0, void=()):
    """Truncated back-propagation through time by hand: every gradient into ``.grad``; the loss."""
    counted = [t for t in range(free, image.shape[1]) if t not in void]
    step, total = None, torch.zeros((), dtype=image.dtype)
    for t in range(image.shape[1]):
        if t == free or (truncate and t > free and (t - free) % truncate == 0):
            step = step and step.detach()
        step = next(iter(model.iterate(image[:, t], steps=1, before=step)))
        if t in counted:
            total = total + F.cross_entropy(step.logits, target[:, t], ignore_index=VOID) / len(counted)
    model.zero_grad()
    total.backward()
    return total.detach(), gradients(model)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], msg=name, **tolerance)


# --- the loss and its gradient


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 6),
    truncate=st.one_of(st.none(), st.integers(1, 7)),
    free=st.integers(0, 2),
    void=st.sets(st.integers(0, 5), max_size=3),
)
def test_the_gradient_is_that_of_truncated_back_propagation_written_out(frames, truncate, free, void):
    free = min(free, frames - 1)
    void = {t for t in void if t < frames}
    if set(range(free, frames)) <= void:
        void = set()
    model = in_double()
    image, target = clip(frames, void=void)
    expected, theirs = written_out(model, image, target, truncate=truncate, free=free, void=void)
    module = FeedbackModule(model, classes=2, ignore_index=VOID, truncate=truncate, free_steps=free)
    model.zero_grad()
    loss = module.loss_of((image, target), module.unrolling.passes(0, 0, 0))
    (3 * loss).backward()  # as a scaler, or accumulation, would
    torch.testing.assert_close(loss.detach(), expected)
    same(gradients(model), {name: 3 * value for name, value in theirs.items()})


@pytest.mark.parametrize("dynamics", CARRYING)
def test_every_dynamics_that_carries_learns_from_clips(dynamics):
    model = tiny(dynamics=dynamics).double()
    image, target = clip(4)
    expected, theirs = written_out(model, image, target, truncate=2)
    model.zero_grad()
    loss = FeedbackModule(model, classes=2, truncate=2).loss_of((image, target))
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    same(gradients(model), theirs)


def test_what_is_detached_makes_a_difference():
    image, target = clip()
    found = {t: written_out(tiny().double(), image, target, truncate=t)[1] for t in (None, 1)}
    reader = next(name for name in found[1] if "reader" in name)
    assert not torch.allclose(found[None][reader], found[1][reader])


def test_a_frame_is_void_where_it_is_so_in_every_clip_of_the_batch():
    model = tiny().double()
    image, target = clip(3)
    target[0, 1] = target[:, 2] = VOID  # one film's frame, and both films' last
    module = FeedbackModule(model, classes=2, ignore_index=VOID)
    expected, theirs = written_out(model, image, target, truncate=1, void={2})
    model.zero_grad()
    loss = module.loss_of((image, target))
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    same(gradients(model), theirs)


def test_a_batch_of_void_alone_costs_nothing_and_frames_after_the_last_label_are_not_looked_at():
    model = tiny()
    looks = []
    model.head.register_forward_hook(lambda *_: looks.append(1))
    module = FeedbackModule(model, classes=2, ignore_index=VOID)
    image, target = clip(4, void=(0, 1, 2, 3))
    loss = module.loss_of((image.float(), target))
    loss.backward()
    assert loss == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)
    looks.clear()
    module.loss_of((clip(4, void=(0, 2, 3))[0].float(), clip(4, void=(0, 2, 3))[1]))
    assert len(looks) == 1, "frame 1 alone is judged; neither are 2 and 3 seen"


class Kept:
    """What a forward pass has put aside for the backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def most_kept(frames, truncate):
    """How many tensors were kept at once."""
    alive, most = weakref.WeakSet(), [0]

    def keep(tensor):
        alive.add(kept := Kept(tensor))
        most.append(len(alive))
        return kept

    image, target = clip(frames)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        FeedbackModule(tiny(), classes=2, truncate=truncate).loss_of((image.float(), target)).backward()
    return max(most)


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_clip():
    assert most_kept(8, truncate=1) == most_kept(4, truncate=1) < most_kept(4, truncate=2)
    assert most_kept(8, truncate=2) == most_kept(4, truncate=2) < most_kept(4, truncate=None)
    assert most_kept(8, truncate=None) > 1.9 * most_kept(4, truncate=None)


def test_a_model_that_looks_once_sees_the_frames_as_a_batch():
    model = nn.Conv2d(3, 2, 1)
    image, target = clip(3)
    image = image.float()
    ours = FeedbackModule(model, classes=2).loss_of((image, target))
    torch.testing.assert_close(ours, F.cross_entropy(model(image.flatten(0, 1)), target.flatten(0, 1)))


def test_clips_come_in_dictionaries_and_tell_their_task():
    image, target = clip(4)
    module = FeedbackModule(tiny(), classes=2)
    parts = {"image": image.float(), "mask": target.byte()}
    assert torch.equal(module.loss_of(parts), FeedbackModule(tiny(), classes=2).loss_of((image.float(), target)))
    assert module.task == "segmentation"
    with pytest.raises(InvalidInput, match=r"clips of shape \(2, 4, .*a target for each frame, \(2, 4\) of them"):
        module.loss_of((image.float(), target[:, :3]))


# --- a run


def by_hand(model, batches, clip_norm):
    optimizer = SGD(model.parameters())
    for image, target in batches:
        written_out(model, image, target, truncate=1)
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
    return dict(model.named_parameters())


def test_a_run_takes_the_steps_that_are_written_out_and_clips_their_gradient():
    films = Films(4)
    image, target = (torch.stack(column)[None] for column in zip(*(films[i] for i in range(4)), strict=True))
    expected = by_hand(tiny(), [(image, target)] * 3, clip_norm=0.1)
    module = FeedbackModule(tiny(), classes=2, optimizer=SGD, schedule=constant)
    fit(module, PairsModule(films, batch_size=1, clip=4), steps=3, clip=0.1, **QUICK)
    same(dict(module.model.named_parameters()), expected)


@pytest.mark.parametrize(("steps", "clip", "words"), [(3, 2, "statistics of look 3 stay .* clips of 3"), (2, 2, None)])
def test_statistics_of_frames_that_no_clip_has_are_warned_of(steps, clip, words):
    film = {"preset": "film", "steps": steps}
    base = {"encoder_depth": 3, "decoder_channels": (8, 8, 8)}
    model = smpf.create("Unet", "tu-test_resnet.r160_in1k", None, classes=2, feedback=film, **base)
    with pytest.warns(UserWarning, match=words) if words else contextlib.nullcontext():
        warn_of_untrained_statistics(model, clip, clips=True)


def test_clips_that_somebody_made_are_taken_as_they_are():
    data = PairsModule(Clips(Films(6), 3, 2), Films(4), batch_size=1)
    assert (data.clip, data.clip_stride, len(data.train)) == (3, 2, 2)
    assert next(iter(data.val_dataloader()))[0].shape == (1, 3, 3, 8, 8)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    clip=st.integers(1, 5),
    stride=st.integers(1, 3),
    every=st.integers(1, 3),
)
def test_what_is_said_of_clips_is_what_there_is(lengths, clip, stride, every):
    films = Films(*lengths)
    span = (clip - 1) * every + 1
    short = sum(length < span for length in lengths)
    assume(short < len(lengths))
    with pytest.warns(DataWarning) if short else contextlib.nullcontext():
        clips = Clips(films, clip, stride, every)
    (said,) = clips_told({"train": clips}, clip, stride)
    assert said.startswith(f"train: {len(clips)} clips of {clip} frames")
    assert (f"frames that are {every} apart" in said) == (every > 1)
    assert (f"({short} shorter, left out)" in said) == bool(short)
    if every == 1:
        assert [said] == clips_told({"train": films}, clip, stride)


def test_a_run_on_every_other_frame_is_not_gone_on_with_on_all_of_them():
    every, other = PairsModule(Clips(Films(4), 2), batch_size=1), PairsModule(Clips(Films(5), 2, every=2), batch_size=1)
    assert len(every.train) == len(other.train)
    with pytest.raises(InvalidValue, match="clip_every=1: the run to resume has clip_every=2"):
        every.load_state_dict(other.state_dict())


def test_a_run_on_clips_that_was_killed_goes_on_to_the_same_weights(tmp_path):
    def train(steps, out, **how):
        data = PairsModule(Films(6, 5, labelled=lambda index: index % 3), Films(3), batch_size=2, clip=3)
        module = FeedbackModule(tiny(), classes=2, ignore_index=VOID, free_steps=[0, 1], ema=0.5, schedule=constant)
        told = {"seed": 4, "out": out, "save_every": 1, **how}
        fit(module, data, steps=steps, **told, **QUICK)
        return dict(module.model.named_parameters())

    whole = train(5, tmp_path / "whole")
    train(3, tmp_path / "killed")
    again = train(5, tmp_path / "killed", resume=True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_run_on_other_clips_is_not_gone_on_with(tmp_path):
    def train(clip, steps, **how):
        films = Films(5) if clip == 3 else Films(4)  # as many clips
        module = FeedbackModule(tiny(), classes=2, schedule=constant)
        fit(module, PairsModule(films, batch_size=1, clip=clip), steps=steps, out=tmp_path, **how, **QUICK)

    train(3, 1)
    with pytest.raises(InvalidValue, match="clip=2: the run to resume has clip=3"):
        train(2, 2, resume=True)


def test_bfloat16_and_accumulated_gradients_train_on_clips():
    def train(accumulate, clips):
        module = FeedbackModule(tiny(), classes=2, optimizer=SGD, schedule=constant)
        told = {"accelerator": "cpu", "max_steps": 1, "accumulate_grad_batches": accumulate, "limit_val_batches": 0}
        with quiet():
            build_trainer({**told, "enable_progress_bar": False}).fit(module, clips)
        return dict(module.model.named_parameters())

    films = Films(3, 3)
    same(train(2, PairsModule(films, batch_size=1, clip=3)), train(1, PairsModule(films, batch_size=2, clip=3)))
    module = FeedbackModule(tiny(), classes=2)
    with torch.autocast("cpu", torch.bfloat16):
        module.loss_of([part.float() if part.is_floating_point() else part for part in clip(3)]).backward()
    assert all(p.grad.isfinite().all() for p in module.model.parameters() if p.grad is not None)


# --- what is refused


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"steps": 2}, "steps=2 says which looks of an image learn; of a clip .* one a frame"),
        ({"progressive": 0.5}, "progressive=0.5 says"),
        ({"segments": 2}, "segments=2 says"),
        ({"supervise": "mean"}, "supervise='mean' says"),
        ({"backward": "per_step"}, "backward='per_step' is for looks at one image: of clips, truncate=1"),
        ({"free_steps": [0, 3]}, r"free_steps=\[0, 3\] of clips of 3 frames leaves none"),
    ],
)
def test_what_is_said_of_one_images_looks_is_refused_before_any_work(how, words):
    module = FeedbackModule(tiny(), classes=2, **how)
    with pytest.raises(InvalidValue, match=words):
        fit(module, PairsModule(Films(4), batch_size=1, clip=3), steps=1, **QUICK)
    with pytest.raises(InvalidValue, match=words.split(" of clips of")[0]):
        module.loss_of(tuple(part.float() if part.is_floating_point() else part for part in clip(3)))


def test_what_needs_whole_and_scaled_gradients_is_refused_unless_one_backward_pass_does():
    from lightning.pytorch.strategies import FSDPStrategy

    how, plain = Unrolling(usual=1, truncate=2), object()
    scaled = SimpleNamespace(precision="16-mixed", strategy=plain)
    spread = SimpleNamespace(precision="32-true", strategy=object.__new__(FSDPStrategy))
    with pytest.raises(InvalidValue, match=r"truncate=2 .* does not scale gradients: use precision 'bf16-mixed'"):
        check_sends_back(scaled, how, ("16-mixed",))
    with pytest.raises(InvalidValue, match=r"truncate=2 .* needs whole parameters: use strategy 'ddp'"):
        check_sends_back(spread, how, ("16-mixed",))
    for trainer in (scaled, spread):
        check_sends_back(trainer, Unrolling(usual=1, truncate=None), ("16-mixed",))


@pytest.mark.parametrize("dynamics", OTHERS)
def test_a_loop_that_begins_anew_with_each_frame_is_refused_clips(dynamics):
    module = FeedbackModule(tiny(dynamics=dynamics), classes=2)
    with pytest.raises(InvalidValue, match=r"clips .* carry the state .* take feedback.dynamics of .*leaky"):
        fit(module, PairsModule(Films(4), batch_size=1, clip=3), steps=1, **QUICK)


def test_each_look_on_its_own_is_said_by_truncate():
    with pytest.raises(InvalidValue, match=r"feedback.detach=True .* truncate=1 does that"):
        FeedbackModule(tiny(detach=True), classes=2).check_frames(3)


@pytest.mark.parametrize("truncate", [0, 1.5, True])
def test_truncate_counts_frames(truncate):
    with pytest.raises((InvalidType, InvalidValue), match=f"truncate={truncate}"):
        FeedbackModule(tiny(), classes=2, truncate=truncate)


def test_truncate_is_for_clips_and_for_models_that_look_again():
    with pytest.raises(InvalidValue, match="truncate=2 is for models that look again"):
        FeedbackModule(nn.Conv2d(3, 2, 1), classes=2, truncate=2)
    module = FeedbackModule(tiny(), classes=2, truncate=2)
    with pytest.raises(InvalidValue, match=r"truncate=2 is for clips, .* data.clip"):
        fit(module, PairsModule(Films(4), batch_size=1), steps=1, **QUICK)


def test_what_has_no_films_is_refused_clips():
    images = [Films(1)[0]] * 4
    with pytest.raises(InvalidValue, match=r"clip=3: train is a list of images that belong to no films; .*moving"):
        PairsModule(images, clip=3)
    with pytest.raises(InvalidValue, match="clip=3: val is a list"):
        PairsModule(Films(4), images, batch_size=1, clip=3)
    with pytest.raises(InvalidValue, match="clip_stride=2 without clip"):
        PairsModule(Films(4), batch_size=1, clip_stride=2)


# --- scores


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_parts_go_through_each_film_once_in_order(lengths, frames, films):
    data = Films(*lengths)
    numbered = [(*data[i], i) for i in range(len(data))]
    seen, running = [], []
    for image, target, place, indices in FilmParts(numbered, data.films, frames, films):
        running = [[] for _ in indices] if place == 0 else running
        assert all(len(film) == place for film in running)
        assert image.shape[:2] == target.shape[:2] == indices.shape
        assert len(indices) <= films
        assert indices.shape[1] <= frames
        for film, more in zip(running, indices.tolist(), strict=True):
            film += more
        for where, index in zip(image.flatten(0, 1), indices.flatten(), strict=True):
            assert torch.equal(where, data.images[index])
        seen += running if place == 0 else []
    assert sorted(map(tuple, seen)) == [tuple(film) for film in data.films]


def scored_by_hand(model, data):
    """mIoU over all frames of whole films, one look a frame; and the mean loss of the frames that have labels."""
    table, losses = torch.zeros(2, 2), []
    with torch.no_grad():
        for film in data.films:
            step = None
            for index in film:
                image, mask = data[index]
                step = next(iter(model.iterate(image[None], steps=1, before=step)))
                counts = mask != VOID
                if counts.any():
                    losses.append(F.cross_entropy(step.logits, mask[None], ignore_index=VOID))
                for truth, said in zip(mask[counts], step.logits[0].argmax(0)[counts], strict=True):
                    table[truth, said] += 1
    hits = table.diagonal()
    return (hits / (table.sum(0) + table.sum(1) - hits)).mean(), torch.stack(losses).mean()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_validation_is_of_whole_films_one_look_a_frame(batch_size):
    data = Films(5, 3, 5, labelled=lambda index: index % 4)
    module = FeedbackModule(tiny().eval(), classes=2, ignore_index=VOID)
    with quiet():
        trainer = build_trainer({"accelerator": "cpu", "enable_progress_bar": False})
        pairs = PairsModule(val=data, test=data, batch_size=batch_size, clip=2)
        (found,) = trainer.validate(module, pairs, verbose=False)
        (tested,) = trainer.test(module, pairs, verbose=False)
    miou, loss = scored_by_hand(module.model, data)
    if batch_size == 2:  # films side by side: a loss is a mean over both
        assert found["val_loss"] == pytest.approx(loss.item(), rel=0.05)
    else:
        assert found["val_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["val_miou"] == tested["test_miou"] == pytest.approx(miou.item(), rel=1e-6)
    assert not any("look_" in name for name in found), "a frame has one look"
    scores = evaluate_films(module.model, data, classes=2, ignore_index=VOID)
    assert found["val_miou"] == pytest.approx(scores.miou, rel=1e-6)
    assert not any(isinstance(value, Step) for value in vars(module).values()), "the module keeps no look"


def test_films_that_take_turns_do_not_disturb_each_other():
    module, films = FeedbackModule(tiny().eval(), classes=2), torch.rand(2, 1, 4, 3, 8, 8)
    with torch.inference_mode():
        alone = [torch.stack([*module.frames(film, Ongoing())]) for film in films]
        going = [Ongoing(), Ongoing()]
        turns = [
            [torch.stack([*module.frames(film[:, t : t + 2], one)]) for film, one in zip(films, going, strict=True)]
            for t in (0, 2)
        ]
    for whole, parts in zip(alone, zip(*turns, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))
    assert [one.place for one in going] == [4, 4]


def test_workers_hand_films_over_as_one_process_does():
    data, module = Films(3, 5, 3), FeedbackModule(tiny().eval(), classes=2)
    loader = PairsModule(val=data, batch_size=2, clip=2, workers=2).val_dataloader()
    for _ in range(2):  # workers stay
        said = {}
        with torch.inference_mode():
            for image, _, ongoing, indices in loader:
                logits = torch.stack([*module.frames(image, ongoing)], 1)
                said |= dict(zip(indices.flatten().tolist(), logits.flatten(0, 1), strict=True))
        assert sorted(said) == [*range(11)]
        for film in data.films:
            step = None
            with torch.no_grad():
                for index in film:
                    step = module.model.look(data[index][0][None], step)
                    torch.testing.assert_close(said[index], step.logits[0])


def test_a_plain_model_is_scored_frame_by_frame():
    data = Films(4, 3)
    module = FeedbackModule(nn.Conv2d(3, 2, 1), classes=2)
    with quiet():
        trainer = build_trainer({"accelerator": "cpu", "enable_progress_bar": False})
        films, images = (
            trainer.validate(module, PairsModule(val=data, batch_size=2, **how), verbose=False)[0]
            for how in ({"clip": 2}, {})
        )
    assert films["val_miou"] == images["val_miou"]


def test_predictions_are_those_of_whole_films():
    data = Films(3, 3)
    module = FeedbackModule(tiny().eval(), classes=2, task="segmentation")
    with quiet():
        trainer = build_trainer({"accelerator": "cpu", "enable_progress_bar": False})
        found = trainer.predict(module, PairsModule(test=data, batch_size=2, clip=2))
    assert [part.shape for part in found] == [(1, 4, 2, 8, 8), (1, 2, 2, 8, 8)]
    step = None
    with torch.no_grad():
        for index in data.films[1]:
            step = next(iter(module.model.iterate(data[index][0][None], steps=1, before=step)))
    torch.testing.assert_close(found[1][0, 1:], step.logits)


def test_moving_shapes_are_learnt_from_clips():
    data = MovingShapes("train", frames=4, count=16, size=32)
    torch.manual_seed(0)
    film = {"dynamics": "gated", "projection": "state", "channels": 2, "norm_error": "pixel"}
    model = smpf.create("PlainConv", in_channels=3, classes=5, width=4, depth=2, feedback=film)
    module = FeedbackModule(model, classes=5, class_weights="balanced")
    fit(module, PairsModule(data, data, batch_size=2, clip=3, clip_stride=2), steps=2, **QUICK)
    assert 0 <= module.scored.looks[-1] <= 1
