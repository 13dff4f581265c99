"""One look in a line, and in a notebook."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import Any

import torch

from smp_feedback.errors import FeedbackError
from smp_feedback.loops.above import above


def in_words(step: Any) -> str:
    """*step* in one line, however large its state is; no answer is computed for it.

    >>> import smp_feedback as smpf
    >>> model = smpf.create("PlainConv", feedback=smpf.Recurrent(dynamics="gated")).eval()
    >>> with torch.no_grad():
    ...     model.look(torch.rand(1, 3, 16, 16))
    Step(index=0, looks=1, state=(1, 34, 16, 16), change=1)
    """
    said = {"index": step.index, **_looks_and_change(step)}
    change = {key: said.pop(key) for key in [*said] if key.endswith("change")}
    said = {**said, "state": tuple(step.state.shape), **change}
    return f"{type(step).__name__}({', '.join(f'{name}={value}' for name, value in said.items())})"


def in_notebook(step: Any) -> str:
    """*step* as HTML: its line, and a picture of what it answers where one can be drawn."""
    line = f"<div><code>{escape(in_words(step))}</code></div>"
    if step.state.is_meta:
        return line
    try:
        picture = above("thumbnail")(step)
    except (FeedbackError, RuntimeError):  # nothing that draws is installed, or a traced look has no answer
        return line
    source = f"data:image/png;base64,{b64encode(picture).decode('ascii')}"
    return f'{line}<img style="border:1px solid #999999" alt="what it answers" src="{source}">'


def _looks_and_change(step: Any) -> dict[str, str]:
    """How many looks there were, and how far the last one moved the state; of several images the mean.

    What is printed has to come from the device, and that is the only wait: all numbers come at once.
    """
    own, single = step._turned.looks, len(step.state) == 1
    known = {"looks": str(step.index + 1)} if own is None else {}
    if not len(step.state) or step.state.is_meta or torch.compiler.is_compiling():  # no numbers, or none for a graph
        return known
    asked = [step.change.detach().float().mean()]
    asked += [] if own is None else [own.amin().float(), own.amax().float()]
    try:
        change, *looks = map(float, torch.stack(asked).tolist())
    except Exception:  # tensors of others may have no numbers, either; a line that says less is better than none
        return known
    if looks:
        fewest, most = map(int, looks)
        known = {"looks": f"{fewest}" if fewest == most else f"{fewest}-{most}"}
    return {**known, "change" if single else "mean_change": f"{change:.3g}"}
