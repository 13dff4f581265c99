"""State dicts in and out: from a plain model's weights and back, and nothing half-loaded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.errors import FeedbackError, InvalidValue
from smp_feedback.saving.files import Source
from smp_feedback.saving.plain_weights import is_ours, looping, misfit, read_weights, without_prefix
from smp_feedback.surgery.extension import plain_class
from smp_feedback.surgery.step_batchnorm import StatisticsPerStep, reset_statistics

PREFIX = "feedback."
PLAIN = "The weights of a plain model? model.load_feedforward(...) takes them: a file, a directory or a state dict."


class FeedforwardWeights(nn.Module):
    """The ways in and out that every looping model has."""

    feedback: Any

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As the base's; a plain model's weights (``strict=False``) start the later steps' statistics anew.

        Raises:
            RuntimeError: If they do not fit; of weights that are no looping model's, with what takes them.
        """
        plain = not any(key.startswith(PREFIX) for key in state_dict)
        renewed = plain and any(key.endswith("running_mean") for key in state_dict)
        try:
            report = super().load_state_dict(state_dict, *args, **kwargs)
        except RuntimeError as error:
            if plain:
                error.args = (f"{error}\n{PLAIN}",)
            raise
        if renewed:
            reset_statistics(self)
        return report

    def feedforward_state_dict(self) -> dict[str, Tensor]:
        """The base model's own weights: loads strictly into the plain model.

        A base that makes the K fed-back channels itself (``NeumannUnet`` and the DFM recipes) is K channels wider than
        the plain model that ``feedback=False`` builds: its weights fit its class made with ``feedback_channels=K``.
        """
        return {key: value for key, value in self.state_dict().items() if not key.startswith(PREFIX)}

    def load_feedforward(self, source: Mapping[str, Any] | Source, **hub: Any) -> FeedforwardWeights:
        """Load a plain model's weights; all of them, or the model stays as it was.

        What a training loop wrapped them in is taken off: ``{"state_dict": ...}``, and one prefix before all of them
        (``model.``, ``module.``, whatever it is called). Tensors beside them, a loss's say, are left with a warning.
        BatchNorm's statistics of the later steps begin again from the plain model's.

        Args:
            source: A state dict or a checkpoint that holds one, a file of either (``.pth``, ``.pt``, ``.ckpt``,
                ``.bin``, ``.safetensors``; no code in it is run), a directory written by smp's ``save_pretrained``, or
                the hub repository of one.
            **hub: For a repository: ``revision``, ``cache_dir``, ``token``, ``force_download``,
                ``local_files_only``.

        Raises:
            FeedbackError: If keys or shapes do not fit, with how many and which; if there are no weights, or they are
                those of a model that looks again.

        >>> import smp_feedback as smpf
        >>> plain = smpf.create("Unet", "resnet18", None, classes=3, feedback=False)
        >>> checkpoint = {"epoch": 7, "state_dict": {f"net.{key}": x for key, x in plain.state_dict().items()}}
        >>> model = smpf.wrap(plain).load_feedforward(checkpoint)
        """
        again = "holds a model that looks again, no plain"
        if is_ours(source):
            name = base_name(self)
            raise InvalidValue(
                f"{source} {again} {name}: smp_feedback.from_pretrained({str(source)!r}) loads it whole."
            )
        read = read_weights(source, **hub)
        weights = without_prefix(read, [key for key in self.state_dict() if not key.startswith(PREFIX)])
        if looping(weights):
            raise InvalidValue(
                f"{read.where} {again} {base_name(self)}: a run of fit keeps its model in RUN/model, for "
                "smp_feedback.from_pretrained; smp-feedback fit --model.init FILE begins with it; load_state_dict "
                "takes its state dict."
            )
        load_plain(self, weights, read.where)
        return self


def load_plain(model: FeedforwardWeights, weights: Mapping[str, Tensor], where: str) -> None:
    """Load *weights* of the base alone, in place, or leave *model* as it was; *where* is where they came from.

    Raises:
        FeedbackError: If they do not fit, in three lines.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    own = {key: value for key, value in before.items() if key.startswith(PREFIX)}
    try:
        model.load_state_dict({**weights, **own})
    except RuntimeError:
        model.load_state_dict(before)
        wanted = {key: value for key, value in before.items() if key not in own}
        raise FeedbackError(misfit(where, f"the plain {base_name(model)}", weights, wanted)) from None
    reset_statistics(model)


def base_name(model: nn.Module) -> str:
    """What the class of *model* was called before it looked again."""
    return plain_class(model).__name__


def _statistics(model: FeedforwardWeights) -> str:
    """The prefix of BatchNorm's statistics per step; those of a loop inside another lie deeper."""
    inner = getattr(model.feedback, "inner", None) is not None
    return f"{PREFIX}inner.statistics." if inner else f"{PREFIX}statistics."


def load_saved(model: FeedforwardWeights, saved: Mapping[str, Tensor], *, strict: bool) -> None:
    """Load the weights of a looping model that may have had another number of steps.

    Args:
        model: The model to fill.
        saved: All its weights, ``feedback.*`` too.
        strict: Whether each must fit; otherwise those that do not are left as they are, with a warning.

    Raises:
        FeedbackError: If *strict* and they do not fit, with torch's list of which.
    """
    weights = with_rows(model, saved)
    if not strict:
        return _load_fitting(model, weights)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        hint = "strict=False loads those that fit."
        raise FeedbackError(f"These are not the weights of this {base_name(model)}: {error}\n{hint}") from None
    return None


def with_rows(model: FeedforwardWeights, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """*saved* with one row of BatchNorm statistics for each later step of *model*.

    A step beyond the saved ones takes the last, as it does in a call with more steps than were trained.
    """
    weights, statistics = dict(saved), _statistics(model)
    for name, norm in model.named_modules():
        if isinstance(norm, StatisticsPerStep):
            for buffer, wanted in norm.rows[0].state_dict().items():
                key = f"{statistics}{norm.norm}.{buffer}"
                first, later = saved.get(f"{name}.{buffer}"), saved.get(key)
                if first is not None and later is not None and first.shape == later.shape[1:]:
                    steps = torch.arange(1, len(wanted) + 1).clamp(max=len(later))
                    weights[key] = torch.cat([first[None], later])[steps]
    return weights


def _load_fitting(model: FeedforwardWeights, weights: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    statistics = _statistics(model)
    numbered = [{key for key in keys if key.startswith(statistics)} for keys in (own, weights)]
    renumbered = numbered[0] != numbered[1]  # feedback that enters elsewhere: the same number is another BatchNorm's
    if renumbered:
        weights = {key: value for key, value in weights.items() if key not in numbered[1]}
    others = {key: value for key, value in weights.items() if key in own and own[key].shape != value.shape}
    report = model.load_state_dict({k: v for k, v in weights.items() if k not in others}, strict=False)
    if renumbered:
        reset_statistics(model)
    said = [f"{key}: {tuple(v.shape)} (saved) -> {tuple(own[key].shape)} (model)" for key, v in others.items()]
    said += [f"{key}: not saved" for key in report.missing_keys if key not in others]
    said += [f"{key}: saved, and not in this model" for key in report.unexpected_keys]
    if said:
        listed = "\n".join(f" - {line}" for line in said)
        warnings.warn(f"Mismatched keys, left as the model was made; train them:\n{listed}", UserWarning, stacklevel=4)
