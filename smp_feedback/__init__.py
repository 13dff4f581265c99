"""Any segmentation_models_pytorch model, looking again: feedback loops behind smp's own interface.

Public names, listed in ``__init__.pyi``, are imported when they are first used: ``import smp_feedback`` alone imports
no torch.

>>> import smp_feedback as smpf
>>> model = smpf.create("Unet", encoder="resnet18", encoder_weights=None, feedback=smpf.Recurrent(steps=3))
>>> sorted(name for name, _ in model.named_children())
['decoder', 'encoder', 'feedback', 'segmentation_head']
"""

from typing import Any

import lazy_loader

from smp_feedback._version import __version__ as __version__

_first_use, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")  # Python's own words
    return _first_use(name)
