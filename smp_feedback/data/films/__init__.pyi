from .camera import SyntheticCamera as SyntheticCamera
from .clips import Clips as Clips
from .moving import MovingShapes as MovingShapes
