"""What strangers' files may hold: refused in one sentence that names them, without running code, writing or hanging.

Files that this package wrote are cut short, flipped, spliced and filled with other values, by the byte and by the
value; SMP_FEEDBACK_FUZZ says how many of each (hundreds of thousands where a reader changes).
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError
from smp_feedback.saving.beginning import begin_from
from smp_feedback.saving.saved import read_config

pytest.importorskip("lightning")
from smp_feedback.data.formats.coco_files import _content as read_coco
from smp_feedback.data.formats.labelme import _content as read_labelme
from smp_feedback.evaluation.results import load_result
from smp_feedback.experiments.store import claim, kept
from smp_feedback.plotting.plot import plot
from smp_feedback.training.checkpoints import read_checkpoint
from smp_feedback.training.run_folder import kept_data, learned_cut
from smp_feedback.training.same_settings import check_same, run_settings

EXAMPLES = int(os.environ.get("SMP_FEEDBACK_FUZZ", "40"))
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 40,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Code:
    """What no file may run."""

    def __reduce__(self):
        return os.mkdir, (str(CANARY),)


CANARY = Path("canary_of_the_hostile_tests").absolute()


@pytest.fixture(autouse=True)
def nothing_is_run():
    yield
    was_run = CANARY.exists()
    shutil.rmtree(CANARY, ignore_errors=True)
    assert not was_run, "code of a file was run"


# --- what this package writes


def plain_conv(**told):
    return smpf.create("PlainConv", classes=2, width=4, feedback=smpf.Recurrent(steps=2), **told)


CONFIG_YAML = """
seed: 0
model: {arch: PlainConv, encoder: null, feedback: {steps: 2}, arguments: {width: 4}, schedule: null, free_steps: 0}
data: {name: polygons, size: 32, batch_size: 2, train_count: 4, normalise: none}
trainer: {max_epochs: 1, max_steps: -1, accelerator: cpu, precision: null}
"""
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
    "categories": [{"id": 1, "name": "tree"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2]], "area": 2}],
}
LABELME = {
    "imageHeight": 4,
    "imageWidth": 4,
    "shapes": [{"label": "tree", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"}],
}
RESULT = {
    "kind": "calibration",
    "version": 1,
    "steps": [1, 2],
    "ece": [0.1, 0.2],
    "bins": [{"confidence": [0.5], "accuracy": [0.4], "weight": [1.0]}] * 2,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of one of each."""
    folder = tmp_path_factory.mktemp("written")
    model = plain_conv()
    model.save_pretrained(folder / "model")
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "global_step": 3, "epoch": 1}, folder / "last.ckpt")
    (folder / "config.yaml").write_text(CONFIG_YAML)
    (folder / "data.json").write_text(json.dumps(model.data_config.to_dict()))
    for name, value in {"coco": COCO, "labelme": LABELME, "result": RESULT}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


# --- what may become of it


@st.composite
def spoilt(draw, content: bytes):
    """*content*, cut short, with bytes of other values, parts left out, doubled or from elsewhere in it."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(("cut", "bytes", "leave out", "double", "move")))
        size = draw(st.integers(1, 64))
        if how == "cut":
            content = content[:at]
        elif how == "bytes":
            content = content[:at] + draw(st.binary(min_size=1, max_size=16)) + content[at + size :]
        elif how == "leave out":
            content = content[:at] + content[at + size :]
        elif how == "double":
            content = content[: at + size] + content[at:]
        else:
            begin = draw(st.integers(0, max(0, len(content) - 1)))
            content = content[:at] + content[begin : begin + size] + content[at + size :]
    return content


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2, 3, 10**12, -(10**30), 1.5, float("nan"), float("inf"), -0.0]),
    st.sampled_from(["", "\0", "../../etc", "a" * 300, "é", "nan", "-1", "__class__", "{}", "%s", "softmax", "decay"]),
    st.sampled_from([[], {}, [[]], [None], {"": {}}, {"a": [1, {"b": None}]}, ["a", 1], [1.0, -1.0], [3, 3]]).map(
        copy.deepcopy  # they are altered in place, too
    ),
    st.text(max_size=8),
)


def places(value, here=()):
    """Where *value* has values, as paths."""
    yield here
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*here, key))


@st.composite
def altered(draw, value):
    """*value* with other values in it, without some, or with more."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([*places(value)]))
        if not place:
            if draw(st.integers(0, 9)) == 0:
                return draw(ODD)
            continue
        parent = value
        for key in place[:-1]:
            parent = parent[key]
        how = draw(st.sampled_from(("other", "other", "gone", "more")))
        if how == "gone":
            del parent[place[-1]]
        elif how == "more" and isinstance(parent, dict):
            parent[draw(st.sampled_from(["loop", "steps", "plugins", "preset", "base", "x", "cut", "classes", ""]))] = (
                draw(ODD)
            )
        else:
            parent[place[-1]] = draw(ODD)
    return value


DEEP = 100_000
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 10)}]\n" for k in range(9)
)
JSONS = ["[" * DEEP, '{"a":' * DEEP, "1" * 10_000, "NaN", "null", "[]", '"', "\ufeff{}", "\0", ""]
YAMLS = [
    "!!python/object/apply:os.mkdir [canary_of_the_hostile_tests]",
    "a: !!python/object/new:os.mkdir [canary_of_the_hostile_tests]",
    "model: !!python/name:os.mkdir",
    "[" * DEEP,
    BOMB,
    "a: &a [*a]",
    "a: *b",
    "? {a: 1}\n: 2",
    "2024-13-45: 1",
    "a: 2024-99-99",
    "<<: 1",
    "\0",
    "\t",
    "1",
    "",
    "- a",
    "model: []\ndata: {}\ntrainer: {}\nseed: 0",
    "data: {}\ntrainer: {}\nseed: 0",
    "model: {arch: [1], feedback: {}}\ndata: {}\ntrainer: {}\nseed: 0",
]


def only_ours(read, *told):
    """*read* answers, or refuses in words of ours, which are not endless."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(*told)
    except FeedbackError as error:
        refused = error
    assert len(str(refused)) < 4000
    return None


def tree(folder):
    """All that is below *folder*."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# --- saved models


def opened(folder):
    return smpf.from_pretrained(folder)


def both(folder):
    read_config(folder)
    model = smpf.from_pretrained(folder)
    begin_from(plain_conv(), folder)
    return model


@pytest.fixture
def model_folder(written, tmp_path):
    return Path(shutil.copytree(written / "model", tmp_path / "model"))


@MANY
@given(data=st.data())
def test_a_spoilt_saved_model_is_refused_in_words(written, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(written / "model", folder)
    path = folder / data.draw(st.sampled_from(["config.json", "model.safetensors"]))
    path.write_bytes(data.draw(spoilt(path.read_bytes())))
    before = tree(folder)
    only_ours(both, folder)
    assert tree(folder) == before


@MANY
@given(data=st.data())
def test_a_saved_model_of_other_values_is_refused_in_words(written, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "altered"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(written / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    if data.draw(st.booleans()):
        del config["save"]  # it counts, then, whatever the tensors say
    config = data.draw(altered(config))
    (folder / "config.json").write_text(json.dumps(config))
    only_ours(both, folder)


@pytest.mark.parametrize("text", JSONS, ids=range(len(JSONS)))
def test_a_config_that_is_none_is_refused(model_folder, text):
    (model_folder / "config.json").write_text(text)
    assert only_ours(opened, model_folder) is None


def test_a_model_of_huge_tensors_is_refused_before_they_are_made(model_folder):
    """A header may announce any shape: the bytes must be there."""
    head = json.dumps({"x": {"dtype": "F32", "shape": [1 << 30, 1 << 30], "data_offsets": [0, 4]}}).encode()
    (model_folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 4)
    assert only_ours(opened, model_folder) is None
    (model_folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    assert only_ours(opened, model_folder) is None


@pytest.mark.parametrize("field", ["width", "depth"])
def test_a_model_of_a_huge_size_is_refused_before_it_is_made(model_folder, field):
    config = json.loads((model_folder / "config.json").read_text())
    del config["save"]
    config["arguments"][field] = 10**12
    (model_folder / "config.json").write_text(json.dumps(config))
    assert only_ours(opened, model_folder) is None


def test_links_lead_to_what_is_there_or_are_refused(model_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        content = (model_folder / name).read_bytes()
        (model_folder / name).unlink()
        (tmp_path / name).write_bytes(content)
        (model_folder / name).symlink_to(tmp_path / name)
    assert opened(model_folder) is not None
    for target in (model_folder / "config.json", tmp_path / "nowhere", tmp_path):
        (model_folder / "config.json").unlink()
        (model_folder / "config.json").symlink_to(target)
        assert only_ours(opened, model_folder) is None
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert only_ours(opened, tmp_path / "round") is None


# --- checkpoints


def weights(path):
    read_checkpoint(path)
    plain_conv().load_feedforward(path)


@MANY
@given(data=st.data())
def test_a_spoilt_checkpoint_is_refused_in_words(written, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "last.ckpt"
    path.write_bytes(data.draw(spoilt((written / "last.ckpt").read_bytes())))
    only_ours(read_checkpoint, path)
    only_ours(begin_from, plain_conv(), path)


@MANY
@given(data=st.data())
def test_a_pickle_of_anything_is_refused_in_words(written, tmp_path_factory, data):
    """The bytes that say what is made of the others, in an archive that is whole."""
    path = tmp_path_factory.getbasetemp() / "pickled.ckpt"
    with zipfile.ZipFile(written / "last.ckpt") as whole, zipfile.ZipFile(path, "w") as new:
        for name in whole.namelist():
            content = whole.read(name)
            new.writestr(name, data.draw(spoilt(content)) if name.endswith("data.pkl") else content)
    only_ours(read_checkpoint, path)
    only_ours(begin_from, plain_conv(), path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["alone", "archive", "among weights"])
def test_code_in_a_checkpoint_is_not_run(protocol, where, tmp_path):
    path = tmp_path / "last.ckpt"
    if where == "alone":
        path.write_bytes(pickle.dumps(Code(), protocol))
    elif where == "archive":
        torch.save(Code(), path, pickle_protocol=protocol)
    else:
        torch.save({"state_dict": {"w": torch.ones(1), "x": Code()}}, path, pickle_protocol=protocol)
    for read in (read_checkpoint, lambda path: begin_from(plain_conv(), path)):
        with pytest.raises(FeedbackError, match=r"last\.ckpt"):
            read(path)


@pytest.mark.parametrize("held", [[], 1, None, {"state_dict": 3}, {"state_dict": {}}, {1: {2: 3}}, {"state_dict": [1]}])
def test_a_checkpoint_of_something_else_is_refused(held, tmp_path):
    from smp_feedback.training import FeedbackModule
    from smp_feedback.training.run_folder import load_weights

    torch.save(held, tmp_path / "last.ckpt")
    module = FeedbackModule(plain_conv(), classes=2)
    for read in (lambda path: load_weights(module, path), lambda path: begin_from(plain_conv(), path)):
        with pytest.raises(FeedbackError, match=r"last\.ckpt"):
            read(tmp_path / "last.ckpt")


# --- settings and results


def of_run(folder):
    run_settings(folder)
    check_same(CONFIG_YAML, folder)
    kept_data(folder)
    learned_cut(folder)


@pytest.mark.parametrize("text", YAMLS, ids=range(len(YAMLS)))
def test_settings_of_a_run_that_are_none_are_refused(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(FeedbackError, match=r"config\.yaml"):
        of_run(tmp_path)


@MANY
@given(data=st.data())
def test_spoilt_settings_are_refused_in_words(written, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "run"
    folder.mkdir(exist_ok=True)
    for name in ("config.yaml", "data.json"):
        shutil.copy(written / name, folder / name)
    path = folder / data.draw(st.sampled_from(["config.yaml", "data.json"]))
    read = yaml.safe_load if path.suffix == ".yaml" else json.loads
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(spoilt(path.read_bytes())))
    else:
        write = yaml.safe_dump if path.suffix == ".yaml" else json.dumps
        path.write_text(write(data.draw(altered(read(path.read_text())))))
    only_ours(of_run, folder)


def drawn(path):
    return [*plot([path], path.parent / "figures")]


JSON_READERS = {"coco": read_coco, "labelme": read_labelme, "result": load_result}


@MANY
@given(data=st.data())
def test_spoilt_json_is_refused_in_words(written, tmp_path_factory, data):
    name = data.draw(st.sampled_from([*JSON_READERS]))
    path = tmp_path_factory.getbasetemp() / f"{name}.json"
    whole = (written / f"{name}.json").read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(spoilt(whole)))
    else:
        path.write_text(json.dumps(data.draw(altered(json.loads(whole)))))
    only_ours(JSON_READERS[name], path)


@settings(MANY, max_examples=max(1, EXAMPLES // 4))
@given(data=st.data())
def test_a_result_of_other_values_is_drawn_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "drawn.json"
    path.write_text(json.dumps(data.draw(altered(RESULT))))
    only_ours(drawn, path)
    assert not list((folder / "figures").rglob(".*"))


@pytest.mark.parametrize("text", JSONS, ids=range(len(JSONS)))
@pytest.mark.parametrize("read", JSON_READERS.values(), ids=JSON_READERS)
def test_what_is_no_json_is_refused(read, text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FeedbackError, match=r"a\.json"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("text", JSONS, ids=range(len(JSONS)))
def test_a_run_of_an_experiment_that_is_not_whole_is_made_again(text, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a.json").write_text(text)
    assert not kept(tmp_path, "a")
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(FeedbackError, match="other settings"):
        claim(tmp_path, {"seeds": 1}, "a comparison")
    assert (tmp_path / "settings.json").read_text() == text
