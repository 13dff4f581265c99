"""Clicks: how deep a pixel lies, where a simulated user clicks, what a model is shown of it, and what goes on."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import smp_feedback as smpf
from smp_feedback.config.clicks import ClickConfig
from smp_feedback.data import InstanceFolder, Objects, check_dataset, open_dataset
from smp_feedback.data.clicks.depth import depth
from smp_feedback.data.clicks.dialogue import damaged, dialogue, shifted
from smp_feedback.data.clicks.discs import discs
from smp_feedback.data.clicks.listening import how_of, listen
from smp_feedback.data.clicks.user import next_clicks, no_clicks
from smp_feedback.data.wrapped import films_of
from smp_feedback.errors import InvalidInput, InvalidType, InvalidValue, UnknownKeyword
from smp_feedback.evaluation import evaluate_clicks
from smp_feedback.evaluation.clicks import iou

NOTHING = torch.zeros(1, 9, 9, dtype=torch.bool)


def carrying(channels=5, **loop):
    torch.manual_seed(1)
    told = {"preset": "anytime", "steps": 1, "dynamics": "gated", "feedback_init": 0.5, **loop}
    return smpf.create("PlainConv", in_channels=channels, classes=1, width=8, feedback=told)


def square(top, left, side, size=9):
    mask = torch.zeros(1, size, size, dtype=torch.long)
    mask[:, top : top + side, left : left + side] = 1
    return mask


# --- depth and discs


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.3, 0.8, 1.0]))
def test_depth_is_the_distance_to_the_nearest_pixel_outside(seed, height, width, share):
    region = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share
    around = torch.nn.functional.pad(region, (1, 1, 1, 1))
    outside = (~around).nonzero().float()
    expected = torch.cdist((around | True).nonzero().float(), outside).amin(1).view(around.shape)[1:-1, 1:-1]
    torch.testing.assert_close(depth(region), expected, atol=1e-4, rtol=0)


def test_depth_is_what_the_benchmarks_take_from_opencv():
    regions = torch.rand(2, 3, 30, 40, generator=torch.Generator().manual_seed(0)) < 0.95
    for region, found in zip(regions.flatten(0, 1), depth(regions).flatten(0, 1), strict=True):
        padded = np.pad(region.numpy(), 1).astype(np.uint8)
        theirs = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        np.testing.assert_allclose(found.numpy(), theirs, atol=1e-4)


@given(st.integers(0, 10_000), st.integers(0, 4), st.sampled_from([0.25, 1, 2.5, 4]))
def test_a_disc_holds_the_pixels_within_its_radius(seed, count, radius):
    height, width = 8, 12
    rng = np.random.default_rng(seed)
    clicks = torch.tensor(
        [[[rng.integers(height), rng.integers(width), rng.integers(-1, 2)] for _ in range(count)]]
    ).view(1, count, 3)
    reach = radius * height if radius < 1 else radius
    expected = np.zeros((2, height, width))
    for y, x, sign in clicks[0].tolist():
        for row, column in np.ndindex(height, width):
            if sign and (row - y) ** 2 + (column - x) ** 2 <= reach**2:
                expected[0 if sign > 0 else 1, row, column] = 1
    np.testing.assert_array_equal(discs(clicks, (height, width), radius)[0], expected)


# --- the simulated user


def test_the_first_click_falls_into_the_middle_of_the_object():
    assert next_clicks(square(2, 3, 5), NOTHING, no_clicks(1)).tolist() == [[[4, 5, 1]]]


def test_the_largest_error_is_clicked_on_whatever_it_is():
    truth, answer = square(0, 0, 3), NOTHING.clone()
    answer[:, 4:9, 4:9] = True
    assert next_clicks(truth, answer, no_clicks(1)).tolist() == [[[6, 6, -1]]]
    answer[:, 6:, :] = False
    assert next_clicks(truth, answer, no_clicks(1)).tolist() == [[[1, 1, 1]]]


def test_a_corner_that_two_errors_share_does_not_make_them_one():
    truth = square(0, 0, 3) | square(3, 3, 5)
    assert next_clicks(truth, NOTHING, no_clicks(1)).tolist() == [[[5, 5, 1]]]


def test_no_pixel_is_clicked_on_twice():
    truth, clicks = square(3, 3, 3), no_clicks(1)
    for _ in range(9):
        clicks = next_clicks(truth, NOTHING, clicks)
    assert len({(y, x) for y, x, _ in clicks[0].tolist()}) == 9
    assert next_clicks(truth, NOTHING, clicks)[0, -1, 2] == 0


def test_where_nothing_is_wrong_nobody_clicks():
    truth = square(2, 2, 4)
    for sampled in (False, True):
        assert next_clicks(truth, truth == 1, no_clicks(1), sampled=sampled)[0, 0, 2] == 0
    assert discs(next_clicks(truth, truth == 1, no_clicks(1)), (9, 9), 3).sum() == 0


def test_what_counts_for_nothing_is_not_clicked_on():
    truth = square(2, 2, 5)
    truth[:, :, 5:] = 255
    answer = truth == 255
    assert next_clicks(truth, answer, no_clicks(1)).tolist() == [[[3, 3, 1]]]  # of 5 x 3 pixels
    assert next_clicks(truth, answer | (truth == 1), no_clicks(1))[0, 0, 2] == 0


def test_a_drawn_click_falls_more_than_half_as_deep_as_the_deepest_and_anywhere_there():
    truth = square(0, 0, 9)
    drawn = next_clicks(truth.expand(400, 9, 9), NOTHING.expand(400, 9, 9), no_clicks(400), sampled=True)
    deep = depth(truth[0] == 1) > 2.5
    places = {(y, x) for ((y, x, _),) in drawn.tolist()}
    assert places == {tuple(place) for place in deep.nonzero().tolist()}


# --- what goes on


def test_clicks_go_on_from_the_state_as_iterate_does():
    model, image = carrying(), torch.rand(1, 3, 9, 9)
    heard = list(dialogue(model, image, square(2, 2, 5), ClickConfig(radius=2, looks=2), 3))
    clicks, step = no_clicks(1), None
    answer = NOTHING
    for one in heard:
        clicks = next_clicks(square(2, 2, 5), answer, clicks)
        for step in model.iterate(torch.cat([image, discs(clicks, (9, 9), 2)], 1), steps=2, before=step):  # noqa: B007, B020
            pass
        torch.testing.assert_close(one.logits, step.logits, rtol=0, atol=0)
        answer = one.object
    assert heard[-1].step.index == 5


@pytest.mark.parametrize("how", [ClickConfig(radius=2), ClickConfig(radius=2, mask=True)])
def test_a_click_at_which_all_is_forgotten_has_the_clicks_alone(how):
    model, image, truth = carrying(3 + how.channels), torch.rand(2, 3, 9, 9), square(2, 2, 5).expand(2, 9, 9)
    went_on = list(dialogue(model, image, truth, how, 3))
    forgot = list(dialogue(model, image, truth, how, 3, forgotten={2}))
    torch.testing.assert_close(forgot[1].logits, went_on[1].logits, rtol=0, atol=0)
    clicks = no_clicks(2)
    for answer in (torch.zeros(2, 9, 9, dtype=torch.bool), forgot[0].object, forgot[1].object):
        clicks = next_clicks(truth, answer, clicks)
    alone = listen(model, image, clicks, how)
    torch.testing.assert_close(forgot[2].logits, alone.logits, rtol=0, atol=0)
    assert not torch.equal(forgot[2].logits, went_on[2].logits)


def test_without_carrying_every_click_begins_anew():
    model, image = carrying(), torch.rand(1, 3, 9, 9)
    alone = list(dialogue(model, image, square(2, 2, 5), ClickConfig(radius=2, carry=False), 2))
    assert [one.step for one in alone] == [None, None]
    plain = smpf.create("PlainConv", in_channels=5, classes=1, width=8, feedback=False)
    assert [one.step for one in dialogue(plain, image, square(2, 2, 5), ClickConfig(), 2)] == [None, None]


def test_a_compiled_model_goes_on_from_click_to_click():
    model = carrying().eval()
    image, click = torch.rand(1, 3, 9, 9), torch.tensor([[[4, 4, 1]]])
    heard = [listen(one, image, click, ClickConfig()) for one in (model, torch.compile(model, backend="eager"))]
    assert heard[1].step is not None
    assert torch.equal(heard[0].logits, heard[1].logits)


def test_weights_that_were_cast_without_a_graph_are_cast_again():
    model, truth = carrying(), square(2, 2, 4)
    found = []
    for how in ({"free": 1}, {"free": 1, "forgotten": {1}}):
        for half in (False, True):
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                torch.manual_seed(0)
                heard = [*dialogue(model, torch.ones(1, 3, 9, 9) / 2, truth, ClickConfig(), 2, **how)]
            heard[-1].logits.float().sum().backward()
            found.append({name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()})
    assert found[0] == found[1]
    assert found[2] == found[3]


def test_clicks_before_the_free_ones_end_carry_no_gradient():
    model, image = carrying(), torch.rand(1, 3, 9, 9)
    heard = list(dialogue(model, image, square(2, 2, 5), ClickConfig(radius=2), 3, free=2))
    assert [one.logits.requires_grad for one in heard] == [False, False, True]


def test_a_mask_to_begin_with_is_seen_and_clicked_on():
    how, truth = ClickConfig(radius=2, mask=True), square(2, 2, 5)
    model, image = carrying(6), torch.rand(1, 3, 9, 9)
    begun = (truth == 1).float()
    begun[:, 2:5] = 0
    first = next(dialogue(model, image, truth, how, 1, start=begun))
    clicks = next_clicks(truth, begun > 0.5, no_clicks(1))
    assert clicks.tolist() == [[[3, 3, 1]]]
    x = torch.cat([image, discs(clicks, (9, 9), 2), begun[:, None]], 1)
    torch.testing.assert_close(first.logits, model(x, steps=1), rtol=0, atol=0)


def test_a_damaged_mask_is_another_near_the_object():
    truth = square(8, 8, 16, 32).expand(20, 32, 32)
    found = damaged(truth)
    assert set(found.unique().tolist()) == {0, 1}
    alike = iou(found > 0.5, truth)
    assert (alike < 1).all()
    assert (alike > 0.3).all()
    assert alike.std() > 0


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_what_is_moved_out_of_the_image_does_not_come_in_again(down, right):
    truth = torch.arange(1.0, 43).view(1, 6, 7)
    moved = torch.zeros(1, 6, 7)
    for y in range(6):
        for x in range(7):
            if 0 <= y + down < 6 and 0 <= x + right < 7:
                moved[0, y + down, x + right] = truth[0, y, x]
    assert torch.equal(shifted(truth, down, right), moved)


# --- a person


def test_undo_is_as_if_the_click_had_not_been():
    session = smpf.Clicks(carrying(), torch.rand(3, 12, 10), how=ClickConfig(radius=2))
    empty = session.mask
    first = session.click(3, 4)
    chance = session.chance
    session.click(9, 9, positive=False)
    assert session.clicks == [(3, 4, True), (9, 9, False)]
    assert torch.equal(session.undo(), first)
    assert torch.equal(session.chance, chance)
    again = session.click(9, 9, positive=False)
    session.undo(), session.click(9, 9, positive=False)
    assert torch.equal(session.mask, again)
    session.undo()
    assert torch.equal(session.undo(), empty)
    assert not empty.any()
    with pytest.raises(InvalidValue, match="no click"):
        session.undo()


def test_a_person_who_clicks_as_the_user_does_gets_the_same_answers_of_normalised_images():
    model, image, truth = carrying(), torch.rand(3, 9, 9), square(2, 2, 5)
    config = smpf.DataConfig(mean=(0.5,) * 3, std=(0.25,) * 3, clicks=ClickConfig(radius=2))
    model.data_config = config
    session = smpf.Clicks(model, image)
    shown = config.normalise(image[None])
    clicks, answer = no_clicks(1), NOTHING
    for heard in dialogue(model, shown, truth, config.clicks, 3):
        clicks = next_clicks(truth, answer, clicks)
        y, x, sign = clicks[0, -1].tolist()
        if sign == 0:
            break
        assert torch.equal(session.click(y, x, sign == 1), heard.object[0])
        answer = heard.object


def test_a_prior_is_what_there_is_before_the_first_click():
    prior = torch.zeros(8, 8, dtype=torch.bool)
    prior[2:5] = True
    image, model = torch.rand(3, 8, 8), carrying(6)
    how = ClickConfig(radius=2, mask=True)
    session = smpf.Clicks(model, image, prior=prior, how=how)
    assert torch.equal(session.mask, prior)
    session.click(3, 3)
    without = smpf.Clicks(model, image, how=how)
    without.click(3, 3)
    assert not torch.equal(session.chance, without.chance)
    with pytest.raises(InvalidValue, match="reads no mask"):
        smpf.Clicks(carrying(), image, prior=prior, how=ClickConfig())
    with pytest.raises(InvalidInput, match=r"prior of shape \(4, 4\): expected \(8, 8\)"):
        smpf.Clicks(model, image, prior=prior[:4, :4], how=how)


def test_what_makes_no_session_is_refused_before_any_work():
    with pytest.raises(InvalidValue, match="does not say that it listens to clicks"):
        smpf.Clicks(carrying(), torch.rand(3, 8, 8))
    with pytest.raises(InvalidInput, match="expected one image"):
        smpf.Clicks(carrying(), torch.rand(2, 3, 8, 8), how=ClickConfig())
    with pytest.raises(InvalidValue, match="expected row 0 to 7"):
        smpf.Clicks(carrying(), torch.rand(3, 8, 8), how=ClickConfig()).click(8, 0)
    for told, error in (({"radius": 0}, InvalidValue), ({"mask": 1}, InvalidType), ({"looks": 0}, InvalidValue)):
        with pytest.raises(error):
            ClickConfig(**told)
    with pytest.raises(UnknownKeyword, match="radius"):
        ClickConfig.from_dict({"radus": 3})
    with pytest.raises(InvalidType, match="clicks="):
        smpf.DataConfig(clicks=3)


@pytest.mark.parametrize(
    ("prior", "error", "match"),
    [
        (torch.full((8, 8), 255, dtype=torch.uint8), InvalidInput, r"values 255 to 255: expected bool.*prior == label"),
        (torch.full((8, 8), float("nan")), InvalidInput, "values nan to nan"),
        ([[0] * 8] * 8, InvalidType, r"\(list\): expected a tensor \(H, W\)"),
    ],
)
def test_a_prior_that_is_no_mask_is_refused(prior, error, match):
    with pytest.raises(error, match=match):
        smpf.Clicks(carrying(6), torch.rand(3, 8, 8), prior=prior, how=ClickConfig(mask=True))


@pytest.mark.parametrize(
    ("place", "error", "match"),
    [
        ((3.7, 2), InvalidType, r"click: y=3.7 \(float\): expected a whole number, a pixel"),
        ((3, True), InvalidType, r"click: x=True \(bool\)"),
        ((3, 2, -1), InvalidType, r"positive=-1 \(int\): expected True or False"),
        ((-1, 2), InvalidValue, "expected row 0 to 7 and column 0 to 9"),
        ((7, 10), InvalidValue, "expected row 0 to 7 and column 0 to 9"),
    ],
)
def test_a_click_on_no_pixel_or_of_no_kind_is_refused_and_changes_nothing(place, error, match):
    session = smpf.Clicks(carrying(), torch.rand(3, 8, 10), how=ClickConfig(radius=2))
    session.click(7, 9)  # the border is in the image
    before = session.chance
    with pytest.raises(error, match=match):
        session.click(*place)
    assert (len(session), torch.equal(session.chance, before)) == (1, True)


def test_two_clicks_on_one_pixel_are_both_heard_and_an_image_of_bytes_as_floats_is_refused():
    session = smpf.Clicks(carrying(), torch.rand(3, 8, 10), how=ClickConfig(radius=2))
    session.click(3, np.int64(4))
    session.click(3, 4, positive=False)
    assert session.clicks == [(3, 4, True), (3, 4, False)]
    shown = discs(torch.tensor([[[3, 4, 1], [3, 4, -1]]]), (8, 10), 2)[0]
    assert torch.equal(shown[0], shown[1])
    with pytest.raises(InvalidInput, match="image: an image with values"):
        smpf.Clicks(carrying(), 255 * torch.rand(3, 8, 8), how=ClickConfig())


def test_what_a_model_is_shown_of_clicks_is_saved_with_it(tmp_path):
    model, how = carrying(6), ClickConfig(radius=0.1, mask=True, carry=False, looks=2)
    model.data_config = smpf.DataConfig(mean=(0.5,) * 3, std=(0.25,) * 3, clicks=how)
    model.save_pretrained(tmp_path)
    again = smpf.from_pretrained(tmp_path)
    assert how_of(again) == how
    assert again.data_config == model.data_config
    assert "clicks" not in smpf.DataConfig().to_dict()  # as earlier releases read it


# --- scores


class Draws(nn.Module):
    """Answers the positive discs less the negative ones."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return (self.weight * (x[:, 3:4] - x[:, 4:5]) - 0.5) * 10


def test_an_object_of_three_equal_discs_takes_three_clicks():
    clicks = torch.tensor([[[8, 8, 1], [8, 24, 1], [24, 16, 1]]])
    mask = discs(clicks, (32, 32), 5)[0, 0].long()
    found = evaluate_clicks(Draws(), [(torch.rand(3, 32, 32), mask)] * 2, clicks=5, how=ClickConfig(radius=5))
    torch.testing.assert_close(found.iou, torch.tensor([[1 / 3, 2 / 3, 1, 1, 1]]).expand(2, 5))
    assert found.needed(60).tolist() == [2, 2]
    assert found.noc(90) == 3
    assert found.failed(90) == 0
    assert found.after(0) == 0
    assert found.after(2) == pytest.approx(2 / 3)
    short = evaluate_clicks(Draws(), [(torch.rand(3, 32, 32), mask)], clicks=2, how=ClickConfig(radius=5))
    assert short.noc(80) == 2
    assert short.failed(80) == 1


def test_no_answer_is_scored_where_labels_count_for_nothing():
    truth = square(2, 2, 4)
    truth[:, :, 5:] = 255
    answer = (truth == 1) | (truth == 255)
    assert iou(answer, truth).item() == 1


def test_a_mask_without_an_object_is_refused():
    with pytest.raises(InvalidInput, match="without an object"):
        evaluate_clicks(Draws(), [(torch.rand(3, 9, 9), torch.zeros(9, 9).long())], clicks=1, how=ClickConfig())
    with pytest.raises(InvalidInput, match="empty"):
        evaluate_clicks(Draws(), [], how=ClickConfig())


# --- data


def labelled(*labels, size=12):
    mask = torch.zeros(size, size, dtype=torch.long)
    for label, (top, left, side) in labels:
        mask[top : top + side, left : left + side] = label
    return torch.rand(3, size, size), mask


def test_every_object_that_is_large_enough_is_an_item():
    data = [labelled((1, (0, 0, 4)), (500, (6, 6, 5))), labelled((3, (1, 1, 3)))]
    found = Objects(data, least=10)
    assert found.places == ((0, 1), (0, 500))
    image, mask = found[1]
    assert torch.equal(image, data[0][0])
    assert mask.sum() == 25
    assert mask[6, 6] == 1
    assert found.classes == ("background", "object")
    assert "object 500" in found.name(1)


def test_objects_of_films_are_no_frames_of_them():
    data = open_dataset("moving", size=32, frames=4, count=8)
    assert films_of(Objects(data)) is None


def test_what_the_images_labels_ignore_is_no_object_and_is_not_known():
    class Ignoring(list):
        ignore_index = 7

    found = Objects(Ignoring([labelled((1, (0, 0, 4)), (7, (6, 6, 5)))]), window=8, least=4)
    assert found.places == ((0, 1),)
    assert found.ignore_index == 255
    assert {label: int((found[0][1] == label).sum()) for label in (0, 1, 255)} == {0: 64 - 16 - 4, 1: 16, 255: 4}


def test_a_window_lies_around_its_object_within_the_image():
    found = Objects([labelled((1, (0, 0, 4)), (2, (5, 4, 3)))], window=6, least=4)
    (corner, first), (middle, second) = found
    whole = found.dataset[0][0]
    assert torch.equal(corner, whole[:, :6, :6])
    assert first.sum() == 16
    assert torch.equal(middle, whole[:, 3:9, 2:8])
    assert second.sum() == 9
    moved = Objects([labelled((2, (5, 4, 3)))], window=6, least=4, moved=True)
    assert len({tuple(moved[0][1].flatten().tolist()) for _ in range(30)}) > 1
    with pytest.raises(InvalidInput, match="12 x 12 pixels: expected images of at least window=20"):
        Objects([labelled((1, (0, 0, 4)))], window=20)
    with pytest.raises(InvalidInput, match="no object of 20 pixels"):
        Objects([labelled((1, (0, 0, 4)))])


def test_a_folder_of_masks_with_an_object_each_number_is_read_as_stored(tmp_path):
    labels = np.zeros((16, 20), np.uint16)
    labels[2:8, 2:8], labels[10:15, 10:18] = 7, 40_000
    for folder, picture in (
        ("test", Image.new("RGB", (20, 16))),
        ("testinstances", Image.fromarray(labels)),
    ):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / "a.png")
    assert InstanceFolder(tmp_path, "test")[0][1].unique().tolist() == [0, 7, 40_000]
    data = open_dataset("instances", "test", root=tmp_path)
    assert [int(mask.sum()) for _, mask in data] == [36, 40]
    assert not [one for one in check_dataset(data).problems if one.severity == "error"]
    Image.new("RGB", (20, 16)).save(tmp_path / "testinstances" / "a.png")
    with pytest.raises(InvalidInput, match="has colours"):
        open_dataset("instances", "test", root=tmp_path)


def test_the_object_that_is_meant_is_whole_and_one_of_several():
    image, mask = open_dataset("assemblies", "test", size=32, noise=0.0, count=20)[3]
    inside, outside = image[:, mask == 1], image[:, mask == 0]
    assert inside.shape[1] >= 4
    assert not {tuple(p) for p in inside.T.tolist()} & {tuple(p) for p in outside.T.tolist()}  # colours of its own
    with pytest.raises(InvalidValue, match="colours run out"):
        open_dataset("assemblies", objects=9, parts=3)


# --- what a session is handed


def test_a_session_keeps_its_own_image_and_prior():
    """A camera fills its buffer anew; the mask before a click is that of the session's start."""
    model, image, prior = carrying(6).eval(), torch.rand(3, 12, 12), torch.zeros(12, 12)
    told = {"how": ClickConfig(mask=True), "prior": prior}
    first, second = smpf.Clicks(model, image, **told), smpf.Clicks(model, image.clone(), **told)
    image.uniform_()
    prior.fill_(1)
    assert not first.mask.any()
    for session in (first, second):
        session.click(3, 4)
    torch.testing.assert_close(first.chance, second.chance, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("told", "error", "says"),
    [
        ({"how": {"radios": 3}}, UnknownKeyword, "Did you mean 'radius'"),
        ({"how": 3}, InvalidType, r"how=3 \(int\): expected a ClickConfig"),
        ({"image": torch.rand(3, 0, 8)}, InvalidInput, "expected one image"),
    ],
)
def test_what_is_no_session_is_refused_before_a_click(told, error, says):
    with pytest.raises(error, match=says):
        smpf.Clicks(carrying(), **{"image": torch.rand(3, 8, 8), "how": {"radius": 3}, **told})


@pytest.mark.parametrize("feedback", ["anytime", False])
def test_a_model_of_several_classes_answers_with_no_object(feedback):
    model = smpf.create("PlainConv", in_channels=5, classes=3, width=4, feedback=feedback)
    with pytest.raises(InvalidValue, match="answers with 3 classes: expected one that tells an object"):
        smpf.Clicks(model, torch.rand(3, 8, 8), how=ClickConfig()).click(1, 1)
