"""Wrapping keeps every output: each kind of smp's encoders, and one model of every timm family that smp can use.

Encoders of one class, of one kind of block and with the same switches are one kind: they differ in depth and width
alone, and the first of them, which is the smallest, stands for all. ``make test`` asks one encoder of each kind that
smp's surgery knows, and timm's own miniatures.
"""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from conftest import a_few

from smp_feedback.errors import SurgeryError
from smp_feedback.testing import check_lossless

pytestmark = [
    # the libraries' own words about their own models
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

# the smallest model of each of timm's modules that smp can use as an encoder, and a size it takes
FAMILIES = {
    "byoanet": ("halonet_h1", 256),
    "byobnet": ("test_byobnet", 64),
    "coat": ("coat_tiny", 224),
    "convnext": ("test_convnext", 64),
    "cpubone": ("cpubone_nano", 64),
    "cspnet": ("cs3darknet_focus_s", 64),
    "cspnext": ("cspnext_tiny", 64),
    "davit": ("davit_tiny", 64),
    "densenet": ("densenet121", 64),
    "dla": ("dla46x_c", 64),
    "dpn": ("dpn48b", 64),
    "edgenext": ("edgenext_xx_small", 64),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientformer_v2": ("efficientformerv2_s0", 224),
    "efficientnet": ("test_efficientnet", 64),
    "efficientvit_mit": ("efficientvit_b0", 64),
    "fasternet": ("fasternet_t0", 64),
    "fastvit": ("fastvit_t8", 64),
    "focalnet": ("focalnet_tiny_srf", 64),
    "gcvit": ("gcvit_xxtiny", 224),
    "ghostnet": ("ghostnet_050", 64),
    "hardcorenas": ("hardcorenas_b", 64),
    "hgnet": ("hgnetv2_b0", 64),
    "hiera": ("hiera_tiny_224", 224),
    "hieradet_sam2": ("sam2_hiera_tiny", 64),
    "hrnet": ("hrnet_w18_small", 64),
    "iformer": ("iformer_t", 64),
    "inception_next": ("inception_next_atto", 64),
    "inception_resnet_v2": ("ens_adv_inception_resnet_v2", 224),
    "inception_v3": ("adv_inception_v3", 224),
    "inception_v4": ("inception_v4", 224),
    "lcnetv2": ("lcnetv2_small", 64),
    "lowformer": ("lowformer_b0", 64),
    "mambaout": ("test_mambaout", 64),
    "maxxvit": ("test_coatnet", 160),
    "metaformer": ("poolformerv2_s12", 64),
    "mobilenetv3": ("lcnet_035", 64),
    "mobilenetv5": ("mobilenetv5_base", 64),
    "mobilevit": ("mobilevit_xxs", 64),
    "mvitv2": ("mvitv2_tiny", 64),
    "nasnet": ("nasnetalarge", 64),
    "nextvit": ("nextvit_small", 64),
    "nfnet": ("test_nfnet", 64),
    "pnasnet": ("pnasnet5large", 64),
    "pvt_v2": ("pvt_v2_b0", 64),
    "rdnet": ("rdnet_tiny", 64),
    "regnet": ("regnetx_002", 64),
    "repghost": ("repghostnet_050", 64),
    "repvit": ("repvit_m1", 64),
    "res2net": ("res2next50", 64),
    "resnest": ("resnest14d", 64),
    "resnet": ("test_resnet", 64),
    "resnetv2": ("resnetv2_18", 64),
    "rexnet": ("rexnet_100", 64),
    "selecsls": ("selecsls42", 64),
    "senet": ("legacy_seresnet18", 64),
    "sknet": ("skresnet18", 64),
    "starnet": ("starnet_s050", 64),
    "swiftformer": ("swiftformer_xs", 64),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 224),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", 256),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 224),
    "tiny_vit": ("tiny_vit_5m_224", 64),
    "twins": ("twins_svt_small", 64),
    "vgg": ("vgg11", 64),
    "vovnet": ("ese_vovnet19b_slim_dw", 64),
    "xception": ("legacy_xception", 64),
    "xception_aligned": ("xception41p", 64),
}
MINIATURES = [family for family, (name, _) in FAMILIES.items() if name.startswith("test_")]
# those that only DPT can use
DPT_FAMILIES = {
    "beit": ("beit_base_patch16_224", 224),
    "deit": ("deit_tiny_patch16_224", 224),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 224),
    "mlp_mixer": ("gmlp_ti16_224", 224),
    "qwen3_vit": ("qwen3_vit_88m", 224),
    "tnt": ("tnt_s_legacy_patch16_224", 224),
    "vision_transformer": ("test_vit", 224),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 224),
    "vision_transformer_sam": ("samvit_base_patch16_224", 224),
    "vitamin": ("vitamin_small_224", 224),
    "volo": ("volo_d1_224", 224),
}


def kind_of(encoder):
    """What smp builds *encoder* of, but for how many and how wide."""
    entry = smp.encoders.encoders[encoder]
    told = entry["params"]
    switches = tuple((key, told[key]) for key in sorted(told) if isinstance(told[key], bool))
    return entry["encoder"], told.get("block"), "groups" in told, switches


KINDS = [*{kind_of(name): name for name in reversed(smp.encoders.encoders)}.values()]
"""The first of each kind."""


def of_timm(name):
    """*name*, as smp calls it; skipped where the timm that is here is older than it."""
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    return f"tu-{name}"


@pytest.mark.parametrize("encoder", a_few(sorted(KINDS), "resnet18", "efficientnet-b0", "mit_b0"))
def test_wrapping_keeps_every_output_of_smps_encoders(encoder):
    check_lossless(smp.create_model("Unet", encoder, encoder_weights=None), torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("family", a_few(FAMILIES, *MINIATURES))
def test_wrapping_keeps_every_output_of_timms_families(family):
    name, size = FAMILIES[family]
    check_lossless(smp.create_model("Unet", of_timm(name), encoder_weights=None), torch.rand(1, 3, size, size))


@pytest.fixture
def four_blocks(monkeypatch):
    """Transformers of four blocks, one for each stage that DPT reads, where timm can make them so: all are alike."""
    make = timm.create_model

    def shallow(name, *args, **told):
        try:
            return make(name, *args, **{"depth": 4, **told})
        except TypeError:  # it says otherwise how deep it is
            return make(name, *args, **told)

    monkeypatch.setattr(timm, "create_model", shallow)


@pytest.mark.parametrize("family", a_few(DPT_FAMILIES, "vision_transformer"))
def test_wrapping_keeps_every_output_of_timms_transformers(family, four_blocks):
    name, size = DPT_FAMILIES[family]
    slim = {"decoder_intermediate_channels": (8, 8, 8, 8), "decoder_fusion_channels": 8, "decoder_readout": "ignore"}
    check_lossless(smp.DPT(of_timm(name), encoder_weights=None, **slim), torch.rand(1, 3, size, size))


@pytest.mark.parametrize("name", a_few(["tresnet_m", "csatv2"], "csatv2"))
def test_a_family_whose_image_no_convolution_reads_says_what_to_do(name):
    arch, encoder = "Unet" if name == "tresnet_m" else "DPT", of_timm(name)
    with pytest.raises(SurgeryError, match=r"stem='...'"):
        check_lossless(smp.create_model(arch, encoder, encoder_weights=None), torch.rand(1, 3, 224, 224))
