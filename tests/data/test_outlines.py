"""Outlines as COCO, LabelMe and VOC keep them become label maps, pixel by pixel; what contradicts itself is refused."""

import base64
import io
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from smp_feedback.data import open_dataset
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue, MissingExtra, UnknownKeyword

H, W = 6, 8
IMAGE = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


def save(path, array=IMAGE):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path)


def box(left, top, right, bottom):
    """Corners and pixels of an upright rectangle, whose sides lie between pixels."""
    pixels = np.zeros((H, W), bool)
    pixels[top:bottom, left:right] = True
    return [[left, top], [right, top], [right, bottom], [left, bottom]], pixels


# --- COCO


CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]


def counts(pixels):
    """A run-length code by its definition: column by column, runs of 0 and 1 in turn, 0 first."""
    flat, runs, value = pixels.T.flatten(), [0], False
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"counts": runs, "size": [H, W]}


def compressed(pixels):
    with_bytes = rle.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"counts": with_bytes["counts"].decode(), "size": [H, W]}


def flat(corners):
    return [[float(number) for corner in corners for number in corner]]


def instance(segmentation, category=2, **more):
    return {"image_id": 1, "category_id": category, "segmentation": segmentation, "iscrowd": 0} | more


def coco(root, annotations, images=1, categories=CATEGORIES, path="annotations/instances_train.json", folder="train"):
    entries = [{"id": k, "file_name": f"{k}.png", "height": H, "width": W} for k in range(1, images + 1)]
    for entry in entries:
        save(root / folder / entry["file_name"])
    numbered = [{"id": 10 + k} | one for k, one in enumerate(annotations)]
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    content = {"images": entries, "annotations": numbered, "categories": categories}
    (root / path).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("code", [lambda c, p: flat(c), lambda c, p: counts(p), lambda c, p: compressed(p)])
def test_coco_fills_rectangles_by_closed_form(tmp_path, code):
    cat, dog = box(1, 1, 6, 5), box(4, 3, 8, 6)
    coco(tmp_path, [instance(code(*cat)), instance(code(*dog), category=7)], images=2)
    data = open_dataset("coco", root=tmp_path)
    wanted = np.where(dog[1], 2, np.where(cat[1], 1, 0))  # the dog is smaller, and ids go in order: cat 2, dog 7
    for dataset in (data, pickle.loads(pickle.dumps(data))):
        image, mask = dataset[0]
        np.testing.assert_array_equal(mask.numpy(), wanted)
        assert mask.dtype == torch.int64
        assert torch.equal(image, torch.from_numpy(IMAGE).permute(2, 0, 1) / 255)
    assert not data[1][1].any(), "an image without annotations is background"
    assert (data.classes, data.ignore_index, data.task) == (("background", "cat", "dog"), 255, "segmentation")
    assert open_dataset("coco", root=tmp_path, size=(3, 4))[0][1].shape == (3, 4)


def test_coco_lays_the_smaller_on_top_and_of_equals_the_later_and_crowds_below(tmp_path):
    crowd, large, small, same = box(0, 0, 8, 3), box(0, 0, 4, 6), box(1, 1, 3, 3), box(2, 1, 4, 3)
    one = [instance(flat(small[0])), instance(flat(large[0]), category=7)]
    one += [instance(flat(same[0]), category=7), instance(counts(crowd[1]), iscrowd=1)]
    wanted = np.where(crowd[1], 255, 0)
    for (_, pixels), label in ((large, 2), (small, 1), (same, 2)):
        wanted[pixels] = label
    coco(tmp_path, one)
    np.testing.assert_array_equal(open_dataset("coco", root=tmp_path)[0][1], wanted)
    with pytest.raises(InvalidInput, match="annotation 13 is a crowd; ignore_index=255 ignores crowds"):
        open_dataset("coco", root=tmp_path, ignore_index=None)[0]


def test_coco_takes_categories_in_the_order_that_is_told(tmp_path):
    cat, dog = box(0, 0, 2, 2), box(4, 3, 8, 6)
    coco(tmp_path, [instance(flat(cat[0])), instance(flat(dog[0]), category=7)])
    for classes, labels in ((["dog", "cat"], (2, 1)), (["background", "dog"], (0, 1)), (["cat"], (1, 0))):
        data = open_dataset("coco", root=tmp_path, classes=classes)
        np.testing.assert_array_equal(data[0][1], cat[1] * labels[0] + dog[1] * labels[1])
        assert data.classes == ("background", *(name for name in classes if name != "background"))
    with pytest.raises(InvalidValue, match=r"has no category 'cats'\. Did you mean 'cat'"):
        open_dataset("coco", root=tmp_path, classes=["cats"])
    with pytest.raises(InvalidValue, match="ignore_index=1 is class 'cat'"):
        open_dataset("coco", root=tmp_path, ignore_index=1)


@pytest.mark.parametrize(
    ("path", "folder", "split"),
    [
        ("train/_annotations.coco.json", "train", "train"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("annotations/instances_val2017.json", "val2017", "val"),
        ("annotations/instances_default.json", "images/default", "default"),
        ("annotations/train.json", "images", "train"),
        ("train.json", ".", "train"),
    ],
)
def test_coco_is_found_where_tools_put_it(tmp_path, path, folder, split):
    corners, pixels = box(1, 1, 6, 5)
    coco(tmp_path, [instance(flat(corners))], path=path, folder=folder)
    np.testing.assert_array_equal(open_dataset("coco", split, root=tmp_path)[0][1], pixels)


def test_coco_is_found_where_it_is_told_to_be(tmp_path):
    coco(tmp_path, [], path="labels/some.json", folder="photos")
    with pytest.raises(InvalidValue, match=r"expected COCO's annotations.*There is: labels.some\.json"):
        open_dataset("coco", root=tmp_path)
    with pytest.raises(InvalidValue, match=r"expected the image 1\.png; images='\.\.\.' names the folder"):
        open_dataset("coco", root=tmp_path, annotations="labels/some.json")
    assert len(open_dataset("coco", root=tmp_path, annotations="labels/some.json", images="photos")) == 1
    with pytest.raises(InvalidValue, match="coco: root=None"):
        open_dataset("coco")
    with pytest.raises(UnknownKeyword, match=r"coco takes no 'annotation'\. Did you mean 'annotations'"):
        open_dataset("coco", root=tmp_path, annotation="x")


def test_coco_refuses_a_transform_that_normalises_by_the_image(tmp_path):
    coco(tmp_path, [])
    data = open_dataset("coco", root=tmp_path, transform=lambda image, mask: (image - 0.5, mask))
    with pytest.raises(InvalidInput, match=r"1\.png: an image with values -0.\d+ to .* Leave a Normalize out"):
        data[0]


def test_coco_refuses_missing_images_and_warns_of_those_it_does_not_know(tmp_path):
    coco(tmp_path, [], images=3)
    save(tmp_path / "train/extra.png")
    told = r"train: 1 file is left out, 3 used: 1 that instances_train\.json does not have \(extra\.png\)"
    with pytest.warns(DataWarning, match=told):
        data = open_dataset("coco", root=tmp_path)
    assert [path.name for path in data.left_out] == ["extra.png"]
    (tmp_path / "train/3.png").unlink()
    with pytest.raises(InvalidValue, match=r"expected the images of .*, missing 1 of 3: 3\.png"):
        open_dataset("coco", root=tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"segmentation": []}, "annotation 10 has no segmentation; a box alone is no mask"),
        ({"segmentation": [[1, 1, 4, 4]]}, "annotation 10 has a polygon of 4 numbers"),
        ({"segmentation": [[1, 1, 4, 4, 5, float("nan")]]}, "annotation 10 has a polygon with corners that are no"),
        ({"segmentation": {"counts": [5, 3], "size": [H, W]}}, "has a run-length code of 8 pixels; its size .* has 48"),
        ({"segmentation": {"counts": "x"}}, "a run-length code without size"),
        ({"image_id": 5}, "annotation 10 is of image 5, which is not among the images"),
        ({"category_id": 5}, "annotation 10 is of category 5, which is not"),
    ],
)
def test_coco_names_the_annotation_that_cannot_be_used(tmp_path, change, match):
    coco(tmp_path, [instance(flat(box(1, 1, 3, 3)[0])) | change])
    with pytest.raises(InvalidInput, match=rf"instances_train\.json: {match}" if match.startswith("ann") else match):
        open_dataset("coco", root=tmp_path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "cannot be read"),
        ('{"images": [], "annotations": []}', "with a list of categories"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "'file_name' is missing"),
        ('{"images": [], "annotations": [], "categories": []}', "expected categories, found none"),
        (
            json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}] * 2}),
            "each category once",
        ),
    ],
)
def test_coco_refuses_a_json_of_another_kind(tmp_path, content, match):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(InvalidInput, match=rf"train\.json: .*{match}"):
        open_dataset("coco", root=tmp_path)


def test_coco_refuses_sizes_that_differ_and_codes_that_are_none(tmp_path):
    coco(tmp_path, [instance({"counts": "zzzzzzz", "size": [H, W]})])
    with pytest.raises(InvalidInput, match=r"instances_train\.json: annotation 10 cannot be drawn"):
        open_dataset("coco", root=tmp_path)[0]
    coco(tmp_path, [instance({"counts": [20], "size": [4, 5]})])
    with pytest.raises(InvalidInput, match="annotation 10 has a run-length code of 4 x 5 pixels; its image has 6 x 8"):
        open_dataset("coco", root=tmp_path)[0]
    save(tmp_path / "train/1.png", IMAGE[:, :5])
    with pytest.raises(InvalidInput, match=r"1\.png has 6 x 5 pixels; .*instances_train\.json says 6 x 8"):
        open_dataset("coco", root=tmp_path)[0]


def test_coco_says_which_extra_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs pycocotools: pip install .*\[coco\]"):
        open_dataset("coco", root=tmp_path)


# --- LabelMe


def labelme(root, *shapes, folder="train", size=(H, W)):
    save(root / folder / "a.png")
    content = {"version": "5", "shapes": list(shapes), "imageHeight": size[0], "imageWidth": size[1]}
    (root / folder / "a.json").write_text(json.dumps(content))
    return root


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | more


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_labelme_fills_by_closed_forms_and_the_later_lies_on_top(tmp_path):
    first, second = box(1, 1, 6, 5), box(4, 3, 8, 6)
    y, x = np.mgrid[:H, :W] + 0.5
    disc = (y - 2) ** 2 + (x - 3) ** 2 <= 1.5**2
    part = np.array([[1, 0], [0, 1], [1, 1]], bool)
    wanted = np.zeros((H, W), int)
    wanted[first[1]], wanted[second[1]], wanted[disc] = 1, 2, 255
    wanted[0:3, 6:8][part] = 1
    labelme(
        tmp_path,
        shape("cat", first[0]),
        shape("dog", [[8, 6], [4, 3]], "rectangle"),
        shape("__ignore__", [[3, 2], [3, 3.5]], "circle"),
        shape("cat", [[6, 0], [7, 2]], "mask", mask=encoded(part)),
    )
    data = open_dataset("labelme", root=tmp_path, classes=["cat", "dog"])
    np.testing.assert_array_equal(data[0][1], wanted)
    assert (data.classes, data.ignore_index) == (("background", "cat", "dog"), 255)


def test_labelme_fills_any_polygon_by_pixel_centres(tmp_path):
    corners = np.random.default_rng(3).uniform(-2, 10, (7, 2))
    labelme(tmp_path, shape("cat", corners.tolist()))
    wanted = np.zeros((H, W), int)
    for i, j in np.ndindex(H, W):  # even-odd, by a ray to the right of each centre
        px, py = j + 0.5, i + 0.5
        crossings = 0
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            crossings += (y0 <= py) != (y1 <= py) and px < x0 + (py - y0) / (y1 - y0) * (x1 - x0)
        wanted[i, j] = crossings % 2
    assert 0 < wanted.sum() < wanted.size
    np.testing.assert_array_equal(open_dataset("labelme", root=tmp_path, classes=["cat"])[0][1], wanted)


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (shape("cat", [[1, 1], [2, 2]], "line"), r"shapes\[0\] \('cat'\) is a line, which has no area"),
        (shape("cat", [[1, 1]], "point"), "is a point"),
        (shape("cat", [[1, 1], [2, 2]]), "has 2 points; a polygon needs 3"),
        (shape("cta", box(1, 1, 3, 3)[0]), r"a\.json: 'cta' is none of classes=\. Did you mean 'cat'"),
        (shape("cat", [[0, 0], [1, 1]], "mask", mask=encoded(np.ones((3, 3), bool))), "has a mask of .*3, 3"),
        (shape("cat", [[7, 5], [8, 6]], "mask", mask=encoded(np.ones((2, 2), bool))), "reaches beyond the image"),
        (shape("cat", [["x", 1]] * 3), "cannot be drawn"),
    ],
)
def test_labelme_names_the_outline_that_cannot_be_used(tmp_path, made, match):
    labelme(tmp_path, made)
    with pytest.raises(InvalidInput, match=match):
        open_dataset("labelme", root=tmp_path, classes=["cat"])[0]


def test_labelme_refuses_other_sizes_and_missing_files_and_names(tmp_path):
    labelme(tmp_path, shape("cat", box(1, 1, 3, 3)[0]), size=(H, W + 1))
    with pytest.raises(InvalidInput, match=r"a\.json has 6 x 9 pixels, its image .*a\.png has 6 x 8"):
        open_dataset("labelme", root=tmp_path, classes=["cat"])[0]
    with pytest.raises(InvalidValue, match=r"classes=None: expected the names of what is outlined; .* has cat"):
        open_dataset("labelme", root=tmp_path)
    with pytest.raises(InvalidType, match="classes='cat'"):
        open_dataset("labelme", root=tmp_path, classes="cat")
    save(tmp_path / "train/b.png")
    with pytest.raises(InvalidValue, match=r"missing 1: b\.json"):
        open_dataset("labelme", root=tmp_path, classes=["cat"])
    (tmp_path / "train/b.json").write_text('{"shapes": []}')
    with pytest.raises(InvalidInput, match=r"b\.json: imageHeight=None"):
        open_dataset("labelme", root=tmp_path, classes=["cat"])[1]


def test_labelme_finds_annotations_elsewhere_and_makes_splits(tmp_path):
    for k in range(4):
        save(tmp_path / f"photos/{k}.jpg")
        (tmp_path / "notes").mkdir(exist_ok=True)
        content = {"shapes": [shape("cat", box(k, 1, k + 2, 3)[0])], "imageHeight": H, "imageWidth": W}
        (tmp_path / f"notes/{k}.json").write_text(json.dumps(content))
    options = {"root": tmp_path, "classes": ["cat"], "images": "photos", "annotations": "notes", "val_share": 0.25}
    train, val = (open_dataset("labelme", split, **options) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 1)
    for data in (train, val):
        for k in range(len(data)):
            left = int(data.samples[k][0].stem)
            np.testing.assert_array_equal(data[k][1], box(left, 1, left + 2, 3)[1])


# --- VOC


def voc(root, names, split="train"):
    labels = np.random.default_rng(1).integers(0, 21, (H, W)).astype(np.uint8)
    labels[0] = 255
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.flatten().tolist())
    picture.putpalette(np.random.default_rng(2).integers(0, 256, 768).tolist())
    for name in names:
        save(root / f"JPEGImages/{name}.jpg")
        save(root / f"SegmentationClass/{name}.png", picture)
    (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")
    return labels


@pytest.mark.parametrize("below", [".", "VOCdevkit/VOC2012"])
def test_voc_reads_its_lists_and_palettes(tmp_path, below):
    labels = voc(tmp_path / below, ["2007_000033", "2007_000032"])
    data = open_dataset("voc", root=tmp_path)
    assert [data.samples[k][0].stem for k in range(2)] == ["2007_000033", "2007_000032"]
    np.testing.assert_array_equal(data[0][1], labels)
    assert (len(data.classes), data.classes[15], data.ignore_index) == (21, "person", 255)


def test_voc_refuses_a_list_that_names_an_image_twice_and_takes_comments(tmp_path):
    voc(tmp_path, ["a", "b"])
    told = tmp_path / "ImageSets/Segmentation/train.txt"
    told.write_text("# ours\na\nb\n")
    assert len(open_dataset("voc", root=tmp_path)) == 2
    told.write_text("a\nb\na\n")
    with pytest.raises(InvalidValue, match=r"train\.txt names 1 images twice: a\."):
        open_dataset("voc", root=tmp_path)


def test_voc_names_what_is_missing(tmp_path):
    voc(tmp_path, ["a", "b"])
    with pytest.raises(InvalidValue, match=r"val\.txt: expected a list of names; there is train\."):
        open_dataset("voc", "val", root=tmp_path)
    (tmp_path / "SegmentationClass/b.png").unlink()
    with pytest.raises(InvalidValue, match=r"expected label maps of every name in train\.txt, missing 1 of 2: b\.png"):
        open_dataset("voc", root=tmp_path)
    with pytest.raises(InvalidValue, match="does not exist"):
        open_dataset("voc", root=tmp_path / "nowhere")
