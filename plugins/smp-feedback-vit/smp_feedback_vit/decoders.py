"""Decoders: patch tokens (B, D, h, w) -> scores for each patch and class.

``mask_transformer`` is the decoder of *Segmenter: Transformer for Semantic Segmentation* (Strudel et al. 2021, arXiv
2105.05633), written from its mathematics: classes are tokens too, and a patch's score for a class is the cosine
between the two tokens.
"""

from __future__ import annotations

from typing import cast

import torch
from smp_feedback.errors import InvalidValue
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

DECODERS = ("linear", "mask_transformer")


class MaskTransformer(nn.Module):
    """Patch tokens and one token for each class through transformer layers; the masks are their cosines.

    ``masks = LayerNorm_classes(normalise(P Z) normalise(C K)^T)`` with Z the patch tokens and K the class tokens behind
    the last layer, P and C linear maps, and each row divided by its Euclidean norm.

    Args:
        width: Channels D of the tokens.
        classes: Number of classes, >= 2: the last normalisation is over them.
        layers: Transformer layers, >= 1; 2 as in the paper.
        dropout: Of the layers' attention and linear maps, 0 to 1.

    Raises:
        InvalidValue: For fewer than two classes.

    >>> MaskTransformer(64, 5)(torch.rand(2, 64, 3, 4)).shape
    torch.Size([2, 5, 3, 4])
    """

    def __init__(self, width: int, classes: int, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        if classes < 2:
            raise InvalidValue(
                f"decoder='mask_transformer' with classes={classes}: it normalises over the classes, so one class has "
                "nothing to say. Give two or more, or decoder='linear'."
            )
        self.project = nn.Linear(width, width)
        self.classes = nn.Parameter(torch.empty(1, classes, width))
        facts = {"mlp_ratio": 4.0, "qkv_bias": True, "proj_drop": dropout, "attn_drop": dropout}
        self.layers = nn.Sequential(*(Block(width, heads(width), **facts) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.of_patch, self.of_class = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.norm_classes = nn.LayerNorm(classes)
        self._initialise(width)

    def _initialise(self, width: int) -> None:
        """As the paper: 0.02 everywhere, and maps that keep a token's length before the cosine."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.classes, std=0.02)
        for matrix in (self.of_patch.weight, self.of_class.weight):
            nn.init.normal_(matrix, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, classes, h, w)."""
        patches = self.project(x.flatten(2).mT)
        classes = self.classes.expand(len(x), -1, -1)
        tokens = self.norm(self.layers(torch.cat([patches, classes], 1)))
        patches, classes = tokens.split([patches.shape[1], classes.shape[1]], 1)
        patches, classes = F.normalize(self.of_patch(patches), dim=-1), F.normalize(self.of_class(classes), dim=-1)
        scores = torch.einsum("bnd,bcd->bnc", patches, classes)
        return cast(Tensor, self.norm_classes(scores)).mT.reshape(len(x), -1, *x.shape[-2:])


def heads(width: int) -> int:
    """Attention heads: of 64 channels each, or the next fewer that divide *width*.

    >>> heads(384), heads(96), heads(200)
    (6, 1, 2)
    """
    return next(count for count in range(max(1, width // 64), 0, -1) if width % count == 0)
