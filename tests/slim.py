"""Narrow decoders: what does not depend on how wide they are is promised of these."""

from __future__ import annotations

NARROW = {"decoder_channels": 16}
STEPWISE = {"decoder_channels": (32, 16, 16, 8, 8)}
SLIM = {
    **dict.fromkeys(("Unet", "UnetPlusPlus", "MAnet"), STEPWISE),
    **dict.fromkeys(("DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet"), NARROW),
    "DPT": {"decoder_intermediate_channels": (16, 16, 16, 16), "decoder_fusion_channels": 16},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "PSPNet": {"psp_out_channels": 16},
    "Segformer": {"decoder_segmentation_channels": 16},
    "Linknet": {},
}
"""Of each of smp's architectures."""
