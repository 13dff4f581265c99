"""The model card: how to load the model, how it was made, what it was measured to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from smp_feedback.config.data import DataConfig

OURS = "<!-- smp_feedback writes this card anew at every save; without this line the text is yours and is kept -->"
TAGS = ["smp_feedback", "segmentation_models_pytorch", "semantic-segmentation", "feedback", "pytorch"]


def model_card(
    config: Mapping[str, Any],
    *,
    dataset: Any = None,
    metrics: Any = None,
    source: str = "path/to/this/directory",
    **data: Any,
) -> ModelCard:
    """The card of the model that *config* describes.

    Args:
        config: As it is saved, see :func:`smp_feedback.saving.saved.describe`.
        dataset: What it was trained or measured on, in words.
        metrics: Names and values; anything JSON can write, and numbers of NumPy or torch.
        source: What ``from_pretrained`` shall be given; a repository's name, if there is one.
        **data: Metadata of the hub, as ``huggingface_hub.ModelCardData`` takes it (``license="mit"``). None is
            made up: the licence of your weights is yours to choose.
    """
    tags = TAGS + [tag for tag in data.pop("tags", None) or [] if tag not in TAGS]
    facts = {"library_name": "smp_feedback", "pipeline_tag": "image-segmentation", **data, "tags": tags}
    sections = {
        "Load it": _loading(config, source),
        "The base": _block({"architecture": config["architecture"], **config["arguments"]}),
        "The loop": _block(config["feedback"]),
        "Its images": _images(config.get("data", {})),
        "Metrics": "Not said." if metrics is None else _block(metrics),
        "Dataset": "Not said." if dataset is None else str(dataset),
        "Saved with": ", ".join(f"{name} {number}" for name, number in config["versions"].items()),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    title = f"# {config['architecture']} with feedback\n\nA segmentation model that looks at its image more than once."
    return ModelCard(f"---\n{ModelCardData(**facts).to_yaml()}\n---\n{OURS}\n\n{title}\n\n{body}\n")


def may_replace(path: Path) -> bool:
    """Whether *path* is absent or a card of ours, and no text that somebody wrote."""
    return not path.exists() or OURS in path.read_text(encoding="utf-8", errors="replace")


def _images(said: Mapping[str, Any]) -> str:
    """How an image is made ready, and what was said of those it was trained on."""
    config = DataConfig.from_dict(said)
    usual = DataConfig().to_dict() | {"mean": None, "std": None}
    facts = {key: value for key, value in config.to_dict().items() if value != usual.get(key)}
    text = f"{config.normalisation[0].upper()}{config.normalisation[1:]}: `model.preprocess(image)` makes them so."
    return f"{text}\n\n{_block(facts)}" if facts else text


def _loading(config: Mapping[str, Any], source: str) -> str:
    named = {f"{p['distribution']}=={p['version']}" for p in config["plugins"].values() if "distribution" in p}
    install = f"pip install {' '.join(['smp_feedback', *sorted(named)])}"
    code = f'import smp_feedback\n\nmodel = smp_feedback.from_pretrained("{source}")'
    return f"```\n{install}\n```\n\n```python\n{code}\n```"


def _block(values: Any) -> str:
    return f"```json\n{json.dumps(values, indent=2, default=_plain)}\n```"


def _plain(value: Any) -> Any:
    """A number of NumPy or torch as Python's, an array as lists, anything else in words."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
