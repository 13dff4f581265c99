"""Maps resized band by band are the map resized as a whole."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from smp_feedback.ops.row_bands import row_bands

SIDE = st.integers(1, 9)


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, st.integers(1, 30), st.integers(1, 30), st.integers(1, 100))
def test_all_bands_together_are_the_whole_map(h, w, height, width, values):
    maps = torch.randn(2, h, w, generator=torch.Generator().manual_seed(h * 31 + w))
    whole = F.interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)[0]
    bands = [*row_bands(maps, (height, width), values=values)]
    torch.testing.assert_close(torch.cat([band for _, band in bands], 1), whole, atol=1e-5, rtol=1e-5)
    assert [row for rows, _ in bands for row in range(rows.start, rows.stop)] == [*range(height)]
    assert all(band.shape[1] == 1 or band.numel() <= values for _, band in bands)


def test_halves_are_read_in_full_precision():
    (_, band), *_ = row_bands(torch.ones(1, 2, 2, dtype=torch.float16), (2, 2))
    assert band.dtype == torch.float32
