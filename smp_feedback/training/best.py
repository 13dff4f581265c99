"""The best weights of a run, in one file, and when to look for better ones no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

BEST = "best.ckpt"


class KeepsBest(ModelCheckpoint):
    """Keeps ``best.ckpt``, one file: what a killed run left is replaced, and a run that was moved knows its own.

    Args:
        folder: Where it goes.
        monitor: The score that is to be high.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        options: dict[str, Any] = {"save_on_train_epoch_end": False, "enable_version_counter": False}
        super().__init__(folder, Path(BEST).stem, monitor, mode="max", **options)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The paths of *state_dict* where the run is now; Lightning would forget the best score of a moved run."""
        best = {str(self._here(path)): score for path, score in state_dict["best_k_models"].items()}
        paths = {key: state_dict[key] and self._here(state_dict[key]) for key in state_dict if key.endswith("_path")}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        return str(Path(cast(str, self.dirpath), Path(path).name))


class StopsEarly(EarlyStopping):
    """Ends a run after *patience* validations without a better score; one that has ended so stays as it is.

    Args:
        monitor: The score that is to be high.
        patience: Validations.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        # after validations alone: an epoch that max_steps cuts short has no score
        super().__init__(monitor, patience=patience, mode="max", check_on_train_epoch_end=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """All but the patience, which is asked for anew."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Lightning would train another epoch at each resume."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
