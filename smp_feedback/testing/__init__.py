"""The promises, as checks: every part here passes them, and a plugin's can be held to them too.

One call for each kind of part (:func:`check_architecture`, :func:`check_cut`, :func:`check_loop`,
:func:`check_dynamics`, :func:`check_projection`, :func:`check_preset`, :func:`check_restorer`, :func:`check_loss`,
:func:`check_dataset`, :func:`check_corruption`, :func:`check_augmentation`, :func:`check_metric`,
:func:`check_encoder`, :func:`check_verb`), made of small ones; :func:`check_plugin` does it for all that a plugin
brings. Each takes what it needs and raises ``AssertionError`` with the promise that was broken. They need no network
and no GPU, and seconds.

>>> from smp_feedback.testing import check_dynamics, check_loss
>>> check_dynamics("decay", tau=2.0)
>>> check_loss("dice")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
