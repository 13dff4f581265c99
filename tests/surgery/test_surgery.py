"""Cuts: small, and nothing of the base changes."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers.std_conv import ScaledStdConv2dSame
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.surgery import extension
from smp_feedback.surgery.convs import add_readers, fit, image_readers, sibling
from smp_feedback.surgery.extension import Extension, evaluating, extend
from smp_feedback.surgery.probe import sizes
from smp_feedback.surgery.step_batchnorm import add_statistics
from smp_feedback.surgery.step_context import StepContext, current_step, in_step, is_recomputing, recomputing


class PadsFirst(nn.Module):
    """Hands its convolutions the image, the padded image, and something else."""

    def __init__(self):
        super().__init__()
        self.direct, self.padded, self.later = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1)
        self.other = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        y = self.direct(x) + self.padded(F.pad(x, (0, 2, 0, 2)))
        return self.other(self.later(y))


def test_the_convolutions_that_are_handed_the_image_answer_for_themselves():
    found, answer = image_readers(model := PadsFirst(), image := torch.rand(1, 3, 8, 8))
    assert set(found) == {"direct", "padded"}
    assert torch.equal(answer, model(image))


def test_a_widened_convolution_is_the_one_over_image_and_feedback():
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    readers = add_readers([conv], 2, reads_image=True)
    nn.init.normal_(readers[0].weight)
    wide = nn.Conv2d(5, 5, 3, stride=2, padding=1)
    wide.weight.data = torch.cat([conv.weight, readers[0].weight], 1).detach()
    wide.bias.data = conv.bias.detach()
    x, u = torch.randn(2, 3, 9, 9), torch.randn(2, 2, 9, 9)
    with in_step(StepContext(u, readers)):
        ours = conv(x)
    torch.testing.assert_close(ours, wide(torch.cat([x, u], 1)))


def test_outside_a_loop_a_widened_convolution_is_itself():
    conv = nn.Conv2d(3, 5, 3)
    x, before = torch.randn(1, 3, 8, 8), copy.deepcopy(conv)
    nn.init.normal_(add_readers([conv], 2, reads_image=True)[0].weight)
    assert torch.equal(conv(x), before(x))
    assert conv.state_dict().keys() == before.state_dict().keys()
    assert isinstance(conv, nn.Conv2d)


def test_a_padded_image_gets_its_feedback_padded_likewise():
    u = torch.ones(1, 2, 4, 4)
    padded = fit(u, torch.empty(1, 3, 6, 5), pad=True)
    assert padded.shape[-2:] == (6, 5)
    assert padded.sum() == u.sum()
    assert torch.equal(padded[..., :4, :4], u)
    assert torch.equal(fit(u, torch.empty(1, 3, 2, 2), pad=False), torch.ones(1, 2, 2, 2))


def test_the_sibling_of_a_standardised_convolution_is_not_standardised():
    conv = ScaledStdConv2dSame(3, 4, 3, stride=2)
    twin = sibling(conv, 2)
    with torch.no_grad():
        twin.weight.fill_(1e-3)
        answer = twin(torch.ones(1, 2, 8, 8))
    assert answer.shape == conv(torch.ones(1, 3, 8, 8)).shape
    assert answer.abs().max() < 0.1, "a small weight must give a small answer"


def test_the_sibling_of_a_grouped_convolution_reads_every_feedback_channel():
    twin = sibling(nn.Conv2d(3, 6, 3, groups=3, padding=1), 2)
    assert twin.weight.shape == (6, 2, 3, 3)
    assert twin(torch.rand(1, 2, 5, 5)).shape == (1, 6, 5, 5)


def look_of_step(t, statistics):
    return StepContext(torch.empty(0), [], [rows.row(t) for rows in statistics])


def test_the_first_look_uses_the_base_models_statistics_and_each_later_one_its_own():
    norm = nn.BatchNorm2d(2, momentum=1.0)
    statistics = add_statistics({"norm": norm}, rows=2)
    batches = [torch.randn(4, 2, 3, 3) + t for t in range(4)]
    for t, batch in enumerate(batches):
        with in_step(look_of_step(t, statistics)):
            norm(batch)
    means = [b.mean((0, 2, 3)) for b in batches]
    torch.testing.assert_close(norm.running_mean, means[0])
    torch.testing.assert_close(statistics[0].running_mean[0], means[1])
    torch.testing.assert_close(statistics[0].running_mean[1], means[3], msg="later steps share the last row")
    assert norm.num_batches_tracked == 1
    assert statistics[0].num_batches_tracked.tolist() == [1, 2]
    norm.eval()
    with in_step(look_of_step(1, statistics)):
        torch.testing.assert_close(
            norm(batches[1]), F.batch_norm(batches[1], statistics[0].running_mean[0], statistics[0].running_var[0])
        )


def test_outside_a_look_a_replayed_norm_leaves_its_statistics_alone():
    norm = nn.BatchNorm2d(2)
    statistics = add_statistics({"norm": norm}, rows=1)
    before = copy.deepcopy((norm.state_dict(), statistics.state_dict()))
    with recomputing():
        norm(torch.randn(4, 2, 3, 3) + 5)
    for old, new in zip(before, (norm.state_dict(), statistics.state_dict()), strict=True):
        assert all(torch.equal(old[k], new[k]) for k in old)


def test_surroundings_are_restored_when_something_raises():
    look = StepContext(torch.empty(0), [])
    with pytest.raises(ZeroDivisionError), in_step(look), recomputing():
        raise ZeroDivisionError
    assert current_step() is None
    assert not is_recomputing()


class Doubled(Extension):
    def forward(self, x):
        return 2 * super().forward(x)


def test_an_extended_module_survives_copies_and_pickles():
    conv = extend(nn.Conv2d(3, 4, 1), Doubled)
    buffer, x = io.BytesIO(), torch.randn(1, 3, 2, 2)
    torch.save(conv, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(conv), torch.load(buffer, weights_only=False)):
        assert torch.equal(twin(x), conv(x))
        assert twin.weight is not conv.weight
        assert type(twin) is type(conv)


@pytest.mark.skipif(not hasattr(smp.Unet, "freeze_encoder"), reason="this smp cannot freeze encoders")
def test_a_dry_run_restores_every_modules_own_mode_even_if_it_fails():
    model = smp.Unet("resnet18", encoder_weights=None)
    model.freeze_encoder()
    modes = [m.training for m in model.modules()]
    with evaluating(model):
        assert not any(m.training for m in model.modules())
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert [m.training for m in model.modules()] == modes


def test_sizes_to_try_are_multiples_of_the_encoders_stride_and_begin_with_what_it_was_built_for():
    model = smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None)
    assert sizes(model)[0] == 224
    assert sizes(smp.Unet("resnet18", encoder_weights=None))[0] == 64
    assert all(size % 16 == 0 for size in sizes(model))


def test_a_space_to_depth_stem_is_named_by_hand():
    plain = smp.Unet("tu-tresnet_m", encoder_weights=None).eval()
    with pytest.raises(smpf.FeedbackError, match="stem="):
        smpf.wrap(plain)
    stem = next(n for n, m in plain.named_modules() if isinstance(m, nn.Conv2d))
    model = smpf.wrap(plain, smpf.Recurrent(dynamics="decay", stem=stem, feedback_init=0.1))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.encoder(image)[-1], plain.encoder(image)[-1])
        first, second, *_ = model.iterate(image)
    assert not torch.allclose(first.state, second.state)


def test_two_convolutions_that_read_the_image_both_read_the_feedback():
    model = smpf.create("Unet", "mobileone_s1", None, feedback=smpf.Recurrent(steps=2))
    assert len(model.feedback.readers) == 2


def test_creating_draws_the_same_weights_as_smp_does():
    torch.manual_seed(5)
    plain = smp.create_model("FPN", "resnet18", encoder_weights=None)
    torch.manual_seed(5)
    model = smpf.create("FPN", "resnet18", encoder_weights=None)
    ours = model.feedforward_state_dict()
    assert all(torch.equal(v, ours[k]) for k, v in plain.state_dict().items())


def test_the_address_that_pickles_of_whole_models_name_is_there():
    assert pickle.loads(b"csmp_feedback.surgery\n_blank\n.") is extension._blank
    model = pickle.loads(pickle.dumps(extend(nn.ReLU(), Extension)))
    assert type(model) is type(extend(nn.ReLU(), Extension))
