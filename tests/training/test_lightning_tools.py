"""Lightning's own tools around our modules: averaging, finders, loading; they do what they say, or are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
import lightning
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.tuner import Tuner
from torch.optim.lr_scheduler import OneCycleLR

import smp_feedback as smpf
from smp_feedback.data import Shapes
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.surgery.step_batchnorm import StatisticsPerStep
from smp_feedback.training import FeedbackModule, PairsModule
from smp_feedback.training.callbacks import check_averaging
from smp_feedback.training.checkpoints import KeepsBest
from smp_feedback.training.denoising import DenoisingModule
from smp_feedback.training.quiet import quiet
from smp_feedback.training.trainer import build_trainer

pytestmark = pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch", "ignore:.*many workers")


class Small(nn.Module):
    """A convolution, a BatchNorm and a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)

    def forward_features(self, image):
        return self.norm(self.stem(image)).relu()

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def small():
    torch.manual_seed(0)
    return smpf.wrap(Small(), smpf.Recurrent(steps=2, feedback_init=0.3))


class Rates(Callback):
    """The learning rate of each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, *_):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def trainer(tmp_path, *callbacks, **settings):
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    usual = {"max_epochs": 2, "accelerator": "cpu", "default_root_dir": tmp_path, "log_every_n_steps": 1}
    return lightning.Trainer(**{**usual, **silent, **settings}, callbacks=[*callbacks])


def pairs(count=8, batch_size=2):
    return PairsModule(Shapes(count, 16), val=Shapes(2, 16, seed=1), batch_size=batch_size)


def run(tmp_path, *callbacks, count=8, epochs=2, **training):
    """The module, its data and each step's learning rate, after a run with *callbacks*."""
    module, data, rates = FeedbackModule(small(), classes=3, **training), pairs(count), Rates()
    with quiet():
        trainer(tmp_path, *callbacks, rates, max_epochs=epochs).fit(module, data)
    return module, data, rates.seen


def cycle(steps, peak=1e-3):
    """The rates of one cycle over so many steps."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule, rates = OneCycleLR(optimizer, peak, total_steps=steps), []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    return pytest.approx(rates)


# --- averaging


def test_averaging_over_epochs_leaves_the_mean_and_each_steps_own_statistics(tmp_path):
    """The weights are the mean of those before epochs 1 and 2, the statistics what a pass without learning finds."""
    kept, inputs = [], {}

    class Watch(Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch in (1, 2):
                kept.append([p.detach().clone() for p in module.parameters()])
            if trainer.current_epoch == 3:  # Lightning's own, for BatchNorm
                for name, norm in module.model.named_modules():
                    if isinstance(norm, StatisticsPerStep):
                        norm.register_forward_pre_hook(lambda _, x, name=name: inputs.setdefault(name, []).append(x[0]))

    averaging = StochasticWeightAveraging(1e-2, swa_epoch_start=2)
    module, _, rates = run(tmp_path, Watch(), averaging, epochs=3)
    assert rates[:4] == cycle(12).expected[:4], "one cycle of the run's own length, until averaging begins"
    for got, *each in zip(module.parameters(), *kept, strict=True):
        torch.testing.assert_close(got, sum(each) / 2)
    norms = {n: m for n, m in module.model.named_modules() if isinstance(m, StatisticsPerStep)}
    assert norms.keys() == inputs.keys() != set()
    for name, norm in norms.items():
        seen = inputs[name][: 4 * 2]  # 4 batches, each looked at twice
        for step in range(2):
            mean = torch.stack([x.mean((0, 2, 3)) for x in seen[step::2]]).mean(0)
            var = torch.stack([x.var((0, 2, 3)) for x in seen[step::2]]).mean(0)
            row = norm.rows[0].row(step)
            torch.testing.assert_close(row["running_mean"], mean)
            torch.testing.assert_close(row["running_var"], var)
        assert norm.momentum == 0.1


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"backward": "per_step"}, "backward='per_step' steps its optimiser itself.*ema=0.999"),
        ({"ema": 0.9}, "ema=0.9 averages already"),
    ],
)
def test_averaging_that_would_do_something_else_is_refused(training, says, tmp_path):
    with pytest.raises(InvalidValue, match=f"StochasticWeightAveraging: {says}"):
        run(tmp_path, StochasticWeightAveraging(1e-2, swa_epoch_start=1), **training)


def test_modules_that_set_their_rates_themselves_are_not_averaged(tmp_path):
    module = DenoisingModule.__new__(DenoisingModule)
    lightning.LightningModule.__init__(module)
    module.trainer = trainer(tmp_path, StochasticWeightAveraging(1e-2))
    with pytest.raises(InvalidValue, match="DenoisingModule sets its learning rates itself"):
        check_averaging(module)


def test_a_run_that_keeps_its_best_weights_names_its_own_average(tmp_path):
    settings = {"callbacks": [StochasticWeightAveraging(1e-2)], "accelerator": "cpu"}
    with pytest.raises(InvalidValue, match=r"trainer.callbacks: StochasticWeightAveraging .* model.ema 0.999"):
        build_trainer(settings, tmp_path, [KeepsBest(tmp_path, "val_miou")])


# --- finders


@pytest.mark.parametrize(
    "training", [{}, *(pytest.param(one, marks=pytest.mark.sweep) for one in ({"backward": "per_step"}, {"ema": 0.9}))]
)
def test_a_run_that_looks_for_its_batch_size_has_one_cycle_over_its_own_steps(training, tmp_path):
    finder = BatchSizeFinder(max_trials=2, steps_per_trial=3)
    _, data, rates = run(tmp_path, finder, **training)
    assert data.batch_size == 4
    assert rates == cycle(2 * 8 // 4)


@pytest.mark.parametrize("mode", ["power", pytest.param("binsearch", marks=pytest.mark.sweep)])
def test_a_batch_size_is_found_up_to_the_number_of_images(mode, tmp_path):
    module, data = FeedbackModule(small(), classes=3), pairs(10)
    with quiet(), pytest.warns(UserWarning, match="batch_size=16: there are 10 training images, so it is 10"):
        found = Tuner(trainer(tmp_path)).scale_batch_size(module, datamodule=data, mode=mode, steps_per_trial=1)
    assert found == data.batch_size
    assert 9 <= found <= 10
    assert not list(tmp_path.iterdir())


def test_a_found_rate_is_the_peak_of_the_cycle(tmp_path):
    finder = LearningRateFinder(num_training_steps=30, early_stop_threshold=None)
    module, _, rates = run(tmp_path, finder, count=32)
    assert module.lr != 1e-3
    assert rates == cycle(32, module.lr)


def test_what_is_resumed_must_still_be_the_same(tmp_path):
    module, data = FeedbackModule(small(), classes=3), pairs()
    with quiet():
        first = trainer(tmp_path, max_epochs=1)
        first.fit(module, data)
        first.save_checkpoint(tmp_path / "last.ckpt")
        with pytest.raises(InvalidValue, match=r"a run of 8 steps: the run to resume has one cycle .* over 4"):
            trainer(tmp_path).fit(FeedbackModule(small(), classes=3), pairs(), ckpt_path=tmp_path / "last.ckpt")
        with pytest.raises(InvalidValue, match="batch_size=4: the run to resume has batch_size=2"):
            trainer(tmp_path).fit(
                FeedbackModule(small(), classes=3), pairs(batch_size=4), ckpt_path=tmp_path / "last.ckpt"
            )


def test_a_module_that_was_validated_can_be_trained(tmp_path):
    module, data = FeedbackModule(small(), classes=3), pairs()
    with quiet():
        scored = trainer(tmp_path).validate(module, data, verbose=False)
        trainer(tmp_path, max_epochs=1).fit(module, data)
        assert trainer(tmp_path).validate(module, data, verbose=False)[0].keys() == scored[0].keys()


# --- loading


def test_loading_a_checkpoint_says_what_to_use_or_takes_the_model(tmp_path):
    module = FeedbackModule(small(), classes=3)
    with quiet():
        one = trainer(tmp_path, fast_dev_run=True)
        one.fit(module, pairs())
        one.save_checkpoint(tmp_path / "best.ckpt")
    with pytest.raises(InvalidType, match=rf"needs model=.*from_pretrained\('{tmp_path}/model'\).*model=create"):
        FeedbackModule.load_from_checkpoint(tmp_path / "best.ckpt")
    again = FeedbackModule.load_from_checkpoint(tmp_path / "best.ckpt", model=small(), classes=3)
    wanted = module.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in again.state_dict().items())
