"""Films, scored frame by frame: how steady a model is, what a cut costs it, and what else could be done instead."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
