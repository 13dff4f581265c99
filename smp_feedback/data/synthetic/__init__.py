"""Datasets that are drawn when they are asked for: what they share, the papers' tasks, ours, and filled outlines.

Names are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
