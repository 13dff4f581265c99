"""To disk and to the hub and back, as smp's models go."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

from huggingface_hub import ModelCard, ModelHubMixin
from torch import nn

from smp_feedback.checks import at_home
from smp_feedback.config.data import DataConfig
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue
from smp_feedback.models.normalisation import given_config
from smp_feedback.models.preprocess import own_preprocess, preprocess_of
from smp_feedback.saving.answers import check_answers
from smp_feedback.saving.card import model_card
from smp_feedback.saving.described import described
from smp_feedback.saving.files import Source
from smp_feedback.saving.loading import from_pretrained
from smp_feedback.saving.saved import describe, write_saved
from smp_feedback.saving.weights import base_name
from smp_feedback.surgery.cuts import cut_name
from smp_feedback.surgery.head import channels_of

M = TypeVar("M", bound="OnDisk")


class OnDisk(nn.Module):
    """What smp's models have from huggingface_hub, for every looping model, of smp or not."""

    feedback: Any

    def save_pretrained(
        self,
        save_directory: Source,
        *,
        config: None = None,
        dataset: Any = None,
        metrics: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> Path | str:
        """Write ``config.json``, ``model.safetensors`` and a model card; called as smp's.

        A crash at any moment leaves a directory that loads as the old model or, once all is written, as the new one.
        A ``README.md`` that somebody wrote is kept.

        Args:
            save_directory: The directory; made if need be.
            config: None. ``config.json`` says how to build the model again, so another cannot take its place.
            dataset: What it was trained or measured on, for the card.
            metrics: Names and values, for the card.
            repo_id: The repository to push to; the directory's name if None.
            push_to_hub: Whether to upload it as well.
            model_card_kwargs: More for the card, see :func:`smp_feedback.saving.card.model_card`: ``license="mit"``.
            **push_to_hub_kwargs: As :meth:`push_to_hub` takes them.

        Returns:
            The directory; if pushed, the commit's url.

        Raises:
            FeedbackError: If the model was wrapped around a base that no registered name can rebuild, parts of it were
                replaced by what its arguments cannot say, one of them cannot be written as JSON, or what they build
                answers a small image otherwise than this model does.
            InvalidType, InvalidValue: If *config* is given, or *save_directory* is no directory.

        >>> import tempfile, smp_feedback as smpf
        >>> model = smpf.create("Unet", encoder="resnet18", encoder_weights=None)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = model.save_pretrained(folder, dataset="CamVid", metrics={"iou": 0.61})
        ...     sorted(path.name for path in saved.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
        """
        if config is not None:
            raise InvalidValue(
                "config=...: config.json says how to build this model again; metrics= and dataset= are free."
            )
        if push_to_hub_kwargs and not push_to_hub:
            raise InvalidType(f"{', '.join(push_to_hub_kwargs)}: only push_to_hub=True takes more keywords.")
        if not isinstance(save_directory, (str, PathLike)):
            raise InvalidType(f"{save_directory!r:.80} ({type(save_directory).__name__}): expected a directory.")
        folder = at_home(save_directory)
        if folder.exists() and not folder.is_dir():
            raise InvalidValue(f"{folder} is a file: expected a directory, or one that can be made.")
        facts = {"dataset": dataset, "metrics": metrics}
        about = {**(model_card_kwargs or {}), **{key: value for key, value in facts.items() if value is not None}}
        saved = self._described()
        card = model_card(saved, **about)
        check_answers(self, saved)
        folder.mkdir(parents=True, exist_ok=True)
        write_saved(folder, saved, self, str(card))
        if not push_to_hub:
            return folder
        return self.push_to_hub(repo_id or folder.name, model_card_kwargs=about, **push_to_hub_kwargs)

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: Mapping[str, Any] | None = None, **how: Any) -> str:
        """Upload what :meth:`save_pretrained` writes, in one commit.

        Args:
            repo_id: ``owner/name``; made if need be.
            model_card_kwargs: As for :meth:`save_pretrained`, ``dataset`` and ``metrics`` too.
            **how: As ``huggingface_hub.ModelHubMixin.push_to_hub`` takes them: ``commit_message``, ``private``,
                ``token``, ``branch``, ``create_pr``, ``allow_patterns``, ``ignore_patterns``, ``delete_patterns``.

        Returns:
            The commit's url.
        """
        about = {"source": repo_id, **(model_card_kwargs or {})}
        return ModelHubMixin.push_to_hub(cast(Any, self), repo_id, model_card_kwargs=about, **how)

    def generate_model_card(self, **about: Any) -> ModelCard:
        """The card alone; *about* as ``model_card_kwargs`` of :meth:`save_pretrained`."""
        return model_card(self._described(), **about)

    @classmethod
    def from_pretrained(cls: type[M], source: Source, **how: Any) -> M:
        """As :func:`smp_feedback.from_pretrained`; an error if *source* holds a model of another class.

        Raises:
            InvalidType: If it does.
        """
        model = from_pretrained(source, **how)
        if not isinstance(model, cls):
            raise InvalidType(
                f"{source} holds a {type(model).__name__}, no {cls.__name__}; smp_feedback.from_pretrained loads any."
            )
        return model

    def _described(self) -> dict[str, Any]:
        if self.feedback.origin is None:
            raise FeedbackError(
                f"{base_name(self)} was wrapped, and no registered architecture builds it: register one, or save "
                "state_dict() and wrap the base again."
            )
        return describe(described(self), self.feedback.config.to_dict(), self.data_config, cut_name(self))

    @property
    def data_config(self) -> DataConfig:
        """What the model expects of its images, and what its answers mean; saved with it, and free to be set.

        ``create`` with pretrained weights gives the mean and std that their encoder was trained with, and leaves images
        as they are with random ones; ``smp-feedback fit`` says all of it. Of a model that somebody else made it is what
        smp's, timm's or torchvision's own recipe would be, see
        :func:`smp_feedback.models.normalisation.given_config`.
        """
        return given_config(self).config

    @data_config.setter
    def data_config(self, config: DataConfig) -> None:
        if not isinstance(config, DataConfig):
            raise InvalidType(f"data_config={config!r:.80}: expected a smp_feedback.DataConfig.")
        vars(self)["data_config"] = _fitted(self, config)

    @property
    def preprocess(self) -> Any:
        """An image as this model wants it: a torchvision v2 transform, see `smp_feedback.models.preprocess.Preprocess`.

        A base that has a ``preprocess`` of its own goes on having it.
        """
        return own_preprocess(self) or preprocess_of(self)


def _fitted(model: Any, config: DataConfig) -> DataConfig:
    """*config* as it is set, of images in the channels that *model* takes of them, and of the classes that it answers.

    One that leaves images as they are is of any channels.

    Raises:
        InvalidValue: If its mean is of other channels, or it names other classes than there are.
    """
    takes, answers, names = model.feedback.in_channels - config.beside, channels_of(model), len(config.classes)
    if config.mean is None:
        config = config.with_channels(takes)
    if config.channels != takes:
        raise InvalidValue(f"channels={config.channels}: expected {takes}, which this {type(model).__name__} takes.")
    if names and config.task != "classification" and answers not in (None, names) and (answers, names) != (1, 2):
        raise InvalidValue(
            f"classes={list(config.classes)}: {names} names; expected {answers}, the channels that this "
            f"{type(model).__name__} answers in."
        )
    return config
