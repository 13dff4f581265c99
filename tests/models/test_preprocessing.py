"""How images are shown to an encoder: as it was pretrained, whoever pretrained it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

import smp_feedback as smpf
from smp_feedback.config.data import DataConfig
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.models import normalisation
from smp_feedback.models.normalisation import as_statistics, encoder_normalisation, given_config
from smp_feedback.models.preprocess import Preprocess, preprocess_of

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
DPN = (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
TINY = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
ENCODER = "tu-test_resnet.r160_in1k"  # of mean and std 0.5

# what smp 0.3 said in its source, before it moved that beside the weights
NOT_IMAGENET = {
    **dict.fromkeys(["dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131"], DPN),
    **dict.fromkeys(["inceptionresnetv2", "inceptionv4", "xception"], HALF),
    **{f"timm-tf_efficientnet_lite{k}": HALF for k in range(5)},
}
EVERY = [(name, weights) for name, told in smp.encoders.encoders.items() for weights in told["pretrained_settings"]]


@pytest.mark.parametrize(("name", "weights"), EVERY, ids=[f"{name}-{weights}" for name, weights in EVERY])
def test_every_encoder_of_smp_has_the_statistics_of_its_weights(name, weights):
    expected = HALF if weights == "advprop" else NOT_IMAGENET.get(name, IMAGENET)
    found = encoder_normalisation(name, weights=weights)
    for got, wanted in zip(found, expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-12)


TIMMS = {"timm-efficientnet-b3": "tf_efficientnet_b3", "dpn68": "dpn68", "xception": "legacy_xception"}
TIMMS |= {"inceptionv4": "inception_v4", "timm-tf_efficientnet_lite0": "tf_efficientnet_lite0"}
TIMMS |= {"resnet18": "resnet18.tv_in1k", "vgg16_bn": "vgg16_bn", "timm-skresnet34": "skresnet34"}


@pytest.mark.parametrize(("name", "timms"), TIMMS.items())
def test_timm_has_the_same_of_the_encoders_that_both_know(name, timms):
    told = timm.models.get_pretrained_cfg(timms)
    assert encoder_normalisation(name) == (tuple(told.mean), tuple(told.std))


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "vit_tiny_patch16_224", "resnet18", "convnext_tiny"])
def test_timms_encoders_are_shown_images_as_timm_does(name):
    told = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
    assert encoder_normalisation(f"tu-{name}") == (tuple(told["mean"]), tuple(told["std"]))


def test_one_that_was_never_pretrained_has_none():
    untrained = next(n for n in timm.list_models() if not timm.models.is_model_pretrained(n))
    assert encoder_normalisation(f"tu-{untrained}") is None


def test_what_was_fetched_with_the_weights_counts(monkeypatch, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"mean": [51, 102, 153], "std": [255, 255, 255], "input_range": [0, 255]}))
    monkeypatch.setattr(normalisation, "try_to_load_from_cache", lambda *_, **__: str(path))
    assert encoder_normalisation("resnet18") == ((0.2, 0.4, 0.6), (1, 1, 1))


def test_another_order_of_channels_is_refused():
    with pytest.raises(InvalidValue, match=r"caffe was pretrained on BGR, .*encoder_weights=None"):
        as_statistics("caffe", {"input_space": "BGR", "mean": [0.5] * 3, "std": [1] * 3})


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 7])
def test_a_band_is_normalised_as_the_channel_whose_weights_smp_gives_it(channels):
    conv = nn.Conv2d(3, 4, 1, bias=False)
    weight = conv.weight.detach().clone()
    smp.encoders._utils.patch_first_conv(nn.Sequential(conv), channels)
    mean, std = encoder_normalisation("resnet18", channels)
    assert len(mean) == len(std) == conv.weight.shape[1] == channels
    if channels == 1:
        torch.testing.assert_close(conv.weight[:, 0], weight.sum(1))
        assert (mean[0], std[0]) == pytest.approx((0.449, 0.226))
        return
    for i in range(channels):
        torch.testing.assert_close(conv.weight[:, i], weight[:, i % 3] * 3 / channels)
        assert (mean[i], std[i]) == (IMAGENET[0][i % 3], IMAGENET[1][i % 3])


# --- who says it


@pytest.fixture
def offline_weights(monkeypatch):
    """smp and timm believe that their weights were loaded."""
    make = timm.create_model
    fake = lambda *args, **kwargs: make(*args, **{**kwargs, "pretrained": False})  # noqa: E731
    monkeypatch.setattr(timm, "create_model", fake)


@pytest.mark.parametrize("feedback", [True, False, "score", "restoration", "repair"])
def test_create_with_pretrained_weights_takes_their_statistics(offline_weights, feedback):
    model = smpf.create("Unet", ENCODER, True, classes=3, feedback=feedback, **TINY)
    assert model.data_config == DataConfig(mean=HALF[0], std=HALF[1])


@pytest.mark.parametrize("feedback", [True, False])
def test_create_with_random_weights_leaves_images_as_they_are(feedback):
    model = smpf.create("Unet", ENCODER, None, in_channels=5, feedback=feedback, **TINY)
    assert given_config(model) == (DataConfig(channels=5), False)


def test_a_classifier_of_timm_is_shown_images_as_timm_shows_them(offline_weights):
    model = smpf.create("timm/test_resnet", encoder_weights="pretrained", classes=3)
    assert (model.data_config.mean, model.data_config.std) == HALF
    assert smpf.create("timm/test_resnet", classes=3).data_config == DataConfig()


def test_torchvisions_own_weights_say_their_own(monkeypatch):
    make = torchvision.models.get_model
    fake = lambda name, **told: make(name, num_classes=told["num_classes"], weights_backbone=None)  # noqa: E731
    monkeypatch.setattr(torchvision.models, "get_model", fake)
    model = smpf.create("torchvision/lraspp_mobilenet_v3_large", encoder_weights="imagenet", feedback=False, classes=2)
    assert (model.data_config.mean, model.data_config.std) == IMAGENET
    weights = "COCO_WITH_VOC_LABELS_V1"
    model = smpf.create("torchvision/lraspp_mobilenet_v3_large", encoder_weights=weights, feedback=False, classes=21)
    assert (model.data_config.mean, model.data_config.std) == IMAGENET


def test_one_of_smps_that_nobody_made_here_is_taken_as_smp_shows_it():
    plain = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(8, 8, 8), in_channels=4)
    expected = DataConfig(mean=(*IMAGENET[0], 0.485), std=(*IMAGENET[1], 0.229), channels=4)
    assert given_config(plain) == (expected, True)
    wrapped = smpf.wrap(plain)
    assert given_config(wrapped) == (expected, True)
    assert wrapped.data_config == expected
    plain.data_config = DataConfig(channels=4)
    assert given_config(smpf.wrap(plain)) == (DataConfig(channels=4), False)


def test_one_that_may_normalise_by_itself_is_left_alone():
    class Own(smp.Unet):
        pass

    told = {"encoder_weights": None, **TINY}
    hooked = smp.Unet(ENCODER, **told)
    hooked.register_forward_pre_hook(lambda *_: None)
    for model in (Own(ENCODER, **told), hooked, nn.Conv2d(3, 2, 1)):
        assert given_config(model) == (DataConfig(), False)


def test_a_data_config_can_be_set_and_nothing_else():
    model = smpf.create("Unet", ENCODER, None, **TINY)
    model.data_config = DataConfig(mean=HALF[0], std=HALF[1])
    assert smpf.wrap(model, "score").data_config.mean == HALF[0]
    with pytest.raises(InvalidType, match=r"expected a smp_feedback\.DataConfig"):
        model.data_config = {"mean": (0.5,)}


def test_a_data_config_is_of_the_channels_and_the_classes_of_its_model():
    model = smpf.create("Unet", ENCODER, None, classes=3, in_channels=4, **TINY)
    model.data_config = DataConfig(classes=("a", "b", "c"))
    assert (model.data_config.channels, model.data_config.classes) == (4, ("a", "b", "c"))
    before = model.data_config
    for wrong, words in (
        (DataConfig(mean=HALF[0], std=HALF[1]), "channels=3: expected 4"),
        (DataConfig(classes=("a", "b")), "2 names; expected 3"),
    ):
        with pytest.raises(InvalidValue, match=words):
            model.data_config = wrong
    assert model.data_config == before
    one = smpf.create("Unet", ENCODER, None, classes=1, **TINY)
    one.data_config = DataConfig(classes=("background", "road"))


# --- an image as a model wants it

READY = DataConfig(mean=IMAGENET[0], std=IMAGENET[1], size=(4, 6))


@pytest.mark.parametrize("kind", ["pil", "bytes", "float", "batch"])
def test_preprocess_gives_the_golden_values(kind):
    """By hand: (51 / 255 - 0.485) / 0.229, (102 / 255 - 0.456) / 0.224, (153 / 255 - 0.406) / 0.225."""
    picture = Image.new("RGB", (12, 8), (51, 102, 153))
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    image = {"pil": picture, "bytes": tensor, "float": tensor / 255, "batch": tensor[None]}[kind]
    ready = Preprocess(READY)(image)
    assert ready.dtype == torch.float32
    assert ready.shape[-3:] == (3, 4, 6)
    torch.testing.assert_close(ready.flatten(-2)[..., 7].flatten(), torch.tensor([-1.244541, -0.25, 0.862222]))


def test_preprocess_resizes_as_training_does():
    from smp_feedback.data.augment import resize

    image = torch.randint(0, 256, (3, 16, 20), dtype=torch.uint8)
    expected = READY.normalise(resize(image, (4, 6)) / 255)
    assert Preprocess(READY)(image).equal(expected)


def test_sixteen_bits_are_read_as_files_of_them_are():
    white = torch.full((3, 2, 2), 65535, dtype=torch.uint16)
    for size in (None, (4, 6)):
        assert Preprocess(DataConfig(size=size))(white).unique().tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("scale", [(0, 4000), ((0, 4000), (100, 3000), (0, 65535))])
def test_whole_numbers_are_scaled_as_files_of_them_are(tmp_path, scale):
    from smp_feedback.data import ImageReader

    config = DataConfig(mean=(0.5,) * 3, std=(0.25,) * 3, scale=scale, size=(4, 6))
    image = torch.full((3, 4, 6), 2000, dtype=torch.uint16)
    assert Preprocess(config)(image)[0].unique().item() == pytest.approx(0.0), "2000 of 4000, less 0.5"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8))
    picture.save(tmp_path / "a.png")
    expected = config.normalise(ImageReader(scale=scale).read(tmp_path / "a.png"))
    assert Preprocess(config)(picture).equal(expected)


@pytest.mark.parametrize(
    ("config", "image"),
    [
        (DataConfig(scale="percentile"), torch.zeros(3, 4, 6, dtype=torch.uint16)),
        (DataConfig(scale="percentile"), Image.new("RGB", (6, 4))),
        (DataConfig(bands=(3, 2, 1)), Image.new("RGB", (6, 4))),
    ],
)
def test_what_only_a_reader_of_files_can_do_is_left_to_it(config, image):
    with pytest.raises(InvalidInput, match=r"ImageReader\((scale='percentile'|bands=\[3, 2, 1\])\)\.read\(path\)"):
        Preprocess(config)(image)
    assert Preprocess(config)(torch.zeros(3, 4, 6)).shape == (3, 4, 6)
    assert Preprocess(DataConfig(bands=(1, 2, 3)))(Image.new("RGB", (6, 4))).shape == (3, 4, 6)


@pytest.mark.parametrize("colour", [(90, 90, 90), (200, 0, 0)])
def test_a_palette_counts_by_its_colours(tmp_path, colour):
    """Grey ones for a model of one channel; index 0 of colour 90 is no 0."""
    picture = Image.new("P", (6, 4))
    picture.putpalette([*colour, 255, 255, 255])
    assert Preprocess(DataConfig())(picture)[:, 0, 0].tolist() == pytest.approx([value / 255 for value in colour])
    if colour[0] == colour[1]:
        assert Preprocess(DataConfig(channels=1))(picture).unique().tolist() == pytest.approx([90 / 255])
        return
    with pytest.raises(InvalidInput, match="the 1 channels"):
        Preprocess(DataConfig(channels=1))(picture)


def test_black_and_white_is_0_and_1():
    assert Preprocess(DataConfig(channels=1))(Image.new("1", (6, 4), 1)).unique().tolist() == [1]


@pytest.mark.parametrize("image", [np.zeros((4, 6, 3), np.uint8), "a.png", None, [1]])
def test_what_is_no_image_is_refused_in_words(image):
    with pytest.raises(InvalidType, match=r"image is a \w+: expected a PIL\.Image, or a tensor"):
        Preprocess(DataConfig())(image)


def test_pictures_are_upright_and_in_colour():
    grey = Image.new("L", (6, 4), 255)
    assert Preprocess(DataConfig())(grey).shape == (3, 4, 6)
    assert Preprocess(DataConfig(channels=1))(grey).shape == (1, 4, 6)
    turned = Image.new("RGB", (6, 4))
    turned.getexif()[0x0112] = 6
    assert Preprocess(DataConfig())(turned).shape == (3, 6, 4)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(5, 4, 4), r"expected \(C, H, W\) with the 3 channels"),
        (torch.zeros(4, 4), r"expected \(C, H, W\)"),
        (torch.full((3, 4, 4), 7.0), "values 7 to 7: expected floating point in"),
        (torch.full((3, 4, 4), float("nan")), "expected floating point"),
        (torch.zeros(3, 4, 4, dtype=torch.int16), "int16: expected floating point"),
        (Image.new("I;16", (4, 4)), "mode 'I;16'"),
        (Image.new("RGBA", (4, 4)), "transparent"),
        (Image.new("CMYK", (4, 4)), "mode 'CMYK'"),
    ],
)
def test_what_the_model_cannot_read_is_refused_in_one_line(image, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        Preprocess(DataConfig())(image)
    assert "\n" not in str(caught.value)


def test_a_model_has_its_preprocess_and_a_base_keeps_its_own():
    model = smpf.create("Unet", ENCODER, None, **TINY)
    model.data_config = READY
    assert model.preprocess.config == preprocess_of(model).config == READY

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

        def preprocess(self, image):
            return image

        def forward_features(self, image):
            return self.features(self.preprocess(image))

        def forward_head(self, x):
            return self.head(x)

        def forward(self, image):
            return self.forward_head(self.forward_features(image))

    plain, image = Own().eval(), torch.rand(1, 3, 8, 8)
    wrapped = smpf.wrap(plain)
    torch.testing.assert_close(wrapped(image), plain(image))
    assert wrapped.preprocess(image) is image
