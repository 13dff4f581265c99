"""On disk, compiled, exported; and what the package says of itself."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import smp_feedback as smpf
import torch
from smp_feedback.testing import hearing
from smp_feedback.testing.conformance import check_compiles, check_exports, check_refuses_script
from torch.nn import functional as F

from smp_feedback_vit import ViTClassifier, ViTSegmenter, works

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
KINDS = {
    "linear": ("ViTSegmenter", {}),
    "masks": ("ViTSegmenter", {"decoder": "mask_transformer", "aux_params": {"classes": 2}}),
    "padded": ("ViTSegmenter", {"sizes": "pad", "img_size": (32, 48)}),
    "classifier": ("ViTClassifier", {"sizes": "pad"}),
}


def made(kind, **more):
    arch, options = KINDS[kind]
    return smpf.create(arch, "test_vit", classes=3, **options, **more).eval()


def same(ours, theirs):
    with torch.no_grad():
        pairs = [(m(IMAGE)[0], m(IMAGE)[1]) if isinstance(m(IMAGE), tuple) else (m(IMAGE),) for m in (ours, theirs)]
    return all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize("insert", ["input", "after:patch_embed"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_from_disk_bit_for_bit(kind, insert, tmp_path):
    model = made(kind, feedback={"insert": insert})
    again = smpf.from_pretrained(model.save_pretrained(tmp_path))
    assert same(again.eval(), model)
    assert again.loop_config == model.loop_config
    assert "smp-feedback-vit" in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_model_comes_back_too(kind, tmp_path):
    model = smpf.wrap(made(kind, feedback=False)).eval()
    assert same(smpf.from_pretrained(model.save_pretrained(tmp_path)).eval(), model)


def test_the_plain_segmenter_is_saved_as_smps_models_are(tmp_path):
    plain = made("padded", feedback=False)
    plain.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["encoder_name"] == "test_vit"
    assert same(ViTSegmenter.from_pretrained(tmp_path).eval(), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles_answer_alike(kind):
    model = made(kind, feedback={"insert": "after:patch_embed"})
    assert same(copy.deepcopy(model), model)
    assert same(pickle.loads(pickle.dumps(model)), model)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_are_answered_alike(kind):
    model = made(kind)
    with hearing(model), torch.no_grad():
        whole = model(torch.cat([IMAGE, IMAGE.flip(-1)]))
        for index in range(2):
            one = model(IMAGE[index : index + 1])
            pairs = zip(whole, one, strict=True) if isinstance(whole, tuple) else [(whole, one)]
            assert all(torch.allclose(a[index : index + 1], b, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize(
    ("kind", "insert"),
    [pytest.param("masks", "input", marks=pytest.mark.sweep), ("padded", "after:patch_embed")],
)
@pytest.mark.sweep
def test_it_compiles_to_one_graph_and_exports(kind, insert):
    model = made(kind, feedback={"insert": insert, "steps": 2})
    check_compiles(model, IMAGE, dynamic=False)
    check_exports(model, IMAGE)


def test_it_refuses_script():
    check_refuses_script(made("linear"))


@pytest.mark.sweep
def test_onnx_answers_as_the_model_for_any_batch(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = made("linear", feedback={"steps": 2, "insert": "after:patch_embed"})
    written = smpf.export(model, tmp_path / "model.onnx", image=IMAGE, dynamic="batch")
    assert written.image == ("batch", 3, 32, 48)


def test_a_short_training_finds_more_than_chance():
    model = smpf.create("ViTSegmenter", "test_vit", classes=2, patch_size=4, img_size=16, feedback={"steps": 2})
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)

    def batch(seed, count=16):  # bright half or dark half, behind noise
        generator = torch.Generator().manual_seed(seed)
        masks = torch.zeros(count, 16, 16, dtype=torch.int64)
        for mask, cut in zip(masks, torch.randint(4, 12, (count,), generator=generator), strict=True):
            mask[:, int(cut) :] = 1
        return masks[:, None] + 0.5 * torch.randn(count, 3, 16, 16, generator=generator), masks

    for step in range(40):
        images, masks = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(images), masks).backward()
        optimizer.step()
    images, masks = batch(1000, 32)
    right = (model.predict(images).argmax(1) == masks).float().mean()
    assert right > 0.85, right  # the larger class alone is 0.53


def test_the_package_is_listed_by_its_name_and_imports_nothing_heavy_before_it_is_asked():
    words = (
        "import sys, smp_feedback_vit.plugin, smp_feedback_vit;"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", words], check=True, timeout=120)
    assert {"ViTSegmenter", "ViTClassifier"} <= set(smpf.list_architectures("vit*"))
    brought = {plugin.name: plugin for plugin in smpf.list_plugins()}
    assert brought["vit"].error is None
    assert brought["vit"].distribution == "smp-feedback-vit"
    assert ViTClassifier.__name__ in smpf.list_architectures("*classifier")


def test_the_readme_runs():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["logits"].shape == (1, 4, 64, 96)
    assert names["path"].shape == (4, 1, 4, 50, 70)


def test_the_table_says_which_work_and_why_not(capsys):
    works.main(["test_vit", "crossvit_9_240"])
    table = capsys.readouterr().out.splitlines()
    assert table[2] == "| test_vit | 16 | any | yes | yes | after:patch_embed |"
    assert "forward_features must give one tensor" in table[3]
    works.main(["test_vit", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["segments"] == "yes"
