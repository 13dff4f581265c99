"""The autoencoders of the score loop: our own derivation, what each option means, and any size."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import reference as ref
import reference_autoencoders as ours
import torch
from conftest import GOLDEN
from torch import nn
from torch.nn import functional as F

from smp_feedback.config.score import Score
from smp_feedback.errors import InvalidInput, InvalidValue
from smp_feedback.loops.score.autoencoders import Feature, build_autoencoder
from smp_feedback.loops.score.autoencoders.conditioned import ConditionedConv2d
from smp_feedback.loops.score.autoencoders.features import lay_onto, resized
from smp_feedback.loops.score.autoencoders.noise import gaussian, swap
from smp_feedback.loops.score.autoencoders.unpooling import Transposed, put_back, repeat

K = 3
HALF, QUARTER, IMAGE = Feature("half", 2, 2.0), Feature("quarter", 3, 4.0), Feature("input", 3, 1.0)
OPTIONS = {
    "default": {},
    "no skip": {"skip": False},
    "two convolutions": {"convolutions": 2},
    "transposed": {"unpooling": "transposed"},
    "nearest": {"unpooling": "nearest"},
    "batch norm": {"batch_norm": True, "convolutions": 2},
    "padded": {"padding": 4},
    "padded, transposed": {"padding": 4, "unpooling": "transposed"},
    "padded, nearest": {"padding": 4, "unpooling": "nearest"},
}


def config(**options):
    return Score(**{"filters": 2, "additional_pools": 1, **options})


def build(features, classes=K, seed=0, **options):
    """An autoencoder in float64 and evaluation whose every number is drawn, and its numbers for NumPy."""
    torch.manual_seed(seed)
    module = build_autoencoder(config(**options), classes, features).double().eval()
    with torch.no_grad():
        for name, values in module.state_dict().items():
            if name.endswith(("bias", "mean")):
                values.copy_(0.3 * torch.randn_like(values))
            elif values.ndim == 1:  # BatchNorm's scale and variance
                values.copy_(0.5 + torch.rand_like(values))
    return module, {name: values.numpy() for name, values in module.state_dict().items()}


def draw(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def prediction(batch=2, size=(7, 6), classes=K, seed=2):
    return draw(batch, classes, *size, seed=seed).softmax(1)


def grid_of(feature, size, padding=1):
    """Where the base halves, rounding up; one that pads as the autoencoder does, rounding down."""
    if padding > 1 and feature.level:
        return tuple((n + 2 * padding - 2) // 2**feature.level for n in size)
    return tuple(math.ceil(n / feature.stride) for n in size)


def maps(features, size=(7, 6), batch=2, padding=1):
    return [draw(batch, f.channels, *grid_of(f, size, padding), seed=i) for i, f in enumerate(features)]


def by_level(features, given):
    levels = {f.level: [] for f in features}
    for f, h in zip(features, given, strict=True):
        levels[f.level].append(h.numpy())
    return levels


def answer(module, y, given):
    return module(y, module.condition(given, tuple(y.shape[-2:])))


def assert_is_our_derivation(features, size=(7, 6), **options):
    module, weights = build(features, **options)
    padding = options.get("padding", 1)
    y, given = prediction(size=size), maps(features, size, padding=padding)
    keys = {key: options[key] for key in ("unpooling", "skip", "padding") if key in options}
    theirs = ours.standard(weights, y.numpy(), by_level(features, given), **keys)
    mine = answer(module, y, given)
    assert mine.dtype == torch.float64
    torch.testing.assert_close(mine, torch.from_numpy(np.ascontiguousarray(theirs)), rtol=1e-9, atol=1e-11)


# --- the standard autoencoder


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("size", [(7, 6), (8, 16), (2, 3)])
def test_it_is_our_own_derivation(options, size):
    assert_is_our_derivation([QUARTER], size, **options)


@pytest.mark.parametrize("options", [{}, {"padding": 4}, {"unpooling": "transposed", "convolutions": 2}])
@pytest.mark.parametrize(
    "features",
    [[HALF, QUARTER], [QUARTER, HALF], [IMAGE], [HALF, IMAGE], [HALF, HALF._replace(name="other", channels=4)]],
    ids=lambda features: "+".join(f.name for f in features),
)
def test_features_of_any_levels_are_read_where_they_belong(features, options):
    assert_is_our_derivation(features, **options)


def test_it_is_our_own_derivation_padded_as_published():
    assert_is_our_derivation([HALF], padding=100)


@pytest.mark.parametrize("additional", [1, 2, 3])
def test_additional_pools_lie_beyond_the_deepest_feature(additional):
    assert_is_our_derivation([IMAGE, HALF], additional_pools=additional)
    module, _ = build([IMAGE, HALF], additional_pools=additional)
    assert len(module.down) == len(module.up) == 1 + additional


def test_a_single_pixel_is_an_image():
    assert_is_our_derivation([HALF, IMAGE], (1, 1))


def test_a_patch_embeddings_features_are_resized():
    """28 x 42 in patches of 14 is 2 x 3; a quarter of it 7 x 11 (level 2 here, to stay small)."""
    assert_is_our_derivation([QUARTER._replace(stride=14 / 4)], size=(28, 42))


def test_the_published_widths_are_the_papers_table():
    with torch.device("meta"):
        module = build_autoencoder(Score(), 11, [Feature("pool4", 512, 16.0)])
    down = [(b.conv.in_channels, b.conv.out_channels) for b in module.down]
    assert down == [(11, 64), (64, 128), (128, 256), (256, 512), (512 + 512, 1024), (1024, 2048)]
    up = [(c.in_channels, c.out_channels) for c in module.up]
    assert up == [(2048, 1024), (1024, 512), (512, 256), (256, 128), (128, 64), (64, 11)]
    assert {tuple(p.shape[2:]) for p in module.parameters() if p.ndim == 4} == {(3, 3)}


@pytest.mark.parametrize(("convolutions", "batch_norm"), [(1, False), (3, True)])
def test_every_block_has_the_convolutions_and_the_normalisation_asked_for(convolutions, batch_norm):
    module, _ = build([QUARTER], convolutions=convolutions, batch_norm=batch_norm)
    for p, block in enumerate(module.down):
        kinds = [type(part) for part in block.modules()]
        assert kinds.count(nn.ReLU) == convolutions
        assert kinds.count(nn.Conv2d) == convolutions - 1
        assert sum(issubclass(kind, nn.BatchNorm2d) for kind in kinds) == batch_norm
        assert {m.out_channels for m in block.modules() if isinstance(m, nn.Conv2d)} == {2 * 2**p}


@pytest.mark.parametrize("unpooling", ["tracked", "transposed"])
def test_it_begins_as_lasagne_begins(unpooling):
    """U(-a, a) with a^2 = 6 / (fan in + fan out), and no bias; a fan in of both parts of a concatenation."""
    module = build_autoencoder(Score(filters=32, unpooling=unpooling, additional_pools=1), 11, [Feature("h", 40, 2.0)])
    for conv in (*(b.conv for b in module.down), *module.up):
        taps = conv.weight[0, 0].numel()
        bound = math.sqrt(6 / (taps * (conv.weight.shape[0] + conv.weight.shape[1])))
        assert conv.weight.abs().max() <= bound
        assert conv.weight.abs().max() > 0.99 * bound
        assert conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not conv.bias.any()


def test_a_skip_adds_what_was_pooled():
    """With the way up silenced but for its first convolutions' bias, only the skips are left to be seen."""
    module, _ = build([QUARTER])
    bare = copy.deepcopy(module)
    bare.skip = False
    y, given = prediction(), maps([QUARTER])
    with torch.no_grad():
        for part in (module, bare):
            for conv in part.up[:-1]:
                conv.weight.zero_()
    y = lay_onto(y, (8, 8))
    read = module.down[0](y, None)
    pooled = F.max_pool2d(read, 2)
    bias = module.up[-2].bias[:, None, None]
    with_skip = module.up[-1](pooled + bias, read, pooled)
    without = module.up[-1](torch.zeros_like(pooled) + bias, read, pooled)
    y = prediction()
    torch.testing.assert_close(answer(module, y, given), with_skip[:, :, :7, :6])
    torch.testing.assert_close(answer(bare, y, given), without[:, :, :7, :6])


# --- the context module


def test_the_context_module_is_our_own_derivation():
    module, weights = build([IMAGE], autoencoder="context", classes=2)
    with torch.no_grad():
        for conv in (*module.dilated, module.last):
            conv.weight += 0.2 * torch.randn_like(conv.weight)
            conv.bias.abs_()  # what is padded becomes positive, and is seen
    y, image = prediction(classes=2), draw(2, 3, 7, 6)
    theirs = ours.context(weights, y.numpy(), image.numpy())
    torch.testing.assert_close(answer(module, y, [image]), torch.from_numpy(theirs), rtol=1e-9, atol=1e-11)


def test_a_fresh_context_module_answers_with_its_first_convolution():
    module = build_autoencoder(Score(autoencoder="context"), K, [IMAGE]).eval()
    y, image = prediction().float(), draw(2, 3, 7, 6).float()
    first = F.conv2d(torch.cat([image, y], 1), module.first.weight, padding=1).relu()
    torch.testing.assert_close(answer(module, y, [image]), first)
    assert first.any()


def test_the_context_module_sees_33_pixels_to_each_side():
    module = build_autoencoder(Score(autoencoder="context"), 2, [IMAGE]).double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(0.1)
    y = prediction(1, (75, 75), 2).requires_grad_()
    answer(module, y, [torch.zeros(1, 3, 75, 75, dtype=torch.float64)])[0, 0, 37, 37].backward()
    rows, columns = (y.grad[0].sum(0).sum(axis).nonzero().flatten().tolist() for axis in (0, 1))
    assert rows == columns == list(range(37 - 33, 37 + 33 + 1))


def test_the_context_module_refuses_features_of_lower_resolution():
    with pytest.raises(InvalidValue, match=r"'stage:4' has one pixel for 16: choose features=\('input',\)"):
        build_autoencoder(Score(autoencoder="context"), K, [IMAGE, Feature("stage:4", 8, 16.0)])


# --- a convolution in two calls


def test_a_concatenation_is_convolved_in_two_calls_with_the_same_gradients():
    conv = ConditionedConv2d(2, 3, 4, padding=2).double()
    h, x, g = draw(2, 2, 5, 4).requires_grad_(), draw(2, 3, 5, 4, seed=2).requires_grad_(), draw(2, 4, 7, 6, seed=3)
    leaves = [h, x, conv.weight, conv.bias]
    once = torch.autograd.grad((conv(x, conv.condition(h)) * g).sum(), leaves)
    whole = F.conv2d(torch.cat([h, x], 1), conv.weight, conv.bias, padding=2)
    torch.testing.assert_close(conv(x, conv.condition(h)), whole)
    for mine, theirs in zip(once, torch.autograd.grad((whole * g).sum(), leaves), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("kind", ["standard", "context"])
def test_what_the_features_give_serves_many_predictions(kind):
    features = [IMAGE] if kind == "context" else [HALF, IMAGE]
    module, _ = build(features, autoencoder=kind)
    conditions = module.condition(maps(features), (7, 6))
    kept = [c.clone() for c in conditions]
    for seed in range(2):
        y = prediction(seed=seed)
        assert torch.equal(module(y, conditions), answer(module, y, maps(features)))
    assert all(torch.equal(c, k) for c, k in zip(conditions, kept, strict=True))
    assert len(conditions) == len({f.level for f in features})
    assert all(len(c) == 2 for c in conditions)


def test_all_parameters_learn_and_all_inputs_have_a_gradient():
    module, _ = build([HALF, IMAGE], batch_norm=True, convolutions=2)
    y, given = prediction().requires_grad_(), [h.requires_grad_() for h in maps([HALF, IMAGE])]
    answer(module, y, given).square().sum().backward()
    assert all(x.grad is not None and x.grad.any() for x in (y, *given, *module.parameters()))


def test_images_of_a_batch_do_not_meet():
    module, _ = build([HALF, QUARTER])
    y, given = prediction(3), maps([HALF, QUARTER], batch=3)
    alone = torch.cat([answer(module, y[i : i + 1], [h[i : i + 1] for h in given]) for i in range(3)])
    torch.testing.assert_close(answer(module, y, given), alone)


def test_what_is_given_is_left_as_it_was():
    module, _ = build([HALF, IMAGE], convolutions=2)
    y, given = prediction(), maps([HALF, IMAGE])
    before = [x.clone() for x in (y, *given)]
    answer(module.train(), y, given)
    assert all(torch.equal(a, b) for a, b in zip((y, *given), before, strict=True))


# --- onto its grids


@pytest.mark.parametrize(("stride", "level"), [(1, 0), (0.5, 0), (1.4, 0), (1.5, 1), (2, 1), (14, 4), (16, 4), (32, 5)])
def test_a_features_level_is_the_nearest_power_of_two(stride, level):
    assert Feature("h", 1, stride).level == level


def test_what_is_laid_onto_a_grid_keeps_its_place():
    x = draw(1, 2, 3, 4)
    wider = lay_onto(x, (5, 6))
    assert torch.equal(wider[..., :3, :4], x)
    assert torch.equal(wider[..., 3:, :4], x[..., 2:, :].expand(-1, -1, 2, -1))
    assert torch.equal(wider[..., 4:], wider[..., 3:4].expand(-1, -1, -1, 2))
    assert torch.equal(lay_onto(x, (2, 5))[..., :4], x[..., :2, :])


def test_features_rounded_down_or_up_stay_and_others_are_resized():
    for n in (2, 3):
        h = draw(1, 1, n, n)
        assert resized(h, (40, 40), 4) is h
    h = draw(1, 1, 5, 2)
    theirs = ref.resize_bilinear(h.numpy(), (3, 3))
    torch.testing.assert_close(resized(h, (40, 40), 4), torch.from_numpy(theirs))


@pytest.mark.parametrize("by", [-1, 0, 1])
def test_a_padded_bases_features_may_be_off_by_one(by):
    """Laid on from the top left: what is beyond is cropped, what is missing repeated."""
    module, _ = build([HALF], padding=4)
    y, (h,) = prediction(), maps([HALF], padding=4)
    given = lay_onto(h, (h.shape[2] + by, h.shape[3] + by))
    expected = lay_onto(given, (h.shape[2], h.shape[3]))
    assert torch.equal(answer(module, y, [given]), answer(module, y, [expected]))


def test_a_padded_autoencoder_refuses_features_of_another_grid():
    module, _ = build([HALF], padding=100)
    with pytest.raises(InvalidInput, match=r"'half' has a grid of \(4, 3\); with padding=100 expected \(102, 102\)"):
        module.condition(maps([HALF]), (7, 6))


def test_a_grid_of_which_the_poolings_leave_nothing_is_refused():
    module, _ = build([HALF], padding=2, additional_pools=3)
    with pytest.raises(InvalidInput, match=r"7 x 20: with padding=2, nothing is left after 4 .* at least 14 x 14"):
        module.condition([draw(1, 2, 4, 11)], (7, 20))
    assert answer(module, prediction(1, (14, 14)), [draw(1, 2, 8, 8)]).shape[-2:] == (14, 14)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([(2, 2, 4, 3)], r"got 1; expected 2: half \(B, 2, h, w\), quarter \(B, 3, h, w\)"),
        ([(2, 3, 4, 3), (2, 2, 2, 2)], r"'half' has the shape \(2, 3, 4, 3\); expected half \(B, 2"),
        ([(2, 2, 4, 3), (2, 3, 2)], r"'quarter' has the shape \(2, 3, 2\)"),
        ([(2, 2, 4, 3), (1, 3, 2, 2)], "'quarter' is of 1 images, 'half' of 2"),
    ],
)
def test_features_that_are_not_the_announced_are_named(given, words):
    module, _ = build([HALF, QUARTER])
    with pytest.raises(InvalidInput, match=words):
        module.condition([torch.zeros(shape) for shape in given], (7, 6))


@pytest.mark.parametrize("shape", [(1, K + 1, 7, 6), (K, 7, 6)])
@pytest.mark.parametrize("kind", ["standard", "context"])
def test_a_prediction_of_other_classes_is_refused(shape, kind):
    module, _ = build([IMAGE], autoencoder=kind)
    conditions = module.condition(maps([IMAGE], batch=1), (7, 6))
    with pytest.raises(InvalidInput, match=r"expected \(B, 3, H, W\)"):
        module(torch.zeros(shape), conditions)


# --- unpooling


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden arrays are not part of the project")
def test_values_are_put_back_as_published():
    with np.load(GOLDEN / "i_trackind_unpool.npz") as file:
        a = {key: torch.from_numpy(file[key]) for key in file.files}
    pooled = F.max_pool2d(a["pre_pool"], 2)
    assert torch.equal(pooled, a["pooled"])
    assert torch.equal(put_back(a["u"], a["pre_pool"], pooled), a["out"])
    ties = ours.unpool(a["u"].double().numpy(), a["pre_pool"].double().numpy(), tracked=True)
    assert np.array_equal(ties, a["out"].double().numpy())


def test_all_that_share_a_maximum_get_the_value():
    read = torch.tensor([[[[0.0, 0.0, 1.0, 2.0, 9.0], [0.0, 0.0, 2.0, 0.0, 9.0], [9.0, 9.0, 9.0, 9.0, 9.0]]]])
    out = put_back(torch.tensor([[[[5.0, 7.0]]]]), read, F.max_pool2d(read, 2))
    assert out.tolist() == [[[[5, 5, 0, 7, 0], [5, 5, 7, 0, 0], [0, 0, 0, 0, 0]]]]


@pytest.mark.parametrize("size", [(4, 4), (5, 5), (4, 5)])
def test_gradients_of_unpooling_are_those_of_finite_differences(size):
    read, u = draw(1, 2, *size).relu(), draw(1, 2, 2, 2, seed=2).requires_grad_()
    pooled, conv = F.max_pool2d(read, 2), Transposed(2, 3).double()
    assert torch.autograd.gradcheck(lambda u: put_back(u, read, pooled), u)
    assert torch.autograd.gradcheck(lambda u: repeat(u, size), u)
    assert torch.autograd.gradcheck(lambda u: conv(u, read, pooled), u)


def test_the_mask_has_no_gradient():
    read = draw(1, 2, 4, 4).requires_grad_()
    out = put_back(draw(1, 2, 2, 2, seed=2).requires_grad_(), read, F.max_pool2d(read, 2))
    assert torch.autograd.grad(out.sum(), read, allow_unused=True) == (None,)


# --- noise


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    y = torch.full((4, 3, 100, 100), 0.25)
    noise = gaussian(y, 0.5) - y
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert noise.std().item() == pytest.approx(0.5, rel=0.01)
    assert (y + noise).min() < -1
    assert noise[:, 0].sub(noise[:, 1]).std().item() == pytest.approx(0.5 * math.sqrt(2), rel=0.02)  # independent


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_swap_draws_every_class_alike(level):
    y = torch.full((4, 4, 100, 100), 0.25).requires_grad_()
    swapped = swap(y, level)
    drawn = swapped.amax(1) == 1
    assert torch.equal(swapped.sum(1), torch.ones(4, 100, 100))
    assert drawn.float().mean().item() == pytest.approx(level, abs=0.01)
    assert torch.equal(swapped.where(~drawn[:, None], 0.25), torch.full_like(y, 0.25))
    if level:
        shares = swapped.argmax(1)[drawn].bincount(minlength=4) / drawn.sum()
        assert (shares - 0.25).abs().max() < 0.02
    swapped.sum().backward()
    assert torch.equal(y.grad, (~drawn[:, None]).float().expand_as(y))


@pytest.mark.parametrize("kind", ["standard", "context"])
def test_noise_is_added_in_training_alone(kind):
    module, _ = build([IMAGE], autoencoder=kind, noise_level=0.7)
    y, given = prediction(), maps([IMAGE])
    torch.manual_seed(5)
    noisy = answer(module.train(), y, given)
    torch.manual_seed(5)
    noise = torch.randn_like(y)
    module.eval()
    torch.testing.assert_close(noisy, answer(module, y + 0.7 * noise, given))
    assert not torch.allclose(noisy, answer(module, y, given))


def test_a_swap_of_every_pixel_hides_the_prediction():
    module, _ = build([HALF], noise="swap", noise_level=1.0)
    module.train()
    answers = []
    for seed in (1, 2):
        torch.manual_seed(0)
        answers.append(answer(module, prediction(seed=seed), maps([HALF])))
    assert torch.equal(*answers)


def test_without_noise_training_answers_as_evaluation_does():
    module, _ = build([HALF], noise="none")
    y, given = prediction(), maps([HALF])
    assert torch.equal(answer(module.train(), y, given), answer(module.eval(), y, given))


def test_dropout_is_of_single_values_in_training_alone():
    module, _ = build([HALF], dropout=0.25, noise="none")
    plain, _ = build([HALF], noise="none")
    y, given = prediction(2, (32, 32)), maps([HALF], (32, 32))
    assert torch.equal(answer(module, y, given), answer(plain, y, given))
    whole, dropped = plain.down[0](y, None), module.train().down[0](y, None)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    assert kept[whole > 0].double().mean().item() == pytest.approx(0.75, abs=0.03)
    for channel in range(whole.shape[1]):  # within a channel some fall and some stay
        of_channel = kept[:, channel][whole[:, channel] > 0]
        assert of_channel.any()
        assert not of_channel.all()


# --- compiled, exported, in other precisions


KINDS = {
    "standard": ([HALF, IMAGE], {}),
    "transposed": ([HALF], {"unpooling": "transposed", "batch_norm": True, "noise": "swap"}),
    "padded": ([HALF], {"padding": 4, "unpooling": "nearest"}),
    "context": ([IMAGE], {"autoencoder": "context"}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


class Both(nn.Module):
    """The two calls, with y and features made of an image, as a model makes them."""

    def __init__(self, kind):
        super().__init__()
        self.features, options = KINDS[kind]
        self.padding = options.get("padding", 1)
        self.autoencoder = build(self.features, **options)[0].float()

    def forward(self, image):
        size = (image.shape[-2], image.shape[-1])
        wide = F.pad(image, (self.padding - 1,) * 4)
        made = {"input": image, "half": F.avg_pool2d(wide, 2, ceil_mode=self.padding == 1)[:, :2]}
        return self.autoencoder(
            image.softmax(1), self.autoencoder.condition([made[f.name] for f in self.features], size)
        )


@every_kind
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.sweep
def test_it_compiles_as_one_graph(kind, training):
    module, image = Both(kind).train(training), torch.rand(2, 3, 9, 10)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    mine = compiled(image)
    torch.manual_seed(0)
    torch.testing.assert_close(mine, module(image))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "padded"])
@pytest.mark.sweep
def test_it_exports_with_open_batch_and_size(kind):
    module = Both(kind).eval()
    b, h, w = torch.export.Dim("b"), torch.export.Dim("h", min=3, max=64), torch.export.Dim("w", min=3, max=64)
    shape = {0: b, 2: 8 * h, 3: 8 * w}
    program = torch.export.export(module, (torch.rand(2, 3, 24, 32),), dynamic_shapes=(shape,), strict=False)
    for size in ((1, 3, 24, 40), (3, 3, 48, 24)):
        image = torch.rand(size)
        torch.testing.assert_close(program.module()(image), module(image))


def test_a_padded_one_exports_at_its_size():
    module, image = Both("padded").eval(), torch.rand(1, 3, 9, 10)
    torch.testing.assert_close(torch.export.export(module, (image,)).module()(image), module(image))


@every_kind
def test_no_value_decides_what_is_computed(kind):
    """On the meta device there are none: whoever asked for one would fail, as it would wait on an accelerator."""
    module = Both(kind).train().to("meta")
    assert module(torch.rand(1, 3, 9, 10, device="meta")).shape == (1, 3, 9, 10)


@every_kind
def test_half_precision_is_near(kind):
    module, image = Both(kind).eval(), torch.rand(2, 3, 9, 10)
    exact = module(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = module(image)
    assert (near - exact).abs().max() < 0.05 * exact.abs().max()
    assert (module.bfloat16()(image) - exact).abs().max() < 0.05 * exact.abs().max()
