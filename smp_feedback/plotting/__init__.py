"""The only room that draws; it needs the extra ``plot``."""

import lazy_loader

from smp_feedback.errors import require

require("matplotlib", extra="plot")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
