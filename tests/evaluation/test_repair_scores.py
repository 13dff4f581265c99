"""The base, the mended mask and its rivals in one table: each is what its own way gives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import smp_feedback as smpf
from smp_feedback.errors import InvalidType, InvalidValue
from smp_feedback.evaluation import evaluate, evaluate_repair, evaluate_score, load_result, save_result
from smp_feedback.testing.promises import hearing

DRAWN = torch.Generator().manual_seed(1)
DATA = [(torch.rand(3, 16, 16, generator=DRAWN), torch.randint(3, (16, 16), generator=DRAWN)) for _ in range(5)]
KEYS = "score", "accuracy", "solved", "ece", "per_class"


class Raw(list):
    """Images that nobody has normalised."""

    normalised = False


def wrapped(config):
    torch.manual_seed(0)
    return smpf.wrap(smpf.create("PlainConv", classes=3, width=4, feedback=False), config).eval()


def same(one, other):
    return all(getattr(one, key) == pytest.approx(getattr(other, key), nan_ok=True) for key in KEYS)


def test_each_answer_is_scored_as_it_is_alone(tmp_path):
    model = wrapped(smpf.Repair(steps=3, width=4))
    score = wrapped(smpf.Score(filters=4, additional_pools=1, features=("output",), steps=2, step=0.5))
    seen = []
    with hearing(model):
        found = evaluate_repair(
            model, DATA, classes=3, looks=[5, 2, 5], beside=score, batch_size=2, advance=lambda: seen.append(0)
        )
        assert [*found.answers] == ["base", "2 looks", "5 looks", "score loop"]
        assert len(seen) == 3
        rivals = evaluate_score(score, DATA, classes=3)
        two, five = evaluate(model, DATA, classes=3, looks=[2, 5])
    assert same(found.answers["base"], rivals.before)
    assert same(found.answers["2 looks"], two)
    assert same(found.answers["5 looks"], five)
    assert same(found.answers["score loop"], rivals.after)
    kept = load_result(save_result(found.result(["a", "b", "c"]), tmp_path / "scores.json"))
    assert [row["model"] for row in kept["rows"]] == [*found.answers]


def test_the_base_runs_once_however_many_looks_there_are():
    model, runs = wrapped(smpf.Repair(steps=3, width=4)), []
    model.convs[0].register_forward_hook(lambda *call: runs.append(len(call[1][0])))
    evaluate_repair(model, DATA, classes=3, looks=[1, 4], batch_size=5)
    assert runs == [5]


def test_images_are_shown_as_the_model_wants_them():
    model = wrapped(smpf.Repair(steps=3, width=4))
    plain = copy.deepcopy(model)
    model.data_config = smpf.DataConfig(mean=(0.0,) * 3, std=(0.5,) * 3)
    dark = Raw((image / 2, mask) for image, mask in DATA)
    with hearing(model):
        plain.load_state_dict(model.state_dict())
        found = evaluate_repair(model, dark, classes=3).answers
        by_hand = evaluate_repair(plain, DATA, classes=3).answers
        raw = evaluate_repair(plain, dark, classes=3).answers
    for name, score in found.items():
        assert same(score, by_hand[name])
    assert not same(found["3 looks"], raw["3 looks"])


@pytest.mark.parametrize(
    ("model", "told", "kind", "words"),
    [
        (nn.Conv2d(3, 3, 1), {}, InvalidType, "expected one with a repair loop"),
        ("repair", {"classes": 2}, InvalidValue, "classes=2"),
        ("repair", {"looks": []}, InvalidValue, r"looks=\[\]"),
        ("repair", {"looks": [0]}, InvalidValue, "looks=0"),
        ("repair", {"beside": nn.ReLU()}, InvalidType, "beside is a ReLU"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_any_work(model, told, kind, words):
    model = wrapped(smpf.Repair(width=4)) if model == "repair" else model
    with pytest.raises(kind, match=words):
        evaluate_repair(model, DATA, **{"classes": 3, **told})
