"""Surgery: rewriting a base model so that it reads what is fed back, and nothing else changes."""

import lazy_loader

# a whole model's pickle names ``smp_feedback.surgery._blank``
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"extension": ["_blank"]})
