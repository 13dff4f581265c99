"""Films from folders of frames: which images belong together, in which order, and what is missing."""

import random
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smp_feedback.data import Clips, check_dataset, open_dataset
from smp_feedback.data.folders.films import group_frames
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue

CAMVID = Path(__file__).parents[3] / "shared/data/camvid"


def frames(root, names, *, masks=None, size=(8, 6)):
    """Frames in ``train``, each as bright as its place in *names*, and their masks in ``trainannot``."""
    for k, name in enumerate(names):
        for folder, mode, value in (("train", "RGB", (k, k, k)), ("trainannot", "L", 1)):
            if folder == "train" or masks is None or name in masks:
                path = root / folder / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, size, value).save(path)
    return root


def opened(root, films, **how):
    return open_dataset("folder", root=root, classes=("a", "b"), films=films, **how)


def shown(data, film):
    """The names of a film's frames, in order."""
    return [Path(data.name(i)).stem for i in film]


def test_films_by_subfolder_are_in_the_order_of_their_numbers(tmp_path):
    data = opened(frames(tmp_path, ["b/f10", "a/f1", "a/f2", "b/f9", "b/f11"]), "folder")
    assert [shown(data, film) for film in data.films] == [["f1", "f2"], ["f9", "f10", "f11"]]
    assert Clips(data, length=2)[1][0].shape == (2, 3, 6, 8)


def test_films_by_name(tmp_path):
    data = opened(frames(tmp_path, ["cat_day_10", "cat_day_9", "dog_x2", "dog_x1"]), "{film}_{frame}")
    assert [shown(data, film) for film in data.films] == [["cat_day_9", "cat_day_10"], ["dog_x1", "dog_x2"]]
    data = opened(tmp_path, "{film}_x{frame}")
    with pytest.raises(InvalidValue, match=r"2 of 4 images are called otherwise: cat_day_9.png, cat_day_10.png"):
        _ = data.films


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 10**6))
def test_grouping_is_a_partition_that_no_order_of_files_changes(lengths, step, seed):
    names = [Path(f"d/{chr(97 + k)}_{7 + step * frame}.png") for k, n in enumerate(lengths) for frame in range(n)]
    order = random.Random(seed).sample(names, len(names))
    films, missing = group_frames(order, "{film}_{frame}")
    assert sorted([order[i] for i in film] for film in films) == sorted(
        [path for path in names if path.stem[0] == chr(97 + k)] for k in range(len(lengths))
    )
    assert not missing


def test_missing_frames_are_said_and_no_clip_steps_over_them(tmp_path):
    data = opened(frames(tmp_path, [f"a_{k}" for k in (1, 2, 3, 5, 6)]), "{film}_{frame}")
    with pytest.warns(DataWarning, match=r"missing in 1 place, where a film ends and another begins: a_3.png to a_5"):
        films = data.films
    assert films == (range(3), range(3, 5))
    assert Clips(data, length=2).frames == [(0, 1), (1, 2), (3, 4)]  # said once


def test_frames_that_shake_by_one_number_are_not_missing():
    paths = [Path(f"a_{k}.png") for k in (30, 60, 90, 119, 150)]
    assert group_frames(paths, "{film}_{frame}") == ((range(5),), [])


def test_two_frames_with_one_number_are_refused(tmp_path):
    data = opened(frames(tmp_path, ["a_1", "a_01"]), "{film}_{frame}")
    with pytest.raises(InvalidValue, match=r"a_1.png and a_01.png|a_01.png and a_1.png"):
        _ = data.films


@pytest.mark.parametrize(
    ("films", "error"),
    [("{film}", InvalidValue), ("{frame}_{frame}", InvalidValue), ("folders", InvalidValue), (3, InvalidType)],
)
def test_a_pattern_says_where_the_frame_is(tmp_path, films, error):
    with pytest.raises(error, match=r"films=.*expected 'folder'"):
        opened(frames(tmp_path, ["a_1"]), films)


def test_without_films_there_are_none(tmp_path):
    data = opened(frames(tmp_path, ["a_1"]), None)
    assert not hasattr(data, "films")


def test_frames_without_a_mask_are_full_of_the_ignored_label(tmp_path):
    names = [f"a_{k}" for k in range(4)]
    frames(tmp_path, names, masks=["a_2"])
    with pytest.raises(InvalidValue, match=r"missing 3: .*write unlabelled=True"):
        opened(tmp_path, "folder", ignore_index=255)
    with pytest.raises(InvalidValue, match=r"unlabelled=True: .*such as ignore_index=255"):
        opened(tmp_path, "folder", unlabelled=True)
    data = opened(tmp_path, "folder", ignore_index=255, unlabelled=True, size=4, transform="flip")
    _, masks = Clips(data, length=4)[0]
    assert [mask.unique().tolist() for mask in masks] == [[255], [255], [1], [255]]
    assert masks.shape == (4, 4, 4)
    check_dataset(data)


def test_frames_of_another_size_are_refused_by_file(tmp_path):
    frames(tmp_path, ["a_1"])
    frames(tmp_path, ["a_2"], size=(8, 8))
    clips = Clips(opened(tmp_path, "folder"), length=2)
    with pytest.raises(InvalidInput, match=r"a_2.png is 3 x 8 x 8 and .*a_1.png, of the same film, 3 x 6 x 8"):
        clips[0]


def test_camvids_films_are_its_drives(tmp_path):
    frames(tmp_path, ["0016E5_00390", "0016E5_00420", "0006R0_f00930"])
    data = open_dataset("camvid", root=tmp_path)
    assert [shown(data, film) for film in data.films] == [["0006R0_f00930"], ["0016E5_00390", "0016E5_00420"]]
    assert not hasattr(open_dataset("camvid", root=frames(tmp_path / "other", ["street", "lane"])), "films")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="a checkout without CamVid")
def test_camvids_val_is_one_film_and_its_training_frames_are_a_second_apart():
    val, train = (open_dataset("camvid", split, root=CAMVID, size=(36, 48)) for split in ("val", "train"))
    assert val.films == (range(101),)
    with pytest.warns(DataWarning, match="missing in 2 places"):
        drives = [(Path(train.name(film[0])).name[:6], len(film)) for film in train.films]
    assert drives == [("0001TP", 62), ("0006R0", 101), ("0016E5", 68), ("0016E5", 120), ("0016E5", 16)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clips = Clips(val, length=2, every=50)
    images, masks = clips[0]
    assert (images.shape, masks.shape) == ((2, 3, 36, 48), (2, 36, 48))
    assert not torch.equal(images[0], images[1])
