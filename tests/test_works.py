"""Which models work: how they are asked, what is kept, and what the page says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from benchmarks import works
from benchmarks.working import cases, checks, page, store, written
from benchmarks.working.apart import apart
from benchmarks.working.bases import first_module
from benchmarks.working.cases import FIRST, Case, Smallest, cases_of, smallest_of
from benchmarks.working.checks import CHECKS, check, lossless, train_once
from benchmarks.working.store import Store, reason

PASSED = dict.fromkeys(CHECKS, "")
CASE = Case("timm", "resnet", "resnet10t", "input")
VERSIONS = {"torch": "9.9", "timm": "8.8"}


def says_two_things(argument):
    yield "first", argument
    yield "second", 2


def crashes(argument):
    yield "plain", ""
    os._exit(3)


def waits(argument):
    yield "plain", ""
    time.sleep(600)


def works_hard(argument):
    yield "plain", ""
    while True:
        pass


def eats(argument):
    try:
        torch.zeros(2**32)
    except RuntimeError as error:
        yield "plain", checks.words(error)


def test_what_a_process_of_its_own_finds_comes_back():
    assert apart(says_two_things, "word", seconds=60, memory=4) == {"first": "word", "second": 2}


def test_a_crash_ends_nothing_but_itself_and_keeps_what_was_known():
    facts = apart(crashes, None, seconds=60, memory=4)
    assert facts == {"plain": "", "stopped": "its process ended with 3"}
    assert reason(facts) == "its process ended with 3, at: opens"


def test_what_works_too_long_is_stopped_however_busy_the_machine():
    facts = apart(works_hard, None, seconds=1, memory=4, patience=500)
    assert facts == {"plain": "", "stopped": "took more than 1 s of work"}


def test_what_waits_too_long_is_stopped():
    facts = apart(waits, None, seconds=10, memory=4, patience=0.5)
    assert facts == {"plain": "", "stopped": "took more than 5 s, most of it waiting"}


def test_what_needs_too_much_memory_says_so():
    assert "allocate" in apart(eats, None, seconds=60, memory=2)["plain"]


def test_the_smallest_of_a_family_is_the_one_with_the_fewest_parameters():
    names = timm.list_models(module="dpn")
    name, count = smallest_of("dpn")
    assert count == sum(p.numel() for p in timm.create_model(name).parameters())
    assert len(names) > 2
    assert all(cases._parameters(other) >= count for other in names)


def test_a_miniature_for_tests_is_taken_only_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(cases, "_parameters", {"net_a": 30, "net_b": 20, "test_net": 1, "net_odd": None}.get)
    monkeypatch.setattr(timm, "list_models", lambda module: ["net_a", "net_b", "net_odd", "test_net"])
    assert smallest_of("net") == Smallest("net_b", 20)
    monkeypatch.setattr(timm, "list_models", lambda module: ["test_net"])
    assert smallest_of("net") == Smallest("test_net", 1)
    monkeypatch.setattr(timm, "list_models", lambda module: ["net_odd"])
    assert smallest_of("net") is None


def test_a_family_that_is_too_large_is_not_asked_and_named():
    families = {"small": Smallest("a", 10), "giant": Smallest("b", cases.LARGEST + 1)}
    assert {case.family for case in cases_of("timm", families)} == {"small"}
    assert "giant (b)" in page.left_out(families)
    assert not page.left_out({"small": Smallest("a", 10)})


def test_only_isotropic_models_are_asked_in_the_segmenter(monkeypatch):
    names = {"deit": "deit_tiny_patch16_224", "convmixer": "convmixer_768_32", "resnet": "resnet10t", "odd": "no_model"}
    families = {family: Smallest(name, 10) for family, name in names.items()}
    monkeypatch.setattr(cases, "has_segmenter", lambda: True)
    assert [case.family for case in cases_of("vit", families)] == ["deit", "convmixer"]
    monkeypatch.setattr(cases, "has_segmenter", lambda: False)
    assert list(cases_of("vit", families)) == []


@pytest.mark.parametrize("place", ["input", FIRST])
def test_a_model_that_works_passes_every_check(place):
    facts = dict(check(Case("timm", "vision_transformer", "test_vit", place)))
    assert {name: facts[name] for name in CHECKS} == PASSED
    assert store.works(facts)
    assert (facts["layout"], facts["size"]) == ("tokens", 160)
    assert facts["place"] == ("after:patch_embed" if place == FIRST else "input")


def test_a_place_that_a_model_does_not_have_is_said_in_its_words():
    facts = dict(check(Case("timm", "vision_transformer", "test_vit", "stage:2")))
    assert not store.works(facts)
    assert "cannot be entered there" in reason(facts)
    assert "lossless" not in facts


def test_a_model_that_does_not_exist_is_its_librarys_trouble():
    facts = dict(check(Case("timm", "resnet", "resnet10tt", "input")))
    assert "resnet10tt" in facts["plain"]
    assert reason(facts) == facts["plain"]


class Trunk(nn.Module):
    """Reads the image in a large part and, inside that, in a small one."""

    def __init__(self):
        super().__init__()
        self.large = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 64, 3, padding=1))
        self.head = nn.Conv2d(64, 2, 1)

    def forward_features(self, image):
        return self.large(image)

    def forward_head(self, features):
        return self.head(features).mean((2, 3))

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


def test_the_first_module_is_a_small_part_of_the_model():
    assert first_module(Trunk().eval(), torch.rand(1, 3, 16, 16)) == "after:large.0"


def test_a_head_of_zeros_does_not_hide_an_answer_that_moves(monkeypatch):
    plain, image = Trunk().eval(), torch.rand(1, 3, 16, 16)
    nn.init.zeros_(plain.head.weight)
    asked = []
    monkeypatch.setattr(checks, "check_lossless", lambda model, image, config: asked.append((model(image), config)))
    lossless(plain, image, "after:large.0")
    ((answer, config),) = asked
    assert answer.detach().std() > 0.01
    assert config.insert == "after:large.0"


def test_what_is_broken_is_said_by_its_check(monkeypatch):
    def refuse(*told, **more):
        raise AssertionError("a broken promise")

    for name in ("check_lossless", "check_heard", "train_once", "check_saved"):
        monkeypatch.setattr(checks, name, refuse)
    facts = dict(check(Case("timm", "vision_transformer", "test_vit", "input")))
    assert [facts[name] for name in CHECKS[2:]] == [
        "a broken promise",
        "a broken promise",
        "As without feedback: a broken promise",
        "a broken promise",
    ]


def test_a_step_of_training_that_is_not_finite_is_caught():
    model = Trunk()
    train_once(model, torch.rand(1, 3, 16, 16))
    model.head.weight.data.fill_(float("inf"))
    with pytest.raises(AssertionError, match="loss"):
        train_once(model, torch.rand(1, 3, 16, 16))


def test_results_are_kept_and_not_asked_twice(tmp_path):
    kept = Store(tmp_path / "works.json")
    bad = CASE._replace(place="stage:2")
    kept.smallest["resnet"] = Smallest("resnet10t", 5)
    kept.add(CASE, PASSED)
    kept.add(bad, {"plain": "", "opens": "No."})
    again, new = Store(tmp_path / "works.json"), CASE._replace(place=FIRST)
    assert again.smallest == {"resnet": Smallest("resnet10t", 5)}
    assert again.pending([CASE, bad, new], again=False) == [new]
    assert again.pending([CASE, bad, new], again=True) == [bad, new]


def test_results_of_other_versions_are_not_counted(tmp_path):
    path = tmp_path / "works.json"
    Store(path).add(CASE, PASSED)
    text = json.loads(path.read_text())
    text["versions"]["timm"] = "0.1"
    path.write_text(json.dumps(text))
    assert Store(path).results == {}


def test_a_model_works_only_if_every_check_was_reached():
    assert store.works(PASSED)
    assert not store.works(PASSED | {"saved": "It answers otherwise."})
    assert not store.works({name: "" for name in CHECKS if name != "saved"})
    assert not store.works(PASSED | {"stopped": "took more than 1 s"})


def results():
    timm_input = PASSED | {
        "layout": "map",
        "size": 64,
        "place": "input",
        "seconds": 2.4,
        "architecture": "timm/resnet10t",
    }
    refused = {"plain": "", "opens": "Coat: got a list."}
    found = {
        CASE: timm_input,
        CASE._replace(place=FIRST): timm_input | {"place": "after:conv1"},
        Case("timm", "coat", "coat_tiny", "input"): refused,
        Case("timm", "coat", "coat_tiny", FIRST): refused,
        Case("encoders", "resnet", "resnet10t", "input"): PASSED | {"architecture": "Unet"},
        Case("smp", "Unet", "Unet", "input"): PASSED,
        Case("smp", "Unet", "Unet", "stem"): {"plain": "", "stopped": "took more than 9 s"},
    }
    return {case.key: facts for case, facts in found.items()}


SMALLEST = {
    "coat": Smallest("coat_tiny", 5_500_000),
    "resnet": Smallest("resnet10t", 4_900_000),
    "vgg": Smallest("vgg11", 133_000_000),
    "giant": Smallest("giant_g", cases.LARGEST + 1),
}


def test_the_page_says_who_works_and_why_others_do_not():
    text = page.page(results(), SMALLEST, VERSIONS, segmenter=False)
    lines = text.splitlines()
    assert "| resnet | resnet10t | 4.9 | 64 | map | yes | `conv1` | Unet | 2 |" in lines
    assert "| coat | coat_tiny | 5.5 | - | other | no | no | - | - |" in lines
    assert "| vgg | vgg11 | 133.0 | - | - | - | - | - | - |" in lines
    assert "| Unet | yes | no | - | - |" in lines
    assert "| timm's families as classifiers, beside the image | 2 | 1 |" in lines
    assert "- **coat**: Coat: got a list." in lines
    assert "- **Unet**: took more than 9 s, at: opens" in lines
    assert "torch 9.9, timm 8.8" in text
    assert "| giant |" not in text
    assert "giant (giant_g)" in text
    assert "ViTSegmenter was not asked" in text


def test_the_segmenter_has_a_column_where_it_is_installed():
    case = Case("vit", "resnet", "resnet10t", "input")
    text = page.page(results() | {case.key: PASSED}, SMALLEST, VERSIONS, segmenter=True)
    assert "| resnet | resnet10t | 4.9 | 64 | map | yes | `conv1` | Unet | yes | 2 |" in text.splitlines()
    assert "ViTSegmenter was not asked" not in text


def test_the_command_asks_keeps_and_writes(tmp_path, monkeypatch, capsys):
    asked = []

    def answer(call, case, **limits):
        asked.append(case)
        return dict(PASSED) if case.place == "input" else {"plain": "", "opens": "No."}

    monkeypatch.setattr(works, "apart", answer)
    monkeypatch.setattr(store.Store, "families", lambda self: iter(()))
    arguments = ["works", "--only", "smp", "--families", "Unet", "--cache", str(tmp_path / "works.json")]
    command = [*arguments, "--out", str(tmp_path / "works.md")]
    unet = [Case("smp", "Unet", "Unet", place) for place in ("decoder", "input", "stage:2", "stem")]
    refused = [case for case in unet if case.place != "input"]
    for more, expected in (
        (["--places", "decoder"], unet[:1]),
        ([], unet[1:]),
        ([], []),
        (["--again"], refused),
    ):
        asked.clear()
        monkeypatch.setattr("sys.argv", [*command, *more])
        works.main()
        assert sorted(asked) == expected
    assert "| Unet | yes | no | no | no |" in (tmp_path / "works.md").read_text()


def test_what_is_not_asked_again_stays_on_the_page_as_it_is():
    before = page.page(results(), SMALLEST, VERSIONS, segmenter=False)
    assert page.page({}, {}, VERSIONS, segmenter=False, before=before) == before
    new = {Case("smp", name, name, "decoder").key: PASSED for name in ("FPN", "Unet")}
    text = page.page(new, {}, VERSIONS | {"timm": "9.0"}, segmenter=False, before=before)
    lines, gone = text.splitlines(), set(before.splitlines()) - set(text.splitlines())
    assert "| Unet | yes | no | - | yes |" in lines
    assert "| FPN | - | - | - | yes |" in lines
    assert "| smp's architectures, in front of the decoder | 2 | 2 |" in lines
    assert gone == {"| Unet | yes | no | - | - |", "Random weights, CPU, float32; torch 9.9, timm 8.8."}
    assert "torch 9.9, timm 9.0. What was not asked again was asked with torch 9.9, timm 8.8." in text
    mended = {Case("smp", "Unet", "Unet", "stem").key: PASSED, Case("smp", "PAN", "PAN", "stem").key: {"plain": "No."}}
    text = page.page(mended, {}, VERSIONS, segmenter=False, before=text)
    assert "| Unet | yes | yes | - | yes |" in text.splitlines()
    assert "| smp's architectures, after the stem | 2 | 1 |" in text.splitlines()
    assert ("- **PAN**: No." in text.splitlines(), "took more than 9 s" in text) == (True, False)
    again = page.page(new, {}, VERSIONS | {"timm": "9.1"}, segmenter=False, before=text)
    assert "timm 9.1. What was not asked again was asked with torch 9.9, timm 8.8." in again


def test_the_page_in_the_documents_says_of_every_architecture_of_smp_whether_it_has_a_decoder_to_enter():
    text = (Path(__file__).parents[1] / "docs" / "works.md").read_text()
    cells = written.Written.of(text).of_table(page.SMP)
    asked = {case.family for case in cases_of("smp", {})}
    assert {row for row, column in cells if column == "decoder"} == asked
    for row in asked:
        assert cells[row, "decoder"] in ("yes", "no")
        assert cells[row, "decoder"] == "yes" or f"**{row}**" in text.partition("front of the decoder\n")[2]
    assert {cells["DPT", place] for place in ("stem", "stage:2")} == {"no"}


def test_the_page_in_the_documents_has_a_row_for_every_family_of_its_timm():
    text = (Path(__file__).parents[1] / "docs" / "works.md").read_text()
    if f"timm {timm.__version__}" not in text:
        pytest.skip("written with another timm")
    assert [family for family in timm.list_modules() if f"| {family} |" not in text and f"{family} (" not in text] == []
