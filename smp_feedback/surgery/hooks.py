"""Hooks that a loop would go past: those of a module that is opened rather than called.

A looping model is called by ``model(x)`` alone; ``iterate`` and whatever gives every look open it. Hooks of the parts
that a look calls (encoder, decoder, head, any module inside) act in every look, and are nobody's concern here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from smp_feedback.errors import SurgeryError

KINDS = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "full backward pre-hook",
    "_backward_hooks": "full backward hook",
}
"""Where torch keeps the hooks of a module, and what they are."""
INSTEAD = "register it on a part that each look calls (model.encoder, model.segmentation_head), or remove it"


def hook_of(module: nn.Module) -> str | None:
    """A hook of *module* itself in words, or None; not those of its parts, nor torch.distributed's own.

    A sharded module has hooks that gather its weights, and ``register_fsdp_forward_method`` calls them for other
    methods as well.

    >>> def halve(module, inputs):
    ...     return inputs[0] / 2
    >>> net = nn.Identity()
    >>> _ = net.register_forward_pre_hook(halve)
    >>> hook_of(net), hook_of(nn.Identity())
    ("forward pre-hook 'halve'", None)
    """
    for where, kind in KINDS.items():
        for hook in getattr(module, where).values():
            if not str(getattr(hook, "__module__", "")).startswith("torch.distributed"):
                return f"{kind} {_name(hook)!r}"
    return None


def is_hooked(module: nn.Module) -> bool:
    """Whether *module* itself has any hook, of torch.distributed's too.

    >>> is_hooked(nn.Identity())
    False
    """
    return any(getattr(module, where) for where in KINDS)


def check_unhooked(module: nn.Module, goes_past: str) -> None:
    """*module* has no hook that *goes_past* (``"Unet.iterate opens the model"``) would leave out.

    Raises:
        SurgeryError: With its kind and name.
    """
    hook = hook_of(module)
    if hook is not None:
        raise SurgeryError(f"{goes_past} without its {hook}, which acts where it is called: {INSTEAD}.")


def replaced_forward(module: nn.Module) -> bool:
    """Whether the forward of *module* was replaced on the object itself, by what a copy or an opened model leaves out.

    Not so where it is another method of its own, to which a copy has its own, nor where torch has compiled it.

    >>> net = nn.Identity()
    >>> net.forward = lambda image: 2 * image
    >>> replaced_forward(net), replaced_forward(nn.Identity())
    (True, False)
    """
    forward = vars(module).get("forward")
    if forward is None or "_orig_mod" in module._modules:
        return False
    function = getattr(forward, "__func__", None)
    own = getattr(type(module), getattr(function, "__name__", ""), None)
    return getattr(forward, "__self__", None) is not module or function is not own


def _name(hook: Callable[..., Any]) -> str:
    return getattr(hook, "__qualname__", type(hook).__qualname__).rpartition(".")[2]
