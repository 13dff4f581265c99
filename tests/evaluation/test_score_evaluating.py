"""Before, after one pass, and after iterative inference: scores, table, pictures, held to the model itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import smp_feedback as smpf
from smp_feedback.cli.tables import refined_table
from smp_feedback.data import Shapes
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue
from smp_feedback.evaluation import evaluate, evaluate_score, load_result, save_result, score_loop, tune
from smp_feedback.loops.score.state import Begun

TINY = smpf.Score(filters=8, additional_pools=1, features=("stage:2",), steps=3, step=0.5)
BASE = {"encoder": "tu-test_resnet", "encoder_weights": None, "decoder_channels": (16, 16, 8, 8, 8)}


def refined(feedback=TINY, classes=3):
    return smpf.create("Unet", classes=classes, feedback=feedback, **BASE).eval()


class Answer(nn.Module):
    """One of the three answers of a model, asked for as anybody would."""

    def __init__(self, model, which):
        super().__init__()
        self.model, self.which = model, which

    def forward(self, image):
        if self.which == "one pass":
            begun = self.model.begin(image)
            return self.model.reconstruct(begun.y, begun.features)
        return self.model(image, steps=0) if self.which == "before" else self.model(image)


@pytest.mark.parametrize("classes", [1, 3])
def test_each_answer_is_scored_as_evaluate_scores_the_model(classes):
    k = max(2, classes)
    model = refined(classes=classes)
    data = [(image, mask.clamp(max=k - 1)) for image, mask in (Shapes(5, 32)[i] for i in range(5))]
    found = evaluate_score(model, data, classes=k, batch_size=2)
    for name, score in (("before", found.before), ("one pass", found.once), ("after", found.after)):
        wanted = evaluate(Answer(model, name), data, classes=k, batch_size=2).last
        assert (score.score, score.accuracy, score.per_class) == (wanted.score, wanted.accuracy, wanted.per_class)
    assert (found.step, found.steps, found.after.looks) == (0.5, 3, 3)
    assert len({found.before.score, found.once.score, found.after.score}) == 3, "they say the same"


def test_scores_are_counts_of_pixels_void_left_out():
    model, (image, mask) = refined(), Shapes(1, 32)[0]
    mask = mask.clone()
    mask[:9] = 255
    found = evaluate_score(model, [(image, mask)], classes=3, ignore_index=255)
    with torch.no_grad():
        said = model(image[None]).argmax(1)[0, 9:]
    target = mask[9:]
    assert found.after.accuracy == pytest.approx(float((said == target).float().mean()))
    for k, iou in enumerate(found.after.per_class):
        both, either = ((said == k) & (target == k)).sum(), ((said == k) | (target == k)).sum()
        assert iou == (pytest.approx(float(both / either)) if either else None)


def test_one_pass_of_the_base_a_batch_and_one_of_the_autoencoder_beside_the_updates():
    model, base, autoencoder = refined(smpf.Score(**{**vars(TINY), "tolerance": None})), [], []
    model.encoder.register_forward_hook(lambda *_: base.append(1))
    model.feedback.autoencoder.register_forward_hook(lambda *_: autoencoder.append(1))
    evaluate_score(model, Shapes(5, 32), classes=3, batch_size=2)
    assert (len(base), len(autoencoder)) == (3, 3 * (1 + 3))


def test_without_updates_the_base_is_what_is_left():
    found = evaluate_score(refined().choose(step=0.1, steps=0), Shapes(3, 32), classes=3)
    assert found.after == found.before
    assert found.once != found.before


def test_a_planted_autoencoder_mends_everything():
    class Truth(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def condition(self, features, size):
            return features

        def forward(self, y, conditions):
            return 50 * conditions[0]

    masks = [torch.randint(3, (32, 32)) for _ in range(3)]
    data = [(F.one_hot(mask, 3).movedim(-1, 0).float(), mask) for mask in masks]
    model = refined(smpf.Score(filters=8, features=("input",), steps=9, step=0.3))
    model.feedback.autoencoder = Truth()
    found = evaluate_score(model, data, classes=3)
    assert found.before.score < 0.5
    assert found.once.score == found.after.score == found.after.accuracy == 1.0


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"classes": 11}, InvalidValue, "classes=11: this model's base tells 3"),
        ({"data": []}, InvalidValue, "data is empty"),
        ({"model": nn.Conv2d(3, 3, 1)}, InvalidType, "expected one with a score loop"),
        ({"data": [(torch.rand(3, 32, 32), torch.full((32, 32), 255))]}, InvalidInput, "every label is ignored"),
        (
            {"data": [(torch.full((3, 32, 32), torch.inf), torch.zeros(32, 32).long())]},
            InvalidInput,
            "item 0: NaN or inf",
        ),
    ],
)
def test_bad_arguments_are_refused(told, error, words):
    arguments = {"model": refined(), "data": Shapes(2, 32), "classes": 3, "ignore_index": 255, **told}
    with pytest.raises(error, match=words):
        evaluate_score(arguments.pop("model"), arguments.pop("data"), **arguments)


# --- shown


def test_the_table_says_what_was_counted():
    pytest.importorskip("lightning")
    from smp_feedback.cli.tables import refined_table

    found = evaluate_score(refined(), Shapes(3, 32), classes=3)
    table = refined_table(found, ("none", "circle", "square"), "title")
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    scores = found.before, found.once, found.after
    assert [row[0] for row in rows] == ["none", "circle", "square", "mIoU", "accuracy", "solved", "calibration error"]
    assert rows[3][1:] == tuple(f"{100 * score.score:.1f}" for score in scores)
    assert rows[4][1:] == tuple(f"{100 * score.accuracy:.1f}" for score in scores)
    assert rows[5][1:] == tuple(f"{100 * score.solved:.1f}" for score in scores)
    for k in range(3):
        ious = [score.per_class[k] for score in scores]
        assert rows[k][1:] == tuple("-" if iou is None else f"{100 * iou:.1f}" for iou in ious)


def test_the_scores_are_kept_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from smp_feedback.plotting.plot import plot

    found = evaluate_score(refined(), Shapes(3, 32), classes=3)
    path = save_result(found.result(("none", "circle", "square")), tmp_path / "scores.json")
    kept = load_result(path)
    assert [(row["model"], row["score"]) for row in kept["rows"]] == [
        ("before", found.before.score),
        ("one pass", found.once.score),
        ("after", found.after.score),
    ]
    assert (kept["step"], kept["steps"]) == (0.5, 3)
    assert list(plot([path])) == [tmp_path / "scores-classes.png"]


def test_the_pictures_show_every_answer_and_where_it_changed(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from smp_feedback.plotting import pictures

    model, drawn = refined(), []
    model.begin = lambda image: Begun(9 * image, None, (9 * image).softmax(1), (image,))

    class Turned(nn.Module):
        def condition(self, features, size):
            return features

        def forward(self, y, conditions):
            return 9 * conditions[0].roll(1, 1)

    model.feedback.autoencoder = Turned()
    model.feedback.autoencoder.weight = nn.Parameter(torch.zeros(()))
    model.choose(step=1.0, steps=1)
    mask = torch.arange(3).repeat_interleave(12).view(6, 6)
    image = F.one_hot(mask, 3).movedim(-1, 0).float()  # the base says the mask, the autoencoder the class after
    save = pictures.grid
    monkeypatch.setattr(pictures, "grid", lambda rows, path: drawn.extend(rows) or save(rows, path))
    path = pictures.refined(model, [(image, torch.where(mask == 2, 255, mask))], tmp_path / "some.png", classes=3)
    assert path.read_bytes().startswith(b"\x89PNG")
    (row,) = drawn
    shown = dict(row)
    assert list(shown)[:5] == ["input", "truth", "before", "one pass", "after"]
    after = (mask + 1) % 3
    np.testing.assert_array_equal(shown["before"], pictures.colours(mask, 3))
    np.testing.assert_array_equal(shown["one pass"], pictures.colours(after, 3))
    np.testing.assert_array_equal(shown["after"], pictures.colours(after, 3))
    spoilt, nothing = (213, 94, 0), (255, 255, 255)
    wanted = [[spoilt if label < 2 else nothing for label in line] for line in mask.tolist()]
    np.testing.assert_array_equal(row[5][1], wanted)


def test_a_dense_crf_is_one_more_column(monkeypatch):
    seen = []

    def mended(y, image):  # stands for the library, which may not be installed
        seen.append((y, image))
        return y.flip(1)

    monkeypatch.setattr(score_loop, "dense_crf", mended)
    model, data = refined(), Shapes(3, 32)
    found = evaluate_score(model, data, classes=3, batch_size=2, crf=True)
    assert [len(y) for y, _ in seen] == [2, 1]
    assert torch.equal(torch.cat([image for _, image in seen]), torch.stack([image for image, _ in data]))
    base = [model.begin(image[None]).logits.detach() for image, _ in data]
    flipped = torch.cat([logits.flip(1).argmax(1) for logits in base])
    right = (flipped == torch.stack([mask for _, mask in data])).double().mean()
    assert found.crf.accuracy == pytest.approx(float(right))
    assert [*found.answers] == ["before", "one pass", "after", "dense CRF"]
    assert [row["model"] for row in found.result(("a", "b", "c"))["rows"]] == [*found.answers]
    table = refined_table(found, ("a", "b", "c"), "title")
    assert [column.header for column in table.columns][-1] == "dense CRF"


def test_the_base_of_one_channel_is_scored_alike_by_all_that_score():
    torch.manual_seed(0)
    more = {"encoder_depth": 3, "decoder_channels": (16, 8, 8), "classes": 1}
    base = smpf.create("Unet", "tu-test_resnet.r160_in1k", None, feedback=False, **more).eval()
    data = [(torch.rand(3, 32, 32), torch.randint(0, 2, (32, 32))) for _ in range(2)]
    wanted = evaluate(base, data, classes=2).last
    model = smpf.wrap(base, smpf.Score(filters=4, additional_pools=1, features=("stage:2",), steps=0))
    found = evaluate_score(model, [{"image": image, "mask": mask[None].byte()} for image, mask in data], classes=2)
    assert found.before.score == pytest.approx(wanted.score, abs=1e-6)
    assert found.after.score == found.before.score
    assert found.before.nll == pytest.approx(wanted.nll, rel=1e-5)
    assert tune(model, data, classes=2, most=1, step_sizes=[0.1]).base == pytest.approx(wanted.score, abs=1e-6)
