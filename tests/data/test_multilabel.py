"""One file a class: masks of which several may hold for a pixel."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from smp_feedback.data import MaskFolder, open_dataset
from smp_feedback.errors import InvalidInput, InvalidValue

CLASSES = ("hat", "red", "wool")
LAYERS = np.random.default_rng(0).integers(0, 2, (2, 3, 6, 8)).astype(np.uint8)  # of two images


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def written(root, masks="{split}_masks/{class}/{stem}.png", change=lambda layer: layer):
    for k, layers in enumerate(LAYERS):
        save(root / f"train/{k}.png", np.full((6, 8, 3), k, np.uint8))
        for name, layer in zip(CLASSES, layers, strict=True):
            path = masks.replace("{split}", "train").replace("{class}", name).replace("{stem}", str(k))
            save(root / path, change(layer))
    return {"root": root, "classes": CLASSES, "masks": masks}


@pytest.mark.parametrize(
    "masks", ["{split}_masks/{class}/{stem}.png", "{split}_masks/{stem}_{class}.png", "{class}/{stem}.bmp"]
)
@pytest.mark.parametrize("change", [lambda layer: layer, lambda layer: layer * 255, lambda layer: layer.astype(bool)])
def test_each_file_is_the_channel_of_its_class(tmp_path, masks, change):
    data = open_dataset("folder", **written(tmp_path, masks, change))
    assert data.task == "multilabel"
    for dataset in (data, pickle.loads(pickle.dumps(data))):
        for k in range(2):
            mask = dataset[k][1]
            assert mask.dtype == torch.int64
            np.testing.assert_array_equal(mask.numpy(), LAYERS[k])
    assert open_dataset("folder", **written(tmp_path, masks)).task == "multilabel"


def test_a_folder_a_class_takes_any_suffix(tmp_path):
    options = written(tmp_path, "masks/{class}/{stem}.tif")
    np.testing.assert_array_equal(open_dataset("folder", **options | {"masks": "masks/{class}"})[1][1], LAYERS[1])


def test_values_and_the_ignored_label_hold_within_a_class(tmp_path):
    def change(layer):
        layer = layer * 7
        layer[0, 0] = 9
        return layer

    options = written(tmp_path, change=change)
    wanted = LAYERS[0].astype(int)
    wanted[:, 0, 0] = 9
    np.testing.assert_array_equal(open_dataset("folder", **options, values={7: 1}, ignore_index=9)[0][1], wanted)
    wanted[:, 0, 0] = 1
    np.testing.assert_array_equal(open_dataset("folder", **options, values={7: 1, 9: "present"})[0][1], wanted)
    with pytest.raises(InvalidInput, match=r"hat.0\.png has values \[7, 9\]; expected \[0, 1, 255\]"):
        open_dataset("folder", **options)[0]


def test_a_file_that_is_missing_is_refused_unless_it_says_that_nothing_is_there(tmp_path):
    options = written(tmp_path)
    (tmp_path / "train_masks/red/1.png").unlink()
    with pytest.raises(
        InvalidValue, match=r"1 of 6 masks, one a class, are missing: .*red.1\.png; .* empty_masks=True"
    ):
        open_dataset("folder", **options)
    wanted = LAYERS[1].copy()
    wanted[1] = 0
    np.testing.assert_array_equal(open_dataset("folder", **options, empty_masks=True)[1][1], wanted)
    for name in ("hat", "wool"):
        (tmp_path / f"train_masks/{name}/1.png").unlink()
    data = open_dataset("folder", **options, empty_masks=True)
    assert data[1][1].shape == (3, 6, 8)
    assert not data[1][1].any()
    np.testing.assert_array_equal(data[0][1], LAYERS[0])


def test_what_belongs_to_the_other_kind_of_masks_is_refused(tmp_path):
    options = written(tmp_path)
    with pytest.raises(InvalidValue, match="leave colours= and offset= out"):
        open_dataset("folder", **options, offset=-1)
    with pytest.raises(InvalidValue, match=r"empty_masks=True: masks='trainannot' has no {class}"):
        open_dataset("folder", root=tmp_path, classes=CLASSES, masks="trainannot", empty_masks=True)


def test_sizes_that_differ_are_named(tmp_path):
    options = written(tmp_path)
    save(tmp_path / "train_masks/wool/0.png", np.zeros((6, 7), np.uint8))
    with pytest.raises(InvalidInput, match=r"wool.0\.png has 6 x 7 pixels, .*hat.0\.png has 6 x 8"):
        open_dataset("folder", **options)[0]
    for name in CLASSES:
        save(tmp_path / f"train_masks/{name}/0.png", np.zeros((6, 7), np.uint8))
    with pytest.raises(InvalidInput, match=r"has 6 x 7 pixels, its image .* has 6 x 8"):
        open_dataset("folder", **options)[0]


@pytest.mark.parametrize("transform", ["flips", "crop_flip", "colour"])
def test_all_channels_move_with_the_image(tmp_path, transform):
    for k in range(2):
        code = LAYERS[k][0] * 60 + LAYERS[k][1] * 120  # the image says what its masks are
        save(tmp_path / f"train/{k}.png", np.repeat(code[..., None], 3, 2))
        for name, layer in zip(("hat", "red"), LAYERS[k], strict=False):
            save(tmp_path / f"m/{name}/{k}.png", layer)
    data = MaskFolder(
        tmp_path, classes=("hat", "red"), ignore_index=None, masks="m/{class}", size=(12, 16), transform=transform
    )
    for seed in range(8):
        torch.manual_seed(seed)
        image, mask = data[0]
        assert (image.shape, mask.shape, mask.dtype) == ((3, 12, 16), (2, 12, 16), torch.int64)
        assert set(mask.unique().tolist()) <= {0, 1}
    plain = MaskFolder(tmp_path, classes=("hat", "red"), ignore_index=None, masks="m/{class}", transform="flips")
    for seed in range(8):
        torch.manual_seed(seed)
        image, mask = plain[0]
        assert torch.equal((image[0] * 255).round().long(), mask[0] * 60 + mask[1] * 120)


def test_an_empty_mask_is_a_setting_of_training(tmp_path):
    pytest.importorskip("lightning")
    from smp_feedback.training.opening import open_pairs

    written(tmp_path)
    for folder in ("train", "train_masks"):
        (tmp_path / folder.replace("train", "val")).symlink_to(tmp_path / folder)
    (tmp_path / "train_masks/red/1.png").unlink()
    told = {"name": "folder", "root": str(tmp_path), "batch_size": 1, "shared": "allow"}
    told["options"] = {"classes": CLASSES, "masks": "{split}_masks/{class}/{stem}.png"}
    with pytest.raises(InvalidValue, match="write empty_masks=True"):
        open_pairs("fit", 0, **told)
    assert open_pairs("fit", 0, **told, empty_masks=True)[1].task == "multilabel"
