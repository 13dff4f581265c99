"""``list`` and ``plugins``: every name with who brought it, for people and for programs."""

from __future__ import annotations

import json
import warnings

import pytest
import timm

import smp_feedback as smpf
from smp_feedback.cli.listing import LISTED, listed, warnings_on_a_line
from smp_feedback.cli.main import main
from smp_feedback.errors import DataWarning, PluginWarning, UnknownName
from smp_feedback.registry.plugins import Plugin
from smp_feedback.registry.public import catalogue


def said(capsys, *words):
    """What a command prints, and on stderr."""
    assert main(words) == 0
    return capsys.readouterr()


@pytest.mark.parametrize("kind", LISTED)
def test_every_kind_is_listed_with_who_brought_each_name(kind, capsys):
    rows = json.loads(said(capsys, "list", kind, "--json").out)
    assert rows == listed(kind)
    if kind == "encoders":
        assert [row["name"] for row in rows] == smpf.list_encoders()
        assert {row["brought_by"].split()[0] for row in rows} == {"segmentation_models_pytorch", "timm"}
        return
    registry = catalogue().registries()[kind]
    assert [row["name"] for row in rows if "members" not in row] == list(registry)
    for row in rows:
        if "members" not in row:
            assert row["brought_by"] == registry.origin(row["name"])


def test_every_registry_is_listed():
    assert set(LISTED) == {"encoders", *catalogue().registries()}


def test_a_table_shows_name_aliases_and_distribution(restored, capsys):
    restored.losses.register("steady", "torch.nn:L1Loss", aliases=("calm", "quiet"), origin="calm-losses 1.2.3")
    (row,) = listed("losses", "STEA*")
    assert row == {"name": "steady", "aliases": ["calm", "quiet"], "brought_by": "calm-losses 1.2.3"}
    words = said(capsys, "list", "losses", "stea*").out.split()
    assert [word for word in words if word.isascii()] == [
        *("losses", "also", "called", "brought", "by", "steady", "calm,", "quiet", "calm-losses", "1.2.3")
    ]


def test_a_family_is_one_row_and_with_a_slash_its_members(capsys):
    rows = {row["name"]: row for row in listed("architectures")}
    assert rows["timm/*"]["members"] > 900
    assert "timm/*  (1," in said(capsys, "list", "architectures").out
    names = [row["name"] for row in listed("architectures", "timm/ResNet1?")]
    assert names == [f"timm/{name}" for name in timm.list_models("resnet1?")] != []
    assert listed("architectures", "timm*")[0]["name"] == "timm/*"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("architecture", "'architectures'"), ("loss", "'losses' or 'loops'"), ("Encoders", "'encoders'")],
)
def test_a_kind_that_there_is_not_is_told_which_was_meant(wrong, right, capsys):
    with pytest.raises(UnknownName):
        listed(wrong)
    assert main(["list", wrong]) == 2
    assert capsys.readouterr().err == f"smp-feedback: No kind of part is called {wrong!r}. Did you mean {right}?\n"


def test_a_list_of_nothing_in_particular_is_told_what_there_is_to_list(capsys):
    assert main(["list"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("smp-feedback: list needs to know what: smp-feedback list KIND, where KIND is architectures")
    assert all(f" {kind} or " in err or err.endswith(f" {kind}.\n") for kind in LISTED)


def test_nothing_that_matches_is_said_in_words_and_in_json(capsys):
    assert said(capsys, "list", "losses", "zz*").out == "No losses match 'zz*'.\n"
    assert json.loads(said(capsys, "list", "losses", "zz*", "--json").out) == []


def test_plugins_are_shown_with_what_they_brought_or_why_not(restored, capsys):
    good = Plugin("good", "good-plugin", "1.0", brought={"losses": ("steady", "calm"), "cuts": ("a.B",)})
    bad = Plugin("bad", "bad-plugin", "0.2", "broken", "[Errno 2] gone", "Traceback ...\nOSError: [Errno 2] gone\n")
    off = Plugin("off", "off-plugin", "0.3", "disabled")
    restored.plugins[:] = [good, bad, off]
    out = said(capsys, "plugins").out
    for words in ("losses: steady, calm; cuts: a.B", "bad-plugin", "broken", "[Errno 2] gone", "disabled"):
        assert words in out
    assert "Traceback" not in out
    assert "\nbad of bad-plugin 0.2:\nTraceback ...\nOSError" in said(capsys, "plugins", "--traceback").out
    assert json.loads(said(capsys, "plugins", "--json").out) == [one.to_dict() for one in (good, bad, off)]
    restored.plugins.clear()
    assert said(capsys, "plugins").out.startswith("No plugins are installed")


def test_a_warning_of_ours_is_one_line_said_once_and_others_stay_what_they_are(capsys):
    def warn():
        with warnings_on_a_line():
            warnings.warn("Plugin 'x' is left out: 1", PluginWarning, stacklevel=1)
            for _ in range(3):  # a dataset that a comparison opens for each of its models
                warnings.warn("d: 1 file is left out", DataWarning, stacklevel=1)
            warnings.warn("another", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="another"):
        warn()
    assert capsys.readouterr().err == "smp-feedback: Plugin 'x' is left out: 1\nsmp-feedback: d: 1 file is left out\n"
