"""The promises, as checks: every part here passes them, and a plugin's can be held to them too.

One call for each kind of part (:func:`check_architecture`, :func:`check_cut`, :func:`check_loop`,
:func:`check_dynamics`, :func:`check_projection`, :func:`check_restorer`, :func:`check_loss`, :func:`check_dataset`,
:func:`check_corruption`), made of small ones; :func:`check_plugin` does it for all that a plugin brings. Each takes
what it needs and raises ``AssertionError`` with the promise that was broken. They need no network and no GPU, and
seconds.

>>> check_dynamics("decay", tau=2.0)
>>> check_loss("dice")
"""

from smp_feedback.testing.architectures import check_architecture, check_cut, check_loop
from smp_feedback.testing.corruptions import check_corruption
from smp_feedback.testing.datasets import check_dataset
from smp_feedback.testing.dynamics import check_dynamics
from smp_feedback.testing.handling import check_batches, check_devices, check_exported, check_saved
from smp_feedback.testing.losses import check_loss
from smp_feedback.testing.memory import check_stateless
from smp_feedback.testing.plugins import check_plugin
from smp_feedback.testing.projections import check_projection
from smp_feedback.testing.promises import check_agreement, check_heard, check_lossless, check_same_keys, hearing
from smp_feedback.testing.restorers import check_restorer

__all__ = [
    "check_agreement",
    "check_architecture",
    "check_batches",
    "check_corruption",
    "check_cut",
    "check_dataset",
    "check_devices",
    "check_dynamics",
    "check_exported",
    "check_heard",
    "check_loop",
    "check_loss",
    "check_lossless",
    "check_plugin",
    "check_projection",
    "check_restorer",
    "check_same_keys",
    "check_saved",
    "check_stateless",
    "hearing",
]
