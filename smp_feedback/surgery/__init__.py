"""Surgery: rewriting a base model so that it reads what is fed back, and nothing else changes."""

import lazy_loader

# a part of what the pickle of a whole model names
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"extension": ["_blank"]})
