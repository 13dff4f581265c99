"""Evaluation: how good a model is, look by look, corruption by corruption, and whether it comes to rest.

Names are imported when they are first used, as results on disk and their statistics need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
