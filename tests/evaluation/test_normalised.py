"""A model is shown what it was trained on, by every path: raw images of our datasets are normalised, once."""

from __future__ import annotations

import copy
import math

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchvision.transforms import v2

import smp_feedback as smpf
from smp_feedback import DataConfig
from smp_feedback.data import Corrupted, MaskFolder, Shapes, Triplets, check_dataset
from smp_feedback.data.feeding import feeding, is_raw
from smp_feedback.data.items import in_unit
from smp_feedback.errors import InvalidInput
from smp_feedback.evaluation import evaluate, evaluate_score, robustness, stability, tune
from smp_feedback.evaluation.restoration_loop import evaluate_restoration
from smp_feedback.training import DenoisingModule, FeedbackModule, PairsModule, RestorationModule, TripletsModule
from smp_feedback.training.quiet import quiet

CONFIG = DataConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TINY = {"encoder_depth": 3, "decoder_channels": (16, 8, 8), "classes": 3}
LOOPS = {
    "recurrent": smpf.Recurrent(steps=2),
    "score": smpf.Score(filters=4, additional_pools=1, steps=1),
    "restoration": smpf.Restoration(steps=1, depth=2, filters=4),
    "plain": False,
}


@pytest.fixture(scope="module")
def models():
    """A model of each loop, whose answers depend on how images are normalised."""
    made = {}
    for name, loop in LOOPS.items():
        torch.manual_seed(3)
        model = smpf.create("Unet", "tu-test_resnet.r160_in1k", None, feedback=loop, **TINY).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
        model.data_config = CONFIG
        made[name] = model
    return made


def plainly(model):
    """*model*, shown images as they are."""
    model = copy.deepcopy(model)
    model.data_config = DataConfig()
    return model


def shapes(count=3):
    return Shapes(count, size=32, seed=5)


def by_hand(data):
    """The items of *data*, their images normalised by somebody else: torchvision."""
    normalise = v2.Normalize(CONFIG.mean, CONFIG.std)
    return [(*map(normalise, item[:-1]), item[-1]) for item in data]


def close(one, other):
    assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_dataset_of_ours_scores_what_a_list_normalised_by_hand_scores(models, loop):
    found = evaluate(models[loop], shapes(), classes=3).last
    close(found.ece, evaluate(models[loop], by_hand(shapes()), classes=3).last.ece)
    raw = evaluate(plainly(models[loop]), shapes(), classes=3).last
    assert found.ece != pytest.approx(raw.ece, abs=1e-5), "or nothing was tested"
    with pytest.warns(UserWarning, match="their list does not say"):
        close(raw.ece, evaluate(models[loop], list(shapes()), classes=3).last.ece)


def test_wrappers_hand_on_what_their_dataset_says(models):
    wrapped = Subset(Corrupted(shapes(), "contrast", 3), [0, 2])
    assert is_raw(wrapped)
    assert is_raw(Triplets(shapes()))
    assert not is_raw([1])
    found = evaluate(models["plain"], wrapped, classes=3).last
    close(found.ece, evaluate(models["plain"], by_hand(wrapped), classes=3).last.ece)
    rows = robustness({"m": models["plain"]}, shapes(), classes=3, corruptions=["contrast"], severities=[2])["rows"]
    spoilt = by_hand(Corrupted(shapes(), "contrast", 2))
    close(rows[1]["ece"], evaluate(models["plain"], spoilt, classes=3).last.ece)


def test_refining_and_tuning_show_the_base_what_it_knows(models):
    model, by_torchvision = models["score"], by_hand(shapes())
    found, wanted = (evaluate_score(model, data, classes=3) for data in (shapes(), by_torchvision))
    for name, score in found.answers.items():
        close(score.ece, wanted.answers[name].ece)
    assert found.before.ece != pytest.approx(evaluate_score(plainly(model), shapes(), classes=3).before.ece, abs=1e-5)
    how = {"classes": 3, "step_sizes": [0.5], "most": 2}
    assert tune(model, shapes(), **how).miou[0] == pytest.approx(tune(model, by_torchvision, **how).miou[0], abs=1e-5)


def test_restoring_is_told_in_the_values_of_the_images(models):
    triplets = Triplets(shapes(), "gaussian_noise", 2)
    found = evaluate_restoration(models["restoration"], triplets, classes=3)
    wanted = evaluate_restoration(models["restoration"], by_hand(triplets), classes=3)
    for one, other in zip(found.seen, wanted.seen, strict=True):
        close(one.score.ece, other.score.ece)
    raw = evaluate_restoration(plainly(models["restoration"]), triplets, classes=3)
    assert math.isinf(found.of("clean").psnr)
    for name in ("psnr", "l1"):
        assert getattr(found.of("distorted"), name) == getattr(raw.of("distorted"), name)
    assert found.of("restored").psnr == pytest.approx(found.of("distorted").psnr, abs=0.05), "an untrained R"


def test_the_path_of_a_dataset_is_that_of_its_normalised_images(models):
    model = models["recurrent"]
    found, wanted = (stability(model, data, looks=3) for data in (shapes(), [item[0] for item in by_hand(shapes())]))
    np.testing.assert_allclose(found["change"], wanted["change"], rtol=1e-3)
    raw = stability(plainly(model), [item[0] for item in shapes()], looks=3)
    assert np.abs(np.array(found["change"]) - raw["change"]).max() > 1e-3


@pytest.mark.parametrize("kind", ["refinement", "uncertainty", "refined", "restored"])
def test_pictures_show_the_image_and_the_answer_to_its_normalisation(models, kind, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from smp_feedback.plotting import pictures

    drawn = []
    monkeypatch.setattr(pictures, "grid", lambda rows, path, **_: drawn.append(rows) or path)
    of = {"refined": "score", "restored": "restoration"}.get(kind, "recurrent")
    model = models[of] if kind in ("refined", "restored") else {"m": models[of]}
    image, mask = shapes()[0]
    sample = (image, image, mask) if kind == "restored" else (image, mask)
    getattr(pictures, kind)(model, [sample], tmp_path / "a.png", classes=3)
    row = dict(drawn[0][0])
    shown = row["clean" if kind == "restored" else "input"]
    np.testing.assert_allclose(shown, image.permute(1, 2, 0), atol=1e-6)
    answer = {"refinement": "m, look 2", "uncertainty": "m", "refined": "before", "restored": "of clean"}[kind]
    inner = models[of]
    with torch.no_grad():
        logits = {"before": lambda x: inner.begin(x).logits, "of clean": lambda x: inner.segment(x)}.get(answer, inner)
        expected = logits(CONFIG.normalise(image[None]))[0].argmax(0)
    assert (row[answer] == pictures.colours(expected, 3)).all()
    if kind == "restored":
        np.testing.assert_allclose(row["restored, step 1"], row["clean"], atol=1e-3)


# --- training


def trainer(**more):
    told = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
    return lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **{**told, **more})


MODULES = {
    "recurrent": lambda model: FeedbackModule(model, classes=3),
    "plain": lambda model: FeedbackModule(model, classes=3),
    "score": lambda model: DenoisingModule(model, classes=3),
    "restoration": lambda model: RestorationModule(model, classes=3, loss="cross_entropy", class_weights=None),
}


def validated(loop, model, loader):
    """What Lightning logs of *model* on the val images; a data module or a loader of anybody's."""
    module = MODULES[loop](model)
    with quiet():
        return {k: float(v) for k, v in trainer().validate(module, loader, verbose=False)[0].items()}


@pytest.mark.parametrize("loop", MODULES)
def test_validation_is_what_evaluate_says(models, loop):
    model = models[loop]
    if loop == "restoration":
        triplets = Triplets(shapes(), "gaussian_noise", 2)
        logged = validated(loop, model, TripletsModule(val=triplets, batch_size=2))
        scores = evaluate_restoration(model, triplets, classes=3)
        close(logged["val_miou"], scores.last.score.score)
        close(logged["val_l1"], scores.last.l1)
        plain = validated(loop, model, DataLoader(triplets, 3))
        assert plain["val_loss"] == pytest.approx(logged["val_loss"], rel=1e-3)
        return
    logged = validated(loop, model, PairsModule(val=shapes(), batch_size=2))
    close(
        logged["val_miou"],
        evaluate_score(model, shapes(), classes=3).once.score
        if loop == "score"
        else evaluate(model, shapes(), classes=3).last.score,
    )
    one, other = (validated(loop, model, DataLoader(data, 3)) for data in (shapes(), by_hand(shapes())))
    assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    assert validated(loop, plainly(model), DataLoader(list(shapes()), 3))["val_loss"] != pytest.approx(
        one["val_loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("loop", "stage"), [*((loop, "fit") for loop in MODULES), ("recurrent", "predict"), ("plain", "predict")]
)
def test_the_first_convolution_is_fed_what_evaluate_feeds_it(models, loop, stage):
    """The batch of one constant grey: every value that reaches the model is (0.5 - mean) / std, in each stage."""

    class Grey(Shapes):
        def __getitem__(self, index):
            return torch.full((3, 32, 32), 0.5), super().__getitem__(index)[1]

    model = copy.deepcopy(models[loop])
    fed = []
    model.encoder.register_forward_pre_hook(lambda _, given: fed.append(given[0].detach()[:, :3].clone()))
    data = Grey(4, size=32)
    if loop == "restoration":
        pairs = TripletsModule(Triplets(data, "contrast", 0), val=Triplets(data, "contrast", 0), batch_size=2)
    else:
        pairs = PairsModule(data, val=data, test=data, batch_size=2)
    with quiet():
        getattr(trainer(), stage)(MODULES[loop](model), pairs)
    expected = torch.tensor([(0.5 - m) / s for m, s in zip(CONFIG.mean, CONFIG.std, strict=True)]).view(1, 3, 1, 1)
    assert fed
    if loop == "restoration":  # what R made of it, which begins as the identity and learns
        fed = fed[:1]
    for image in fed:
        torch.testing.assert_close(image, expected.expand_as(image), rtol=0, atol=1e-3)


def test_a_loader_after_a_data_module_is_shown_by_its_own_word(models):
    """A trainer goes on having the data module of the call before."""
    one, module = trainer(), FeedbackModule(models["plain"], classes=3)
    with quiet():
        expected = one.validate(module, PairsModule(val=shapes(), batch_size=3), verbose=False)[0]["val_loss"]
        for data in (shapes(), by_hand(shapes())):
            found = one.validate(module, DataLoader(data, 3), verbose=False)[0]["val_loss"]
            assert found == pytest.approx(expected, rel=1e-4)


def test_each_stage_asks_once_and_again_when_somebody_says_otherwise(models, monkeypatch):
    from smp_feedback.training import feeds

    asked, ask = [], feeds.config_for
    monkeypatch.setattr(feeds, "config_for", lambda model, data: asked.append(len(data)) or ask(model, data))
    module, one = FeedbackModule(copy.deepcopy(models["plain"]), classes=3), trainer(max_epochs=2)
    with quiet():
        one.fit(module, PairsModule(shapes(4), val=shapes(2), batch_size=1))
        assert sorted(asked) == [2, 4]
        module.model.data_config = DataConfig()
        raw, plain = (
            one.validate(module, DataLoader(data, 3), verbose=False)[0]["val_loss"]
            for data in (shapes(), list(shapes()))
        )
    assert raw == pytest.approx(plain, rel=1e-4)
    assert copy.deepcopy(module._feeds)._known == {}, "a copy holds on to nothing"


def test_a_module_of_anybody_is_fed_by_the_data_module(models):
    class Bare(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.seen = models["plain"], []

        def validation_step(self, batch, index):
            self.seen.append(batch[0])

    module = Bare()
    with quiet():
        trainer().validate(module, PairsModule(val=shapes(), batch_size=3), verbose=False)
    torch.testing.assert_close(module.seen[0], torch.stack([image for image, _ in by_hand(shapes())]))


def test_datasets_put_together_say_what_their_parts_say():
    assert is_raw(Subset(ConcatDataset([shapes(), Corrupted(shapes(), "contrast", 1)]), [0, 4]))
    assert not is_raw(ConcatDataset([[1], [2]]))
    with pytest.raises(InvalidInput, match="put together with others"):
        is_raw(ConcatDataset([shapes(), by_hand(shapes())]))


# --- what is assumed, and what is refused


def test_one_that_says_nothing_is_assumed_to_be_as_smp_shows_it_and_evaluate_says_so():
    import segmentation_models_pytorch as smp

    model = smp.Unet("tu-test_resnet.r160_in1k", encoder_weights=None, **TINY).eval()
    half = [((image - 0.5) / 0.5, mask) for image, mask in shapes()]
    for one in (model, smpf.wrap(model)):
        with pytest.warns(UserWarning, match=r"mean \[0.5, 0.5, 0.5\].*data_config = smp_feedback.DataConfig") as seen:
            found = evaluate(one, shapes(), classes=3).last
        assert len(seen) == 1
        close(found.ece, evaluate(one, half, classes=3).last.ece)
    model.data_config = DataConfig()
    close(evaluate(model, shapes(), classes=3).last.ece, evaluate(model, list(shapes()), classes=3).last.ece)


@pytest.fixture
def folder(tmp_path):
    for name, colour in ("train", (51, 102, 153)), ("trainannot", 1):
        (tmp_path / name).mkdir()
        Image.new("L" if name == "trainannot" else "RGB", (8, 6), colour).save(tmp_path / name / "street.png")
    return tmp_path


def test_a_file_reaches_the_model_with_the_golden_values(folder):
    class Seen(nn.Module):
        def forward(self, image):
            self.images = image
            return torch.zeros(len(image), 2, *image.shape[2:])

    model = Seen()
    model.data_config = CONFIG
    evaluate(model, MaskFolder(folder, classes=("a", "b"), ignore_index=None), classes=2)
    # (51 / 255 - 0.485) / 0.229, (102 / 255 - 0.456) / 0.224, (153 / 255 - 0.406) / 0.225
    torch.testing.assert_close(model.images[0, :, 5, 7], torch.tensor([-1.244541, -0.25, 0.862222]))


def test_a_dataset_that_normalises_is_refused_and_never_clipped(folder):
    told = {"classes": ("a", "b"), "ignore_index": None, "transform": v2.Normalize(CONFIG.mean, CONFIG.std)}
    data = MaskFolder(folder, **told)
    with pytest.raises(InvalidInput, match=r"street\.png: an image with values -1.245 to 0.8622, expected 0 to 1.*std"):
        data[0]
    with pytest.raises(InvalidInput, match=r"street\.png"):
        check_dataset(data)
    with pytest.raises(InvalidInput, match=r"street\.png"):
        Corrupted(data, "gaussian_noise", 1)[0]
    strangers = [(torch.full((3, 8, 8), -1.0), torch.zeros(8, 8).long())]
    with pytest.raises(InvalidInput, match="item 0: an image with values -1 to -1"):
        Corrupted(strangers, "gaussian_noise", 1)[0]
    assert Corrupted(strangers, "gaussian_noise", 0)[0][0].min() == -1, "left alone"
    data = Shapes(2, size=16, transform=v2.Normalize(CONFIG.mean, CONFIG.std))
    with pytest.raises(InvalidInput, match="coloured_shapes"):
        data[0]


@pytest.mark.parametrize(("value", "expected"), [(1.0000001, 1.0), (-1e-6, 0.0), (0.25, 0.25)])
def test_what_rounding_leaves_outside_is_clamped(value, expected):
    assert in_unit(torch.full((3, 2, 2), value), "x").unique().tolist() == [expected]


@pytest.mark.parametrize("value", [1.01, -0.01, float("nan"), float("inf")])
def test_what_is_outside_is_refused(value):
    with pytest.raises(InvalidInput, match="x: an image with values"):
        in_unit(torch.full((3, 2, 2), value), "x")


def test_a_model_without_a_mean_is_shown_the_very_tensor():
    image = torch.rand(1, 3, 4, 4)
    assert feeding(nn.Identity(), shapes())(image) is image


class Around:
    """A wrapper of a user's own, that keeps the dataset under *name*."""

    def __init__(self, dataset, name, change=lambda image: image):
        setattr(self, name, dataset)
        self._all, self._change = dataset, change

    def __len__(self):
        return len(self._all)

    def __getitem__(self, index):
        image, target = self._all[index]
        return self._change(image), target


def test_what_a_wrapper_does_to_images_and_does_not_say_is_not_passed_over(models):
    model, normalise = models["plain"], v2.Normalize(CONFIG.mean, CONFIG.std)
    with pytest.warns(UserWarning, match=r"in \[0, 1\], as if not yet normalised.*Around does not say"):
        evaluate(model, Around(shapes(), "ds"), classes=3)
    twice = Around(shapes(), "dataset", normalise)
    with pytest.raises(InvalidInput, match="says normalised = True of itself"):
        evaluate(model, twice, classes=3)
    twice.normalised = True
    close(evaluate(model, twice, classes=3).last.ece, evaluate(model, shapes(), classes=3).last.ece)
    evaluate(plainly(model), Around(shapes(), "dataset", normalise), classes=3)  # a model that leaves them as they are


@pytest.mark.parametrize("as_dictionaries", [False, True])
def test_a_trainer_looks_at_the_first_images_of_such_a_wrapper(models, as_dictionaries):
    module = FeedbackModule(copy.deepcopy(models["plain"]), classes=3)
    twice = Around(shapes(), "dataset", v2.Normalize(CONFIG.mean, CONFIG.std))

    def named(items):
        return dict(zip(("image", "mask"), map(torch.stack, zip(*items, strict=True)), strict=True))

    loader = DataLoader(twice, collate_fn=named if as_dictionaries else None)
    with pytest.raises(InvalidInput, match="says normalised = True of itself"), quiet():
        trainer().validate(module, loader, verbose=False)
