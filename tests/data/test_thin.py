"""Published sets of thin structures: their layouts, splits, what is ignored, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from thin_files import FILES, SIZE, chase_db1, drive, fundus, isbi2012, lines, massachusetts_roads, noise, put, white

from smp_feedback.data import open_dataset
from smp_feedback.data.dataset_factory import THIN
from smp_feedback.data.thin.fundus import field_of_view
from smp_feedback.errors import DataWarning, FeedbackError, InvalidInput, InvalidValue

COUNTS = {  # of train, val and test
    "drive": (16, 4, 20),
    "chase_db1": (16, 4, 8),
    "crackforest": (80, 13, 25),
    "deepcrack": (10, 2, 2),
    "isbi2012": (20, 4, 6),
    "massachusetts_roads": (2, 2, 2),
}


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The folder of each dataset, written once."""
    pytest.importorskip("scipy")
    root = tmp_path_factory.mktemp("thin")
    return {name: write(root / name) for name, write in FILES.items()}


def opened(files, name, split="train", **options):
    return open_dataset(name, split, root=files[name], **options)


def vessels(k):
    return torch.from_numpy(lines(k).astype(np.int64))


@pytest.mark.parametrize("name", THIN)
def test_splits_are_fixed_and_part_what_there_is(files, name):
    splits = [opened(files, name, split, seed=seed) for seed, split in enumerate(("train", "val", "test"))]
    assert tuple(map(len, splits)) == COUNTS[name]
    names = [data.name(i) for data in splits for i in range(len(data))]
    assert len(set(names)) == len(names)
    with pytest.raises(InvalidValue, match="split='tset'"):
        opened(files, name, "tset")


@pytest.mark.parametrize("name", THIN)
def test_a_root_that_holds_nothing_is_refused_with_the_layout(tmp_path, name):
    with pytest.raises(InvalidValue, match=f"{name}: root=None: expected the folder that holds"):
        open_dataset(name)
    with pytest.raises(InvalidValue, match=r"(?s)nowhere.*published layout is"):
        open_dataset(name, root=tmp_path / "nowhere")


@pytest.mark.parametrize("name", THIN)
def test_what_is_thin_is_class_1(files, name):
    data = opened(files, name)
    assert len(data.classes) == 2
    values = set().union(*(mask.unique().tolist() for _, mask in (data[i] for i in range(2))))
    assert values <= {0, 1, 255}
    assert {0, 1} <= values
    assert opened(files, name, channels=1)[0][0].shape[0] == 1 if name == "isbi2012" else data[0][0].shape[0] == 3


def test_drive_ignores_what_lies_outside_the_field_of_view(files):
    image, mask = opened(files, "drive")[0]
    assert torch.equal(image, torch.from_numpy(noise(21, 3)).permute(2, 0, 1) / 255)
    assert torch.equal(mask[1:-1, 1:-1], vessels(21)[1:-1, 1:-1])
    assert (mask == 255).sum() == 2 * sum(SIZE) - 4
    assert [opened(files, "drive", split).name(0)[-15:-4] for split in ("val", "test")] == [
        "37_training",
        "ges/01_test",
    ]


def test_a_palette_of_black_and_white_is_read_by_its_colours(tmp_path):
    root = drive(tmp_path)
    swapped = Image.fromarray((~lines(21)).astype(np.uint8))
    swapped.putpalette([255, 255, 255, 0, 0, 0])
    swapped.save(root / "training/1st_manual/21_manual1.gif")
    mask = open_dataset("drive", root=root)[0][1]
    assert torch.equal(mask[1:-1, 1:-1], vessels(21)[1:-1, 1:-1])


def test_drive_without_the_tests_manual_segmentations_trains_and_refuses_the_test(tmp_path):
    root = drive(tmp_path, test=False)
    assert len(open_dataset("drive", root=root)) == 16
    with pytest.raises(InvalidValue, match=r"01_manual1.gif: expected a file.*published layout is training/ and test/"):
        open_dataset("drive", "test", root=root)
    put(root / "training/mask/21_training_mask.gif", white(np.ones((5, 5), bool)))
    with pytest.raises(
        InvalidInput, match=r"21_manual1.gif has 12 x 16 pixels, the field of view .*_mask.gif has 5 x 5"
    ):
        open_dataset("drive", root=root)[0]
    put(root / "training/1st_manual/22_manual1.gif", noise(1))
    with pytest.raises(InvalidInput, match=r"22_manual1.gif has colours"):
        open_dataset("drive", root=root)[1]


def test_chase_computes_the_field_of_view_and_has_two_observers(files):
    first, second = (opened(files, "chase_db1", observer=who) for who in (1, 2))
    inside = torch.from_numpy(fundus(2)[1])
    for data, drawn in ((first, vessels(1)), (second, vessels(101))):
        mask = data[0][1]
        assert torch.equal(mask[inside], drawn[inside])
        corner = mask[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corner == 255).all()
    children = [{data.name(i)[-7:-5] for i in range(len(data))} for data in (first, opened(files, "chase_db1", "val"))]
    assert not children[0] & children[1]
    with pytest.raises(InvalidValue, match="observer=3: expected 1 or 2"):
        opened(files, "chase_db1", observer=3)


def test_the_field_of_view_is_the_disc_whatever_is_dark_in_it():
    ys, xs = np.ogrid[:96, :100]
    disc = np.square(ys - 47.5) + np.square(xs - 50) <= 42**2
    image = np.where(disc, 120, 4) * np.ones((3, 1, 1))
    image[:, 40:55, 30:60] = 0  # the fovea, a haemorrhage
    image[:, 2, 3] = 255  # a speck of the border
    found = field_of_view(torch.from_numpy(image.astype(np.uint8))).numpy()
    inner = np.square(ys - 47.5) + np.square(xs - 50) <= 40**2
    outer = np.square(ys - 47.5) + np.square(xs - 50) <= 45**2
    assert found[inner].all()
    assert not (found & ~outer).any()


def test_crackforest_reads_regions_and_ignores_those_that_nobody_explains(files, tmp_path):
    mask = opened(files, "crackforest")[0][1]
    assert mask[0, 0] == 255
    mask[0, 0] = int(lines(1)[0, 0])
    assert torch.equal(mask, vessels(1))
    pictures = FILES["crackforest"](tmp_path, mat=False)
    assert torch.equal(open_dataset("crackforest", "test", root=pictures)[0][1], vessels(94))


@pytest.mark.parametrize("content", [b"not MATLAB's", "other", "floats"])
def test_a_strange_mat_file_is_refused_by_name(tmp_path, content):
    savemat = pytest.importorskip("scipy.io").savemat
    FILES["crackforest"](tmp_path)
    path = tmp_path / "groundTruth/002.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, {"other": 1} if content == "other" else {"groundTruth": {"Segmentation": np.full(SIZE, 0.5)}})
    with pytest.raises(InvalidInput, match=r"002.mat: expected a MATLAB file with groundTruth.Segmentation"):
        open_dataset("crackforest", root=tmp_path)[1]


def test_deepcrack_keeps_the_parts_of_a_photograph_together(files):
    parts = [
        {data.name(i)[-11:-6] for i in range(len(data))}
        for data in (opened(files, "deepcrack", s) for s in ("train", "val"))
    ]
    assert not parts[0] & parts[1]
    assert len(parts[1]) == 1


def test_isbi_inverts_and_names_sections(files):
    data = opened(files, "isbi2012", "val")
    image, mask = data[0]
    assert torch.equal(image, torch.from_numpy(noise(20))[None].repeat(3, 1, 1) / 255)
    assert torch.equal(mask, vessels(20))  # 0 in the file
    assert data.classes == ("cell", "membrane")
    assert data.mask_values == (255, 0)
    assert data.name(0).endswith("train-volume.tif, section 21")


def test_a_stack_that_is_not_whole_is_refused(tmp_path):
    root = isbi2012(tmp_path, sections=29)
    with pytest.raises(InvalidInput, match=r"train-volume.tif: expected 30 pages, as published, found 29"):
        open_dataset("isbi2012", root=root)
    root = isbi2012(tmp_path)
    content = (root / "train-volume.tif").read_bytes()
    (root / "train-volume.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(FeedbackError, match=r"train-volume\.tif"):
        open_dataset("isbi2012", "test", root=root)[5]
    with pytest.raises(InvalidValue, match="channels=4: expected 1, or 3"):
        open_dataset("isbi2012", root=root, channels=4)


@pytest.mark.parametrize(
    ("layout", "below"),
    [("tiff/{split}{kind}", ""), ("tiff/{split}{kind}", "tiff"), ("png/{split}{kind}", "")],
)
def test_roads_are_read_in_the_layouts_they_are_passed_on_in(tmp_path, layout, below):
    suffixes = (".png", ".png") if layout.startswith("png") else (".tiff", ".tif")
    massachusetts_roads(tmp_path, layout, ("", "_labels"), suffixes)
    data = open_dataset("massachusetts_roads", "val", root=tmp_path / below)
    assert len(data) == 2
    assert torch.equal(data[1][1], vessels(1))


def test_a_missing_map_is_named_and_a_stray_one_said(tmp_path):
    root = massachusetts_roads(tmp_path)
    (root / "train/sat/0_15.tiff").unlink()
    with pytest.warns(DataWarning, match=r"mask without an image"):
        open_dataset("massachusetts_roads", root=root)
    (root / "valid/map/10_15.tif").unlink()
    with pytest.raises(InvalidValue, match=r"masks for every image, missing 1: 10_15.*published layout"):
        open_dataset("massachusetts_roads", "val", root=root)


def test_files_of_another_name_are_missing(tmp_path):
    root = chase_db1(tmp_path)
    (root / "Image_09R_1stHO.png").rename(root / "Image_09R_1sthO.PNG.bak")
    with pytest.raises(InvalidValue, match=r"Image_09R_1stHO.png: expected a file.*missing there: Image_09R_1stHO.png"):
        open_dataset("chase_db1", "val", root=root)
    assert len(open_dataset("chase_db1", "train", root=root, count=2)) == 2
