from .clips import Clips as Clips
from .moving import MovingShapes as MovingShapes
