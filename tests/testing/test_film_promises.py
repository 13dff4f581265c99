"""What is asked of a dataset's films: every fault is found."""

import pytest
import torch

from smp_feedback.data import MovingShapes
from smp_feedback.testing.datasets import check_films


class Frames(list):
    """Six items, and whatever is said of them."""

    def __init__(self, **said):
        super().__init__([(torch.zeros(3, 4, 4 + (k == 5)), torch.zeros(4, 4)) for k in range(6)])
        self.__dict__ |= said

    def name(self, index):
        return f"frame {index}"


def test_sound_films_pass():
    check_films(MovingShapes(count=9, size=16, scene=3))
    check_films(Frames(films=(range(3), (4, 3)), cuts=(1, 3)))
    check_films(Frames())


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"films": (range(3), ())}, "a film has no frame"),
        ({"films": (range(4, 7),)}, "frames that are no items: 0 to 5"),
        ({"films": (range(3), (2, 3))}, "a frame is in two films"),
        ({"films": (range(3), (3, 4, 5))}, "film of frame 3 changes its size"),
        ({"films": (range(3),), "cuts": (0,)}, "a cut is at no frame within a film"),
        ({"films": (range(3),), "hidden": lambda i: torch.zeros(4, 4)}, "expected torch.bool"),
    ],
)
def test_every_fault_of_films_is_found(said, match):
    with pytest.raises(AssertionError, match=match):
        check_films(Frames(**said))
