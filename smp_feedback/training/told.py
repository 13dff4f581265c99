"""What a dataset is told: the settings of the data, and the options of its own beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smp_feedback.errors import InvalidValue

OF_FILMS = ("clip", "clip_stride")
"""Settings of the data that make films of them, which other verbs than fit and those of its runs do not take."""
OF_FIT = (  # settings of the data that say how fit shows them, which a dataset is not told
    *("name", "batch_size", "workers", "train_count", "augment", "crop", "corruption", "severity", "options"),
    *("normalise", "mean", "std", "shared", *OF_FILMS),
)
INSTEAD = {
    "split": "each verb opens its own splits",
    "seed": "--seed seeds all that is drawn",
    "transform": "data.augment is what augments training images, and no others",
}


def told_of(settings: Mapping[str, Any], seed: int, verb: str = "fit") -> dict[str, Any]:
    """What a dataset is told of *settings*, those of the data, and of the *options* among them.

    Raises:
        InvalidValue: For an option that a setting stands for: one that this tells something else, or one that would not
            be the same thing in every split.

    >>> told_of({"name": "folder", "root": "data", "size": None, "options": {"classes": ["sky", "car"]}}, seed=1)
    {'seed': 1, 'root': 'data', 'classes': ['sky', 'car']}
    """
    told = options_told(settings)
    options = settings.get("options") or {}
    if instead := next((key for key in INSTEAD if options.get(key) is not None), None):
        raise InvalidValue(f"data.options.{instead}={options[instead]!r}: {INSTEAD[instead]}; leave the option out.")
    if verb == "fit" and options.get("count") is not None and "root" in told:
        raise InvalidValue(
            f"data.options.count={options['count']!r} would cut val, too: data.train_count trains on so many."
        )
    return {"seed": seed, **told}


def options_told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of *settings* of the data those that a dataset takes, and its *options*, in one.

    Raises:
        InvalidValue: For an option that is a setting, too, and told something else.

    >>> options_told({"colours": None, "val_share": 0.2, "options": {"classes": ["sky", "car"]}})
    {'val_share': 0.2, 'classes': ['sky', 'car']}
    """
    told = {key: value for key, value in settings.items() if key not in OF_FIT and value is not None}
    options = {key: value for key, value in (settings.get("options") or {}).items() if value is not None}
    for key, value in options.items():
        if key in told and told[key] != value:
            raise InvalidValue(
                f"data.options.{key}={value!r} and data.{key}={told[key]!r}: they are the same setting, give it once."
            )
    return {**told, **options}
