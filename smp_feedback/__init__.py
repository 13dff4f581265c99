"""Any segmentation_models_pytorch model, looking again: feedback loops behind smp's own interface.

Public names, listed in ``__init__.pyi``, are imported when they are first used: ``import smp_feedback`` alone imports
no torch.

>>> import smp_feedback as smpf
>>> model = smpf.create("Unet", encoder="resnet18", encoder_weights=None, feedback=smpf.Recurrent(steps=3))
>>> sorted(name for name, _ in model.named_children())
['decoder', 'encoder', 'feedback', 'segmentation_head']
"""

import lazy_loader

from smp_feedback._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
