"""Films: clips of them, moving shapes, stills seen by a moving camera, and video files.

A dataset of films is one of frames, whose ``films`` says which items belong together. Names are imported when they are
first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
