"""Images that the patches do not cover evenly: refused with the size to use, or padded."""

from __future__ import annotations

import pytest
import smp_feedback as smpf
import torch
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.testing import check_agreement, check_heard, check_lossless
from torch.nn import functional as F

from smp_feedback_vit import ViTClassifier, ViTSegmenter

BOTH = pytest.mark.parametrize("cls", [ViTSegmenter, ViTClassifier])
FREE = {"encoder_name": "test_vit", "classes": 3}
FIXED = {"encoder_name": "vit_relpos_small_patch16_224", "classes": 3, "depth": 1, "img_size": (32, 64)}


@BOTH
@pytest.mark.parametrize(
    ("told", "size", "words"),
    [
        (FREE, (40, 33), r"image of 40 x 33: expected height and width divisible by the patch of 16, such as 48 x 48"),
        (FIXED, (32, 32), r"takes 32 x 64 only.*img_size=\(H, W\)"),
        ({**FIXED, "sizes": "pad"}, (32, 65), r"sees 32 x 64, expected at most that"),
        ({**FREE, "sizes": "pad"}, (15, 64), r"at least one patch of 16 x 16"),
    ],
)
def test_a_size_that_is_not_taken_is_refused_with_what_is(cls, told, size, words):
    plain = cls(**told).eval()
    for model in (plain, smpf.wrap(plain)):
        with pytest.raises(InvalidInput, match=words):
            model(torch.rand(1, 3, *size))
        with pytest.raises(RuntimeError):  # as smp's models
            model.check_input_shape(torch.rand(1, 3, *size))


def test_what_may_happen_to_sizes_is_one_of_two():
    with pytest.raises(InvalidValue, match=r"sizes='padd'.*Did you mean 'pad'"):
        smpf.create("ViTSegmenter", "test_vit", sizes="padd")


@BOTH
@pytest.mark.parametrize("told", [FREE, FIXED])
def test_a_padded_image_is_answered_as_one_with_zeros_at_its_right_and_lower_edge(cls, told):
    padding, strict = cls(**told, sizes="pad").eval(), cls(**told).eval()
    strict.load_state_dict(padding.state_dict())
    image = torch.rand(2, 3, 30, 61)
    with torch.no_grad():
        expected = strict(F.pad(image, (0, 3, 0, 2)))
        assert torch.equal(padding(image), expected[..., :30, :61] if cls is ViTSegmenter else expected)


@BOTH
@pytest.mark.parametrize("told", [FREE, FIXED])
@pytest.mark.parametrize("insert", ["input", "after:patch_embed"])
def test_a_padded_image_goes_through_the_loop(cls, told, insert):
    net = cls(**told, sizes="pad").eval()
    image = torch.rand(2, 3, 30, 61)
    check_lossless(net, image)
    model = smpf.wrap(net, smpf.Recurrent(insert=insert, steps=3))
    check_agreement(model, image)
    check_heard(model, image)


@pytest.mark.parametrize("size", [(17, 160), (33, 17), (100, 33), (16, 16)])
def test_the_fed_back_tokens_lie_where_their_patches_are(size):
    net = ViTClassifier("test_vit", sizes="pad").eval()
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    tokens = torch.arange(float(net.patches.layout.prefix + rows * columns))
    from smp_feedback.surgery.cuts import cut_of

    laid = cut_of(net).spread(net, tokens.reshape(1, 1, -1, 1), size)
    assert laid.shape == (1, 1, rows, columns)
    assert torch.equal(laid.flatten(), tokens[net.patches.layout.prefix :])


@BOTH
def test_a_rectangle_larger_than_the_one_that_positions_were_made_for_is_taken(cls):
    model = smpf.create(cls.__name__, "test_vit", classes=3, img_size=32).eval()
    assert model(torch.rand(1, 3, 96, 48)).shape == ((1, 3, 96, 48) if cls is ViTSegmenter else (1, 3))


@BOTH
def test_an_image_of_one_patch_hears_the_feedback(cls):
    model = smpf.create(cls.__name__, "test_vit", classes=3)
    check_heard(model, torch.rand(2, 3, 16, 16))
