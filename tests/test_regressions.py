"""What a hostile reader once broke."""

from __future__ import annotations

import copy
import json
import math

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

import smp_feedback as smpf
from smp_feedback.errors import InvalidValue, SurgeryError
from smp_feedback.saving.weights import reset_statistics

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


TINY = {"encoder_name": "tu-test_resnet.r160_in1k", "encoder_weights": None, "decoder_channels": (16, 16, 16, 16, 16)}


def unet(**kwargs):
    return smp.Unet(classes=3, **(TINY | kwargs))


class Base(nn.Module):
    """A third party's model."""

    def __init__(self, norm_in_head=False, twice=False):
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 3, padding=1), twice
        self.head = nn.Sequential(nn.BatchNorm2d(8) if norm_in_head else nn.Identity(), nn.Conv2d(8, 3, 1))

    def forward_features(self, x):
        y = self.stem(x)
        return (y + 2 * self.stem(x.flip(-1)).flip(-1) if self.twice else y).relu()

    def forward_head(self, features):
        return self.head(features)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


@torch.no_grad()
def test_a_random_first_state_does_not_replace_the_output_that_residual_starts_from():
    plain = unet().eval()
    model = smpf.wrap(plain, smpf.Recurrent(dynamics="residual", init_std=0.1))
    torch.testing.assert_close(model(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-5)


def test_residual_with_automatic_steps_learns():
    model = smpf.wrap(unet(), smpf.Recurrent(dynamics="residual", steps="auto")).train()
    model(IMAGE).square().mean().backward()
    assert model.feedback.steps() > 1
    assert model.feedback.dynamics.gamma.grad.abs().max() > 0


@torch.no_grad()
def test_a_convolution_that_runs_twice_a_look_is_not_remembered():
    plain = Base(twice=True).eval()
    model = smpf.wrap(plain)
    torch.testing.assert_close(model(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-5)
    assert not model.feedback.entry.heard
    assert smpf.wrap(Base()).feedback.entry.heard


def test_a_norm_in_the_head_is_counted_once_a_call_also_when_steps_are_recomputed():
    counts = []
    for recompute in (False, True):
        config = smpf.Recurrent(steps=3, projection="probabilities", recompute=recompute)
        model = smpf.wrap(Base(norm_in_head=True), config).train()
        model(IMAGE).sum().backward()
        counts.append(int(model.head[0].num_batches_tracked))
    assert counts[0] == counts[1]


def test_averaged_models_renew_the_statistics_of_every_step():
    model = smpf.wrap(unet(), smpf.Recurrent(steps=3)).train()
    for _ in range(3):
        model(5 * IMAGE + 3)
    averaged = AveragedModel(model)
    update_bn([IMAGE, IMAGE], averaged)
    inner = averaged.module
    assert inner.encoder.model.conv1[1].num_batches_tracked == 2
    assert inner.feedback.statistics[0].num_batches_tracked.tolist() == [2, 2]
    assert inner.encoder.model.conv1[1].rows[0] is inner.feedback.statistics[0], "a copy must keep the two together"
    assert model.feedback.statistics[0].num_batches_tracked.tolist() == [3, 3]


def test_synchronised_norms_of_one_part_keep_their_steps_statistics():
    model = smpf.wrap(unet(), smpf.Recurrent(steps=3))
    model.decoder = nn.SyncBatchNorm.convert_sync_batchnorm(model.decoder)
    model.eval()(IMAGE)
    norms = [m for m in model.decoder.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms
    assert all(model.feedback.statistics[norm.norm] is norm.rows[0] for norm in norms)


def test_a_decoder_of_another_looping_model_may_take_the_place_of_ones_own():
    model, other = (smpf.wrap(unet(), smpf.Recurrent(steps=2)) for _ in range(2))
    model.decoder = other.decoder
    model.train()(IMAGE)
    norm = next(m for m in model.decoder.modules() if isinstance(m, nn.BatchNorm2d))
    assert model.feedback.statistics[norm.norm].num_batches_tracked == 1
    assert norm.rows[0] is model.feedback.statistics[norm.norm]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_norms_without_statistics_may_take_the_place_of_those_with(part):
    model = smpf.wrap(unet(), smpf.Recurrent(steps=3))
    for parent in list(getattr(model, part).modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(1, norm.num_features))
    model.train()(IMAGE).mean().backward()


@pytest.mark.parametrize(
    "parametrize", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_a_parametrized_convolution_may_read_the_feedback(parametrize):
    plain = unet().eval()
    parametrize(plain.encoder.model.conv1[0])
    model = smpf.wrap(plain)
    assert list(model.feedback.readers[0].state_dict()) == ["weight"]
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(copy.deepcopy(model)(IMAGE), plain(IMAGE), atol=1e-5, rtol=1e-5)


def test_plain_weights_loaded_without_strictness_start_every_steps_statistics():
    plain = unet().train()
    plain(IMAGE + 3)
    model = smpf.create("Unet", classes=3, feedback=smpf.Recurrent(steps=3), **TINY)
    model.load_state_dict(plain.state_dict(), strict=False)
    for row in model.feedback.statistics[0].running_mean:
        assert torch.equal(row, plain.encoder.model.conv1[1].running_mean)
    reset_statistics(model)


@pytest.mark.filterwarnings("ignore:Mismatched keys")
def test_feedback_that_enters_elsewhere_does_not_take_another_norms_statistics(tmp_path):
    model = smpf.create("Unet", "vgg11_bn", None, decoder_channels=(16, 16, 16, 8, 8), feedback=smpf.Recurrent(steps=2))
    for number, rows in enumerate(model.feedback.statistics):
        rows.running_mean.fill_(number)
    model.save_pretrained(tmp_path)
    other = smpf.from_pretrained(tmp_path, strict=False, feedback=smpf.Recurrent(steps=2, insert="stage:2"))
    for rows in other.feedback.statistics:
        assert torch.equal(rows.running_mean[0], rows.norm[0].running_mean), rows.name


@pytest.mark.parametrize("projection", ["probabilities", "entropy"])
def test_a_projection_that_reads_logits_refuses_an_activation(projection):
    with pytest.raises(InvalidValue, match="activation=None"):
        smpf.wrap(unet(activation="softmax2d"), smpf.Recurrent(projection=projection))
    smpf.wrap(unet(activation="softmax2d"))


@torch.no_grad()
def test_the_image_is_called_x_as_in_smp():
    model = smpf.wrap(unet()).eval()
    assert torch.equal(model(x=IMAGE), model(IMAGE))
    assert torch.equal(model.predict(x=IMAGE, steps=2), model(IMAGE, steps=2))


def test_hooks_on_the_base_hear_the_image_only():
    plain, heard = unet().eval(), []
    plain.encoder.model.conv1[0].register_forward_hook(lambda m, args, out: heard.append(args[0].shape[1]))
    model = smpf.wrap(plain)
    with torch.enable_grad():
        model(IMAGE)
    assert set(heard) == {3}


def test_a_base_whose_own_attribute_we_would_hide_is_refused():
    base = Base()
    base.trajectory = object()
    with pytest.raises(SurgeryError, match="'trajectory'"):
        smpf.wrap(base)


def test_a_base_that_reads_a_config_of_its_own_goes_on_reading_it():
    base = Base()
    base.config = {"in_channels": 3, "scale": 2}
    assert smpf.wrap(base).config["scale"] == 2


def test_settings_that_mean_nothing_are_refused_and_large_ones_work():
    with pytest.raises(InvalidValue, match="tau=inf"):
        smpf.Recurrent(dynamics="leaky", tau=math.inf)
    model = smpf.wrap(unet(), smpf.Recurrent(dynamics="fractional", order=200.0)).eval()
    with torch.no_grad():
        assert model(IMAGE).isfinite().all()


def test_the_basis_stays_orthogonal_under_autocast():
    model = smpf.wrap(unet(), smpf.Recurrent(dynamics="decay", learn_rates=True, basis="orthogonal")).eval()
    for parameter in model.feedback.dynamics.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        state = list(model.iterate(IMAGE))[-1].state
        q = model.feedback.dynamics.basis.weight
        with torch.autocast("cpu", torch.bfloat16):
            rule = model.feedback.dynamics.begin(4)
            e = torch.randn_like(state)
            ours = rule(torch.zeros_like(e), e, 3)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(q @ q.mT, torch.eye(len(q)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_half_precision_model_may_begin_at_random():
    config = smpf.Recurrent(dynamics="leaky", tau=2.0, init_std=1e-3)
    model = smpf.wrap(unet(), config).eval().to(torch.bfloat16)
    assert model(IMAGE.bfloat16()).dtype == torch.bfloat16


@pytest.mark.sweep
def test_recomputation_can_be_compiled_for_training():
    shallow = unet(encoder_depth=3, decoder_channels=(16, 8, 8))
    model = smpf.wrap(shallow, smpf.Recurrent(steps=2, recompute=True, feedback_init=0.1)).train()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGE), model(IMAGE), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": "sigmoid"},
        {"aux_params": {"classes": 4, "dropout": 0.1}},
        {"decoder_channels": (64, 32, 16, 8, 8)},
        {"encoder_name": "tu-test_byobnet", "encoder_depth": 4, "decoder_channels": (64, 32, 16, 8)},
        {"decoder_use_norm": {"type": "instancenorm", "affine": True}},
    ],
    ids=["activation", "labels", "tuple", "timm", "norm"],
)
def test_unusual_arguments_survive_a_round_trip(arguments, tmp_path):
    model = smpf.create("Unet", **(TINY | arguments)).eval()
    model.save_pretrained(tmp_path)
    again = smpf.from_pretrained(tmp_path)
    torch.testing.assert_close(again(IMAGE), model(IMAGE))
    assert json.dumps(again.config) == json.dumps(model.config)
