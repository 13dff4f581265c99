from .camera import SyntheticCamera as SyntheticCamera
from .clips import Clips as Clips
from .moving import MovingShapes as MovingShapes
from .video import VideoFrames as VideoFrames
from .video_dataset import LabelledVideo as LabelledVideo
from .writing import write_video as write_video
