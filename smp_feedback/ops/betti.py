"""The Betti numbers of a mask in two dimensions: how many pieces, and how many loops."""

from __future__ import annotations

from typing import NamedTuple


class Betti(NamedTuple):
    """The Betti numbers of a mask, which stay however it is bent.

    Attributes:
        components: Number 0: connected pieces, whose pixels touch by sides or corners.
        loops: Number 1: holes, pieces of background, whose pixels touch by sides, that do not reach the border.
    """

    components: int
    loops: int
