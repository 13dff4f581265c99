"""Large images in overlapping windows: equal to the untiled answer wherever no window's border is within reach."""

from __future__ import annotations

import copy
import math
import sys

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_base import SmallBase
from torch import nn

import smp_feedback as smpf
from smp_feedback.errors import InvalidValue
from smp_feedback.loops.tiling.grid import cut, laid
from smp_feedback.loops.tiling.mosaic import mosaic, windows_of
from smp_feedback.models.normalisation import given_config

LOOPS = {
    "plain": False,
    "decay": smpf.Recurrent(steps=3, feedback_init=1.0),
    "fractional": smpf.Recurrent(steps=3, dynamics="fractional", feedback_init=1.0),
    "residual": smpf.Recurrent(steps=2, dynamics="residual", feedback_init=1.0),
    "drawn": smpf.Recurrent(steps=2, init_std=1e-2, feedback_init=1.0),
    "anytime": {"preset": "anytime", "steps": 3},
    "score": smpf.Score(filters=4, additional_pools=1, steps=2),
    "restoration": smpf.Restoration(steps=2, depth=2, filters=4),
    "repair": smpf.Repair(steps=2, width=4),
}
RECURRENT = [name for name in LOOPS if name not in ("plain", "score", "restoration", "repair")]


def made(loop, arch="Unet", seed=0, **more):
    torch.manual_seed(seed)
    slim = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)} if arch == "Unet" else {}
    return smpf.create(arch, "tu-test_resnet.r160_in1k", None, classes=3, feedback=LOOPS[loop], **slim, **more).eval()


def plain_conv(feedback=False, **more):
    torch.manual_seed(0)
    return smpf.create("PlainConv", classes=2, width=4, feedback=feedback, **more).eval()


def reach(grid, size, radius):
    """Where no window that covers a pixel ends within *radius* of it, but at the image's own edge."""
    alone = torch.ones(size, dtype=torch.bool)
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])[None]
    starts = [range(0, full - side + step, step) for full, side, step in zip(*grid, strict=True)]
    tops, lefts = ([min(at, full - side) for at in one] for one, full, side in zip(starts, *grid[:2], strict=True))
    for top in tops:
        for left in lefts:
            bottom, right = top + grid.window[0], left + grid.window[1]
            covered = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
            near = (rows < top + radius) & (top > 0) | (rows >= bottom - radius) & (bottom < size[0])
            near = near | (columns < left + radius) & (left > 0) | (columns >= right - radius) & (right < size[1])
            alone &= ~(covered & near)
    return alone


SIDE, WINDOW = st.integers(1, 40), st.integers(1, 24)
OVERLAP = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])


@given(image=st.tuples(SIDE, SIDE), window=st.tuples(WINDOW, WINDOW), overlap=OVERLAP, multiple=st.integers(1, 4),
       aligned=st.booleans(), whole=st.booleans())  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_pixel_and_are_what_the_model_takes(image, window, overlap, multiple, aligned, whole):
    window = tuple(side * multiple for side in window)
    grid = laid(image, window, overlap, (multiple, multiple), aligned=aligned, whole=whole)
    for axis in (0, 1):
        assert grid.window[axis] % multiple == 0
        assert grid.window[axis] == window[axis] or (not whole and grid.window[axis] < image[axis] + multiple)
        assert grid.size[axis] >= max(image[axis], grid.window[axis])
        assert grid.size[axis] < image[axis] + multiple or whole
        assert 1 <= grid.step[axis] <= max(multiple if aligned else 1, grid.window[axis] * (1 - overlap))
        assert not aligned or grid.step[axis] % multiple == grid.size[axis] % multiple == 0
    if multiple == 1 and not whole:
        assert grid.size == image, "nothing is added where nothing need be"


@given(image=st.tuples(SIDE, SIDE), window=st.tuples(st.integers(8, 24), st.integers(8, 24)),
       overlap=st.floats(0, 0.6), at_once=st.integers(1, 3), images=st.integers(1, 2))  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_what_windows_agree_on_is_kept_and_each_is_asked_once(image, window, overlap, at_once, images):
    maps, asked = torch.rand(images, 2, *image), []
    grid = laid(image, window, overlap, (1, 1), whole=False)

    def answer(places):
        asked.extend(places)
        return windows_of(maps, places, grid.window)

    how = {"images": images, "at_once": at_once, "dtype": torch.float32, "device": maps.device, "asked": maps.device}
    assert torch.allclose(mosaic(grid, answer, **how), maps, atol=1e-6)
    assert len(asked) == len(set(asked)) == images * grid.windows
    assert [place.image for place in asked] == sorted(place.image for place in asked)


@given(image=st.tuples(st.integers(12, 40), st.integers(12, 40)), window=st.integers(8, 24), overlap=st.floats(0, 0.6))
@settings(max_examples=15, deadline=None)
def test_away_from_seams_the_answer_is_the_untiled_one(image, window, overlap):
    model, x = plain_conv(), torch.rand(1, 3, *image)  # three 3 x 3 convolutions see three pixels far
    windows = smpf.tiled(model, window, overlap)
    with torch.no_grad():
        expected = model(x)
    alone = reach(windows.grid(image), image, 3)
    assert torch.allclose(windows(x)[..., alone], expected[..., alone], atol=1e-5)


def test_seams_are_where_they_are_looked_for():
    model, x = plain_conv(), torch.rand(1, 3, 40, 40)
    windows = smpf.tiled(model, 24, 0.25)
    with torch.no_grad():
        differs = (windows(x) - model(x)).abs().amax((0, 1)) > 1e-4
    alone = reach(windows.grid((40, 40)), (40, 40), 3)
    assert differs.any()
    assert alone.sum() > 600, "there is something to compare"
    assert not (differs & alone).any()


@pytest.mark.parametrize("loop", ["plain", "decay", "score", "restoration", "repair"])
def test_a_window_as_large_as_the_image_is_the_untiled_answer(loop):
    model, x = made(loop), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(smpf.tiled(model, (32, 48))(x), expected)
    assert torch.equal(smpf.tiled(model, 64)(x), expected), "a smaller image makes the window smaller"


@pytest.mark.parametrize("loop", RECURRENT)
def test_one_window_whose_state_is_stitched_is_the_untiled_trajectory(loop):
    model, x = made(loop), torch.rand(1, 3, 32, 48)
    windows = smpf.tiled(model, 64, stitch="state")
    with torch.no_grad():
        torch.manual_seed(1)
        expected = model.trajectory(x)
        torch.manual_seed(1)
        assert torch.equal(windows.trajectory(x), expected)
        torch.manual_seed(1)
        assert torch.equal(windows(x), expected[-1])


@pytest.mark.parametrize("stitch", ["logits", "state"])
@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_constant_model_gives_constants(stitch, value):
    model = plain_conv(smpf.Recurrent(steps=2)) if stitch == "state" else plain_conv()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(value)
    out = smpf.tiled(model, 16, stitch=stitch)(torch.rand(2, 3, 37, 41))
    assert out.shape == (2, 2, 37, 41)
    assert torch.allclose(out, torch.full_like(out, value), atol=1e-5)


class Marks(nn.Module):
    """A look passes on what each pixel's left neighbour knew: a state that travels one pixel a look."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

    def forward_features(self, image):
        return self.conv(image)

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def travelling():
    """An any-time loop whose state is handed to the right: h' = h or (image or the left neighbour's h)."""
    torch.manual_seed(0)
    loop = smpf.Recurrent(steps=4, channels=1, projection="state", norm_error="none", dynamics="leaky", tau=1.0)
    base = smpf.create("PlainConv", in_channels=1, classes=1, width=1, depth=1, feedback=loop).eval()
    with torch.no_grad():
        for weight in base.parameters():
            weight.zero_()
        base.convs[0].weight[0, 0, 1, 1] = 1.0  # what the image shows
        base.recurrent.readers[0].weight[0, 0, 1, 0] = 1.0  # what the neighbour to the left knew
        base.recurrent.readout.weight.fill_(1.0)
        base.head.weight.fill_(1.0)
    return base


def test_a_stitched_state_carries_what_is_found_through_all_windows():
    model, looks = travelling(), 40
    x = torch.zeros(1, 1, 8, 48)
    x[..., 4, 0] = 1.0  # a mark at the left end of a long way
    with torch.no_grad():
        untiled = model(x, steps=looks)
    assert untiled[0, 0, 4, looks - 1] > 0.9, "untiled, it arrives"
    assert untiled[0, 0, 4, looks] < 0.1
    alone = smpf.tiled(model, (8, 16), 0.5)(x, steps=looks)
    stitched = smpf.tiled(model, (8, 16), 0.5, stitch="state")(x, steps=looks)
    assert alone[0, 0, 4, 30] < 0.1, "a window that cannot see the mark knows nothing of it"
    assert stitched[0, 0, 4, 30] > 0.1
    assert torch.allclose(stitched[..., :8], untiled[..., :8], atol=1e-4)


def test_looks_are_those_of_each_window_blended():
    model, x = made("decay"), torch.rand(2, 3, 40, 72)
    windows = smpf.tiled(model, 32, batch_size=3)
    path = windows.trajectory(x, steps=3)
    assert path.shape == (3, 2, 3, 40, 72)
    for t, look in enumerate(path):
        assert torch.allclose(look, windows(x, steps=t + 1), atol=1e-5)


def test_batches_of_windows_change_nothing():
    model, x = made("decay"), torch.rand(2, 3, 40, 72)
    one, many = (smpf.tiled(model, 32, batch_size=count)(x) for count in (1, 5))
    assert torch.allclose(one, many, atol=1e-3)


@pytest.mark.parametrize("stitch", ["logits", "state"])
def test_images_or_windows_stop_by_a_rule(stitch):
    model, x = plain_conv("anytime"), torch.rand(2, 3, 20, 30)
    rule = smpf.until_settled(2, at_most=5)
    windows = smpf.tiled(model, 16, stitch=stitch)
    assert windows(x, rule).shape == (2, 2, 20, 30)
    if stitch == "state":
        *_, last = windows.iterate(x, rule)
        assert (last.looks <= 5).all()
        alone = [[*windows.iterate(one[None], rule)][-1] for one in x]
        assert last.looks.tolist() == [int(one.looks) for one in alone]
        assert torch.allclose(last.logits, torch.cat([one.logits for one in alone]), atol=1e-5)
    else:
        with pytest.raises(smpf.FeedbackError, match="each window stops by itself"):
            windows.trajectory(x, rule)


def test_sizes_that_do_not_divide_are_filled_up_and_cut_off_again():
    x = torch.rand(1, 3, 37, 41)
    model = made("decay", "FPN")
    with torch.no_grad():
        small = model(cut(x[..., :9, :20], 0, 0, (32, 32)))[..., :9, :20]
    for stitch in ("logits", "state"):
        assert smpf.tiled(model, 32, stitch=stitch)(x).shape == (1, 3, 37, 41)
        assert torch.equal(smpf.tiled(model, 64, stitch=stitch)(x[..., :9, :20]), small), "by no more than need be"
    assert torch.equal(cut(x, 30, 0, (16, 41))[0, :, 7:], x[0, :, -1:].expand(-1, 9, -1)), "by the last row"


def test_each_window_goes_through_what_feeds_it():
    model = plain_conv()
    model.data_config = smpf.DataConfig(mean=(0.5,) * 3, std=(0.25,) * 3)
    bytes_ = torch.randint(0, 256, (1, 3, 40, 24), dtype=torch.uint8)
    windows = smpf.tiled(model, 16)
    fed = windows(bytes_, feed=lambda part: model.data_config.normalise(part / 255))
    assert torch.allclose(fed, windows(model.data_config.normalise(bytes_ / 255)), atol=1e-5)
    assert given_config(windows).config == model.data_config, "and says what the model says"


def test_progress_is_told_of_every_window():
    told = []

    class Bar:
        def __enter__(self):
            return lambda: told.append(None)

        def __exit__(self, *_):
            pass

    def progress(what, calls):
        told.append((what, calls))
        return Bar()

    windows = smpf.tiled(plain_conv(), 16, progress=progress, batch_size=2)
    windows(torch.rand(1, 3, 40, 40))
    assert told == [("windows", math.ceil(windows.grid((40, 40)).windows / 2)), *[None] * (len(told) - 1)]
    assert len(told) - 1 == told[0][1]


def test_the_image_is_left_as_it_was_and_memory_is_not_shared():
    x = torch.rand(1, 2, 40, 40)
    kept = x.clone()
    assert torch.allclose(smpf.tiled(nn.Identity().eval(), 16)(x), kept, atol=1e-6)
    assert torch.equal(x, kept)


def test_half_and_double_precision_are_added_up_in_enough():
    for dtype, out in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        model = copy.deepcopy(plain_conv()).to(dtype)
        assert smpf.tiled(model, 16)(torch.rand(1, 3, 24, 24, dtype=dtype)).dtype == out


def test_answers_of_models_with_image_labels_are_their_maps():
    model = smp.Unet("resnet18", encoder_weights=None, classes=2, aux_params={"classes": 4}).eval()
    assert smpf.tiled(model, 64)(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def refused(call, says, kind=smpf.FeedbackError):
    with pytest.raises(kind, match=says):
        call()


def test_what_cannot_be_is_refused_in_words():
    plain, unet, x = plain_conv(), made("decay", "FPN"), torch.rand(1, 3, 24, 24)
    refused(lambda: smpf.tiled(unet, 60), "takes multiples of 32, so give 32 or 64")
    refused(lambda: smpf.tiled(unet, 4), "so give at least 32")
    refused(lambda: smpf.tiled(plain, 0), "window=0: expected a whole number >= 1")
    refused(lambda: smpf.tiled(plain, "512"), "window='512': expected its side in pixels")
    refused(lambda: smpf.tiled(plain, 16, 1.0), "overlap=1.0: expected a share")
    refused(lambda: smpf.tiled(plain, 16, stitch="states"), "Did you mean 'state'")
    refused(lambda: smpf.tiled(plain, 16, stitch="state"), "has none: leave stitch='logits'")
    refused(lambda: smpf.tiled(made("score"), 32, stitch="state"), "has none: leave stitch='logits'")
    refused(lambda: smpf.tiled(smpf.tiled(plain, 16), 16), "is in windows already")
    refused(lambda: smpf.tiled("model", 16), "is no module")
    refused(lambda: smpf.tiled(plain, 16)(x, steps=2), "looks once; leave it out")
    refused(lambda: smpf.tiled(plain, 16)(x[0]), r"image of shape \(3, 24, 24\)")
    refused(lambda: smpf.tiled(unet, 32).iterate(x), "with stitch='logits' each window looks to the end")
    refused(lambda: smpf.tiled(plain, 16)(x.clone().requires_grad_()), "wants a gradient")
    refused(lambda: smpf.tiled(nn.Flatten().eval(), 16)(x), "expected a map of its size")
    classifier = smpf.create("timm/resnet18", classes=2, feedback=False).eval()
    refused(lambda: smpf.tiled(classifier, 32)(x), "expected a map of its size")
    shifted = smpf.tiled(nn.MaxPool2d(2).eval(), 16)
    refused(lambda: shifted(x), r"answered by \(1, 3, 8, 8\)")


def test_windows_are_neither_trained_nor_saved_nor_wrapped_nor_exported(tmp_path):
    model = plain_conv(smpf.Recurrent(steps=2))
    windows = smpf.tiled(model, 16)
    refused(lambda: windows.train()(torch.rand(1, 3, 24, 24)), "windows in training mode")
    windows.eval()
    refused(lambda: windows.save_pretrained(tmp_path), "save the one inside, tiled.model")
    refused(lambda: smpf.wrap(windows), "wrap the model in it")
    refused(lambda: smpf.export(windows, tmp_path / "model.onnx"), "export the one inside")
    refused(lambda: smpf.Film(windows), "does not look again")
    assert not list(tmp_path.iterdir())


def test_without_monai_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda name: None)
    refused(lambda: smpf.tiled(plain_conv()), r'pip install "smp_feedback\[tiles\]"')


@pytest.mark.sweep
@pytest.mark.parametrize("arch", ["Unet", "FPN", "DeepLabV3Plus", "Segformer", "PAN", "UPerNet"])
@pytest.mark.parametrize("stitch", ["logits", "state"])
def test_architectures_with_strides_of_their_own(arch, stitch):
    torch.manual_seed(0)
    model = smpf.create(arch, "resnet18", None, classes=2, feedback=smpf.Recurrent(steps=2, feedback_init=1.0)).eval()
    x = torch.rand(1, 3, 128, 160)  # PAN pools what is of stride 16 three times
    windows = smpf.tiled(model, (128, 160), stitch=stitch)
    with torch.no_grad():
        assert torch.equal(windows(x), model(x))
    assert smpf.tiled(model, 128, stitch=stitch)(x).shape == (1, 2, 128, 160)


def test_a_small_base_of_ones_own_is_seen_in_windows():
    model = smpf.wrap(SmallBase(nn.BatchNorm2d(6)), smpf.Recurrent(steps=2, feedback_init=1.0)).eval()
    x = torch.from_numpy(np.random.default_rng(0).random((1, 3, 20, 28), dtype=np.float32))
    with torch.no_grad():
        assert torch.equal(smpf.tiled(model, 32)(x), model(x))
    assert smpf.tiled(model, 16)(x).shape == (1, 3, 20, 28)


@pytest.mark.parametrize("size", [(70, 50), (16, 16), (33, 16), (20, 90)])
def test_looks_that_are_read_from_above_to_below_are_those_of_the_whole_map(size):
    """Bit for bit: what is added up in bands is what MONAI adds up at once."""
    model = plain_conv(smpf.Recurrent(steps=3, feedback_init=1.0))
    windows = smpf.tiled(model, 16, 0.4, batch_size=3)
    image, seen = torch.rand(1, 3, *size), []

    def read(logits):
        seen.append(logits.shape[-2])
        return logits.clone()

    *before, last = windows.every_look(image)
    kept, logits = windows.read_looks(image, read)
    assert torch.equal(logits, last)
    assert len(kept) == 2
    assert all(map(torch.equal, kept, before))
    assert max(seen) <= 16, "no more than one row of windows is there at a time"


def test_images_of_a_batch_are_read_one_by_one():
    windows = smpf.tiled(plain_conv(smpf.Recurrent(steps=2, feedback_init=1.0)), 16, 0.4)
    images = torch.rand(2, 3, 40, 20)
    *before, last = windows.every_look(images)
    kept, logits = windows.read_looks(images, lambda logits: logits.argmax(1).byte())
    assert torch.equal(logits, last)
    assert kept[0].dtype == torch.uint8
    assert torch.equal(kept[0].long(), before[0].argmax(1))


@pytest.mark.parametrize("feedback", [False, "state"])
def test_a_plain_model_and_a_stitched_state_are_read_look_by_look(feedback):
    model = plain_conv(smpf.Recurrent(steps=3, feedback_init=1.0) if feedback else False)
    windows = smpf.tiled(model, 16, stitch=feedback or "logits")
    image = torch.rand(1, 3, 20, 40)
    *before, last = windows.every_look(image)
    kept, logits = windows.read_looks(image, torch.clone)
    assert len(kept) == len(before)
    assert all(map(torch.equal, kept, before))
    assert torch.equal(logits, last)


def test_a_window_below_the_models_stride_is_refused():
    model = smpf.create("Segformer", "tu-test_resnet.r160_in1k", None, classes=2, feedback=False)
    model.requires_divisible_input_shape = False
    with pytest.raises(InvalidValue, match=f"window=8.* {model.encoder.output_stride} px"):
        smpf.tiled(model, 8)
