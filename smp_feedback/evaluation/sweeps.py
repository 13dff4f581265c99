"""Many evaluations in one table: over corruptions and severities, over the number of training images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from smp_feedback.checks import check_whole
from smp_feedback.data.corruption.corrupted import Corrupted
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.one_pass import Advance, Pairs, evaluate_all
from smp_feedback.evaluation.results import VERSION, Result
from smp_feedback.evaluation.scores import LookScores

Models = Mapping[str, nn.Module | Sequence[nn.Module]]
"""By the name that figures show; several networks under one name are repetitions, trained with other seeds."""


def robustness(
    models: Models,
    data: Pairs,
    *,
    classes: int,
    corruptions: Sequence[str] = ("gaussian_noise", "gaussian_blur", "contrast", "occlusion"),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0,
    advance: Advance = lambda: None,
    **options: Any,
) -> Result:
    """Scores over corruption x severity x looks, every model on the same corrupted images.

    Args:
        models: By name; a list of networks counts as repetitions.
        data: Clean pairs of image and target.
        classes: Number of classes.
        corruptions: Registered names.
        severities: From 1 to 5; clean images (severity 0) are always scored, once.
        seed: Seeds the corruptions, image by image.
        advance: Called after each condition: once, and for every corruption and severity.
        **options: ``ignore_index``, ``task``, ``looks``, ``batch_size``, ``workers`` as `evaluate` takes them.

    Returns:
        A result of kind ``robustness``: ``rows``, each with ``model``, ``seed`` (0 for the first network of
        that name), ``corruption``, ``severity`` and the fields of `LookScore` but ``reliability``.

    Raises:
        UnknownName, InvalidValue: For a corruption or severity that there is not, before any work.
    """
    for severity in severities:
        check_whole("severities", severity)
    conditions: list[tuple[str, int, Pairs]] = [("clean", 0, data)]
    conditions += [(name, s, Corrupted(data, name, s, seed=seed)) for name in corruptions for s in severities]
    networks, rows = _named(models), []
    for name, severity, images in conditions:
        found = evaluate_all(networks, images, classes=classes, **options)
        rows += _rows(found, corruption=name, severity=severity)
        advance()
    return _result("robustness", data, classes, rows, options)


def calibration(models: Models, data: Pairs, *, classes: int, **options: Any) -> Result:
    """Scores and reliability of every model on *data*, look by look.

    Args:
        models: By name; a list of networks counts as repetitions.
        data: Pairs of image and target.
        classes: Number of classes.
        **options: As `evaluate` takes them.

    Returns:
        A result of kind ``calibration``: ``rows`` with ``model``, ``seed`` and the fields of `LookScore`.
    """
    rows = _rows(evaluate_all(_named(models), data, classes=classes, **options), reliability=True)
    return _result("calibration", data, classes, rows, options)


def few_shot(
    train: Callable[[int, int], Models],
    test: Pairs,
    *,
    classes: int,
    counts: Sequence[int] = (1, 2, 4, 8, 16),
    seeds: Sequence[int] = (0, 1, 2),
    advance: Advance = lambda: None,
    **options: Any,
) -> Result:
    """Scores by the number of training images.

    Args:
        train: ``(count, seed) -> models by name``, trained on ``first_images(data, count, seed)``.
        test: Pairs to score on.
        classes: Number of classes.
        counts: Numbers of training images.
        seeds: Repetitions: another seed, other images and weights.
        advance: Called after each count and seed.
        **options: As `evaluate` takes them.

    Returns:
        A result of kind ``few_shot``: ``rows`` with ``model``, ``images``, ``seed`` and the fields of `LookScore`
        but ``reliability``.
    """
    for count in counts:
        check_whole("counts", count)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for count in counts:
            found = evaluate_all(_named(train(count, seed)), test, classes=classes, **options)
            rows += [{**row, "seed": seed} for row in _rows(found, images=count)]
            advance()
    return _result("few_shot", test, classes, rows, options)


def first_images(data: Pairs, count: int, seed: int) -> Subset[Any]:
    """*count* images of *data*, the first of a random order that belongs to *seed*: fewer are part of more.

    Raises:
        InvalidValue: If there are not so many.

    >>> first_images(range(10), 2, seed=0).indices == first_images(range(10), 4, seed=0).indices[:2]
    True
    """
    if check_whole("count", count) > len(data):
        raise InvalidValue(f"count={count}: expected at most the {len(data)} images there are.")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return Subset(data, order[:count].tolist())


def _named(models: Models) -> dict[tuple[str, int], nn.Module]:
    """By name and repetition."""
    several = {name: [m] if isinstance(m, nn.Module) else list(m) for name, m in models.items()}
    if not several or not all(several.values()):
        raise InvalidValue("models: expected at least one network under every name.")
    return {(name, i): network for name, networks in several.items() for i, network in enumerate(networks)}


def _rows(
    found: Mapping[tuple[str, int], LookScores], *, reliability: bool = False, **facts: object
) -> list[dict[str, Any]]:
    rows = []
    for (name, seed), scores in found.items():
        for score in scores:
            row = {"model": name, "seed": seed, **facts, **score.row()}
            if not reliability:
                del row["reliability"]
            rows.append(row)
    return rows


def _result(kind: str, data: Pairs, classes: int, rows: Iterable[object], options: Mapping[str, Any]) -> Result:
    task = options.get("task", "segmentation")
    names = list(getattr(data, "classes", None) or ())
    names = names if len(names) == classes else [str(k) for k in range(classes)]
    return {"kind": kind, "version": VERSION, "task": task, "classes": names, "rows": list(rows)}
