"""Installed distributions: loaded when they are asked for, and whatever is wrong with one is its own affair."""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import sys
import threading
import warnings
from importlib import metadata
from textwrap import dedent

import pytest
import segmentation_models_pytorch as smp
import torch
from distributions import install, new_site, points_in, process, run

import smp_feedback as smpf
from smp_feedback.cli.main import main
from smp_feedback.config.parse import as_config
from smp_feedback.data import open_dataset
from smp_feedback.errors import FeedbackError, InvalidValue, NameTaken, PluginWarning, UnknownKeyword, UnknownName
from smp_feedback.registry import public as plugins
from smp_feedback.registry.plugins import DISABLE, Plugin
from smp_feedback.registry.public import catalogue, open_catalogue
from smp_feedback.training.build_loss import build_loss

GOOD = """
    from torch import nn
    from smp_feedback.hookspecs import hookimpl

    class Good(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, classes, 1)

        def forward_features(self, image):
            return self.body(image).relu()

        def forward_head(self, features):
            return self.head(features)

        def forward(self, image):
            return self.forward_head(self.forward_features(image))

    @hookimpl
    def register_architectures(register):
        register("GoodNet", lambda classes=1: Good(classes), aliases=("good",))
"""
HALF = """
    from smp_feedback.hookspecs import hookimpl
    {first}

    @hookimpl
    def register_architectures(register):
        register("HalfNet", "half_plugin:net", aliases=["half"])
        {then}
"""
BROKEN = {
    "raises on import": ("RuntimeError: no GPU", HALF.format(first="raise RuntimeError('no GPU')", then="")),
    "imports what is not installed": ("'no_such_thing'", HALF.format(first="import no_such_thing", then="")),
    "leaves on import": ("SystemExit: 3", HALF.format(first="raise SystemExit(3)", then="")),
    "raises what is no Exception": ("Odd", HALF.format(first="raise type('Odd', (BaseException,), {})", then="")),
    "raises in its hook": ("ValueError: late", HALF.format(first="", then="raise ValueError('late')")),
    "registers a taken name": (
        "architecture 'UNET' belongs to smp_feedback (as 'Unet'); half-plugin 0.3 needs another name.",
        HALF.format(first="", then="register('UNET', print)"),
    ),
    "registers a name of a family": (
        "architecture 'timm/mine' belongs to smp_feedback (as 'timm/*')",
        HALF.format(first="", then="register('timm/mine', print)"),
    ),
    "registers a part that is none": (
        "architecture 'Seven' of half-plugin 0.3 is 7: expected a function or class.",
        HALF.format(first="", then="register('Seven', 7)"),
    ),
    "says of a part what nobody knows": (
        "register takes no 'alias'. Did you mean 'aliases'?",
        HALF.format(first="", then="register('Seven', print, alias='seven')"),
    ),
    "names a loop that is none": (
        "feedback=5: expected a loop's config as a dict",
        HALF.format(first="", then="register('Seven', print, feedback=5)"),
    ),
    "forgets the comma of a tuple": (
        "aliases='seven': give a tuple of names",
        HALF.format(first="", then="register('Seven', print, aliases='seven')"),
    ),
    "misspells a hook": (
        "register_loses is no hook. Did you mean 'register_losses'",
        HALF.format(first="", then="") + "\n    @hookimpl\n    def register_loses(register): ...",
    ),
    "marks no hook": ("is not marked", HALF.format(first="", then="").replace("@hookimpl", "")),
    "needs another version": ("needs smp_feedback>=99; this is smp_feedback", HALF.format(first="", then="")),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path for distributions, and a process that has not looked for plugins yet."""
    with new_site(tmp_path, monkeypatch) as folder:
        yield folder


def installed_half(folder, fault="raises on import"):
    """The broken plugin, with *fault*; returns what is said of it."""
    reason, source = BROKEN[fault]
    requires = ["torch", "smp-feedback>=99"] if "version" in fault else ["torch", "smp_feedback>=0.0.1"]
    install(folder, "half-plugin", "0.3", source, requires=requires, entry="half")
    return reason


def opened(folder):
    """The catalogue with the plugins in *folder* and no others, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        return open_catalogue(found=points_in(folder))


def called(name):
    """The plugin of that name."""
    (plugin,) = (plugin for plugin in smpf.list_plugins() if plugin.name == name)
    return plugin


def ask(*names):
    """What is here of *names*, of the process's catalogue, with its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        here = [name in catalogue().architectures for name in names]
    return here, [str(one.message) for one in caught if issubclass(one.category, PluginWarning)]


# --- when they are loaded


def test_built_in_names_load_no_plugin(site):
    install(site, "loud-plugin", "1.0", "raise AssertionError('nobody asked')")
    model = smpf.create("unet", encoder="resnet18", encoder_weights=None, feedback={"dynamics": "leaky"})
    smpf.wrap(smp.Unet("resnet18", encoder_weights=None))
    assert "dice" in catalogue().losses
    model.save_pretrained(site.parent / "saved")
    smpf.from_pretrained(site.parent / "saved")
    assert catalogue().plugins == []
    with pytest.warns(PluginWarning, match="nobody asked"):
        assert "Unet" in smpf.list_architectures()


@pytest.mark.parametrize(
    "look",
    [
        lambda: catalogue().architectures["GoodNet"],
        lambda: smpf.create("good", classes=2),
        lambda: "goodnet" in catalogue().architectures,
        lambda: "GoodNet" in list(catalogue().architectures),
        lambda: "GoodNet" in smpf.list_architectures("g*"),
        lambda: called("good-plugin").state == "loaded",
        lambda: "GoodNet" in catalogue().architectures.copy(),
    ],
)
def test_the_first_look_up_that_needs_them_loads_them(site, look):
    install(site, "good-plugin", "1.0", GOOD)
    assert look()


def test_the_order_of_look_ups_does_not_matter(site):
    install(site, "good-plugin", "1.0", GOOD.replace('"GoodNet"', '"unet"'))
    assert smpf.create("unet", encoder="resnet18", encoder_weights=None, feedback=False).name == "u-resnet18"
    with pytest.warns(PluginWarning, match="belongs to smp_feedback"):
        smpf.list_architectures()
    assert catalogue().architectures["UNET"] is smp.Unet
    assert catalogue().architectures.name_of(smp.Unet) == "Unet"


def test_what_a_script_registers_first_is_kept_and_the_plugin_is_told(site):
    install(site, "good-plugin", "1.0", GOOD)
    smpf.register_architecture("good", print)
    with pytest.warns(PluginWarning, match=r"'good' belongs to builtins \(as 'good'\); good-plugin 1\.0 needs"):
        smpf.list_architectures()
    assert catalogue().architectures["good"] is print


def test_what_a_script_registers_last_is_refused(site):
    install(site, "good-plugin", "1.0", GOOD)
    smpf.list_architectures()
    with pytest.raises(NameTaken, match=r"belongs to good-plugin 1\.0 \(as 'GoodNet'\)"):
        smpf.register_architecture("good", print)


def test_threads_that_ask_at_once_all_find_it_and_it_is_loaded_once(site):
    slow = "import time, builtins\nbuiltins._loads = getattr(builtins, '_loads', 0) + 1\ntime.sleep(0.2)\n"
    install(site, "good-plugin", "1.0", slow + dedent(GOOD))
    found = []
    catalogue()
    threads = [threading.Thread(target=lambda: found.append("GoodNet" in catalogue().architectures)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert vars(builtins).pop("_loads") == 1


def test_a_plugin_that_is_imported_by_hand_and_looks_itself_up_is_loaded_when_it_is_whole(site):
    source = "import smp_feedback as smpf\nBEFORE = smpf.list_architectures()\n" + dedent(GOOD)
    install(site, "good-plugin", "1.0", source)
    module = importlib.import_module("good_plugin")
    assert "GoodNet" not in module.BEFORE
    assert "GoodNet" in smpf.list_architectures()
    assert called("good-plugin").brought == {"architectures": ("GoodNet",)}


def test_an_entry_point_that_is_listed_twice_is_loaded_once(site):
    install(site, "good-plugin", "1.0", GOOD)
    (point,) = points_in(site)
    twin = metadata.EntryPoint(point.name, point.value, point.group)
    (plugin,) = open_catalogue(found=[point, twin]).plugins
    assert plugin.origin == "good-plugin 1.0"


def test_who_interrupts_a_plugin_may_ask_again(site):
    once = (
        "import builtins\nif not hasattr(builtins, '_asked'):\n    builtins._asked = 1\n    raise KeyboardInterrupt\n"
    )
    install(site, "good-plugin", "1.0", once + dedent(GOOD))
    with pytest.raises(KeyboardInterrupt):
        smpf.list_architectures()
    assert "GoodNet" in smpf.list_architectures()
    del builtins._asked


def test_what_a_plugin_registers_by_decorators_is_its_distributions_too(site):
    source = "import smp_feedback as smpf\n@smpf.register_loss('Decorated')\nclass Loss: ...\n" + dedent(GOOD)
    install(site, "good-plugin", "1.0", source)
    importlib.import_module("good_plugin")  # by hand, and then as a plugin
    assert catalogue().losses.origin("decorated") == "good_plugin"
    assert called("good-plugin").brought == {"architectures": ("GoodNet",), "losses": ("Decorated",)}
    assert catalogue().losses.origin("decorated") == catalogue().architectures.origin("good") == "good-plugin 1.0"


# --- broken ones


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_leaves_everything_else_working(site, fault):
    reason = installed_half(site, fault)
    install(site, "good-plugin", "1.0", GOOD)
    here, said = ask("GoodNet", "HalfNet", "half", "Unet")
    assert here == [True, False, False, True]
    (warning,) = said
    assert "'half' of half-plugin 0.3 is left out: " in warning
    assert reason in warning

    image = torch.rand(1, 3, 16, 16)
    assert smpf.create("good", classes=2)(image, steps=2).shape == (1, 2, 16, 16)
    assert (
        smpf.create("unet", encoder="resnet18", encoder_weights=None, feedback=False)
        .eval()(torch.rand(1, 3, 32, 32))
        .shape
    )
    assert ask("HalfNet") == ([False], [])  # said once

    good, half = called("good-plugin"), called("half")
    assert (good.state, good.error, good.brought) == ("loaded", None, {"architectures": ("GoodNet",)})
    assert (half.distribution, half.version, half.state) == ("half-plugin", "0.3", "broken")
    assert reason in half.error
    assert reason.partition(":")[0] in half.traceback
    assert half.traceback.startswith("Traceback")
    assert json.loads(json.dumps(half.to_dict()))["state"] == "broken"


@pytest.mark.parametrize("fault", BROKEN)
def test_an_unknown_name_says_which_plugin_is_left_out_and_why(site, fault):
    reason = installed_half(site, fault)
    with pytest.raises(UnknownName) as caught:
        opened(site).architectures["HalfNet"]
    said = opened(site).plugins[0].error.rstrip(".")
    assert str(caught.value).startswith("No architecture is called 'HalfNet'. ")
    assert str(caught.value).endswith(f"Or it is of a plugin that is not loaded: half-plugin 0.3 is left out: {said}.")
    assert reason.rstrip(".") in said


def test_every_plugin_that_is_left_out_is_named_beside_what_was_probably_meant(site):
    installed_half(site)
    install(site, "mute-plugin", "0.4", "def (")
    words = (
        r"Did you mean 'Unet'.* half-plugin 0\.3 is left out: RuntimeError: no GPU; mute-plugin 0\.4 is left out: Synt"
    )
    with pytest.raises(UnknownName, match=words):
        opened(site).architectures["Unett"]


@pytest.mark.parametrize("name", ["HalfLoss", "dise"])
def test_an_unknown_loss_says_so_too(site, name):
    installed_half(site)
    with pytest.warns(PluginWarning, match="no GPU"), pytest.raises(UnknownName, match=r"half-plugin 0\.3 is left out"):
        build_loss(name)


def test_where_warnings_are_errors_every_plugin_is_told_once_and_all_the_others_are_in(site):
    installed_half(site)
    install(site, "worse-plugin", "0.1", "1 / 0")
    install(site, "good-plugin", "1.0", GOOD)
    told = set()
    for _ in range(2):
        with pytest.raises(PluginWarning) as caught:
            smpf.list_architectures()
        told.add(str(caught.value).partition(" is left out")[0])
    assert told == {"Plugin 'half' of half-plugin 0.3", "Plugin 'worse-plugin' of worse-plugin 0.1"}
    assert "GoodNet" in smpf.list_architectures()


def test_a_family_that_cannot_list_its_members_hides_nobody_elses(site):
    source = """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_architectures(register):
            register("hub/*", print, members=lambda: 1 / 0)
    """
    install(site, "hub-plugin", "0.1", source)
    found = opened(site)
    with pytest.warns(PluginWarning, match=r"'hub/\*' of hub-plugin 0\.1 cannot list its members: ZeroDivisionError"):
        assert "torchvision/fcn_resnet50" in found.architectures.names("*/*")


def test_an_address_that_leads_nowhere_names_the_distribution(site):
    installed_half(site, "raises in its hook")
    (site / "half_plugin.py").write_text((site / "half_plugin.py").read_text().replace("raise ValueError", "str"))
    (site / "elsewhere.py").write_text("raise SystemExit(4)")
    found = opened(site)
    with pytest.raises(
        FeedbackError, match=r"'HalfNet' of half-plugin 0\.3 is not at 'half_plugin:net': AttributeError"
    ):
        found.architectures["half"]
    found.losses.register("away", "elsewhere:Loss", origin="half-plugin 0.3")
    with pytest.raises(FeedbackError, match=r"half-plugin 0\.3 is not at 'elsewhere:Loss': SystemExit: 4"):
        found.losses["away"]


# --- disabled ones


@pytest.mark.parametrize("words", ["1", "half", "HALF-plugin", "1, Half_Plugin"])
def test_a_disabled_plugin_is_not_imported_and_an_unknown_name_says_so(site, words, monkeypatch):
    installed_half(site)
    monkeypatch.setenv(DISABLE, words)
    found = open_catalogue(found=points_in(site))
    assert found.plugins == [Plugin("half", "half-plugin", "0.3", "disabled")]
    with pytest.raises(UnknownName, match=rf"not loaded: half-plugin 0\.3 is disabled by {DISABLE}\.$"):
        found.architectures["halfnet"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", []),
        ("goood", ["no plugin is called 'goood'. Did you mean 'good'?"]),
        ("goods, halfway", ["'goods'. Did you mean 'good'?", "'halfway'. There is: good, good-plugin."]),
    ],
)
def test_other_words_disable_nobody_and_are_warned_of(site, words, said, monkeypatch):
    install(site, "good-plugin", "1.0", GOOD, entry="good")
    monkeypatch.setenv(DISABLE, words)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = open_catalogue(found=points_in(site))
        assert "GoodNet" in found.architectures
        assert "NoNet" not in found.architectures
    assert [one.category for one in caught] == [PluginWarning] * len(said)
    for one, words in zip(caught, said, strict=True):
        assert str(one.message).startswith(f"{DISABLE}: no plugin is called '")
        assert words in str(one.message)


# --- parts that fail when they are used

FAULTY = """
    from smp_feedback.hookspecs import hookimpl

    class Faulty:
        reads_logits, readout = False, 1

        def __init__(self, *args, **kwargs):
            raise {error}

        def __call__(self): ...
        def begin(self): ...
        def before(self): ...

        @classmethod
        def check(cls, config): ...

    @hookimpl
    def register_{kind}(register):
        register("Faulty", Faulty)
"""
USES = {
    "architectures": lambda: smpf.create("faulty"),
    "dynamics": lambda: smpf.create("timm/test_resnet", feedback={"dynamics": "faulty"}),
    "projections": lambda: smpf.create("timm/test_resnet", feedback={"projection": "faulty", "norm_error": 1}),
    "losses": lambda: build_loss("faulty"),
    "datasets": lambda: open_dataset("faulty"),
}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors carry no notes")
@pytest.mark.parametrize("kind", USES)
def test_what_a_part_raises_is_noted_with_who_brought_it(site, kind):
    install(site, "faulty-parts", "1.2", FAULTY.format(kind=kind, error="ZeroDivisionError('in it')"))
    with pytest.raises(ZeroDivisionError, match="in it") as caught:
        USES[kind]()
    singular = catalogue().registries()[kind].kind
    assert caught.value.__notes__ == [f"(Raised by {singular} 'Faulty' of faulty-parts 1.2.)"]


PRESETS = """
    from smp_feedback.hookspecs import hookimpl

    @hookimpl
    def register_presets(register):
        register("Patient", {"loop": "recurrent", "steps": 32}, aliases=("slow",))
        register("Hasty", {"steps": 2, "patience": 0})
        register("Gone", "no_such_module:preset")
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors carry no notes")
def test_a_plugins_preset_that_is_none_is_refused_when_it_is_asked_for_and_breaks_no_other(site):
    install(site, "loops-by-name", "2.0", PRESETS)
    assert smpf.list_presets() == ["anytime", "film", "Gone", "Hasty", "Patient"]
    assert as_config("SLOW") == as_config({"preset": "patient"}) == smpf.Recurrent(steps=32)
    for feedback in ("hasty", {"preset": "hasty", "steps": 3}):
        with pytest.raises(UnknownKeyword, match="Recurrent has no field 'patience'") as caught:
            as_config(feedback)
        assert caught.value.__notes__ == ["(Raised by preset 'Hasty' of loops-by-name 2.0.)"]
    with pytest.raises(FeedbackError, match=r"preset 'Gone' of loops-by-name 2\.0 is not at 'no_such_module:preset'"):
        as_config("gone")
    with pytest.raises(InvalidValue, match="steps=0") as blamed:
        as_config({"preset": "patient", "steps": 0})
    assert not hasattr(blamed.value, "__notes__"), "the preset is right, its change is not"


def test_a_model_closed_into_a_plugins_preset_comes_back_without_the_plugin(site, tmp_path, monkeypatch):
    install(site, "loops-by-name", "2.0", PRESETS)
    model = smpf.create("timm/test_resnet", classes=2, feedback={"preset": "slow", "norm_error": 1}).eval()
    folder = model.save_pretrained(tmp_path / "kept")
    monkeypatch.setattr(plugins, "_process", [])
    monkeypatch.setenv(DISABLE, "1")
    assert smpf.list_presets() == ["anytime", "film"]
    assert smpf.from_pretrained(folder).loop_config == smpf.Recurrent(steps=32, norm_error=1)


def test_what_our_own_parts_raise_is_not_noted():
    with pytest.raises(InvalidValue) as caught:
        smpf.create("DFMResNet18", encoder_weights="imagenet", in_channels=2)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors carry no notes")
def test_the_command_line_says_who_brought_what_failed(site, capsys):
    pytest.importorskip("lightning")
    error = "__import__('smp_feedback').FeedbackError('no such folder.')"
    install(site, "faulty-parts", "1.2", FAULTY.format(kind="datasets", error=error))
    assert main(["fit", "--data.name", "faulty"]) == 2
    said = "smp-feedback: no such folder. (Raised by dataset 'Faulty' of faulty-parts 1.2.)"
    assert said in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", ["resnet81", "tu-resnet81"])
def test_an_encoder_that_a_strangers_builder_asks_smp_for_is_named_as_ours_are(restored, name):
    @smpf.register_architecture("Thin")
    def thin(encoder_name, encoder_weights, in_channels, classes):
        return smp.Unet(encoder_name, 3, None, decoder_channels=(8, 8, 8), in_channels=in_channels, classes=classes)

    with pytest.raises(UnknownName, match=f"No encoder is called '{name}'. Did you mean '.*resnet18'"):
        smpf.create("thin", name)


def test_a_keyerror_of_a_builder_with_encoders_of_its_own_stays_what_it_is(restored):
    @smpf.register_architecture("Own")
    def own(encoder_name="mine"):
        raise KeyError(encoder_name)

    with pytest.raises(KeyError, match="mine") as caught:
        smpf.create("own")
    assert type(caught.value) is KeyError


# --- saved models


def test_a_saved_model_names_who_brought_its_cut_and_loading_it_says_what_to_install(site, monkeypatch):
    source = """
        from torch import nn
        from smp_feedback import Cut
        from smp_feedback.hookspecs import hookimpl

        class Plain(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

            def forward(self, image):
                return self.last(self.first(image).relu())

        @hookimpl
        def register_cuts(register):
            body = lambda net, image: (net.first(image).relu(), None)
            register("cut_plugin.Plain", Cut(body, lambda net, output, size: net.last(output)))
    """
    install(site, "cut-plugin", "0.7", source)
    smpf.register_architecture("Plain", lambda: importlib.import_module("cut_plugin").Plain())
    model = smpf.create("Plain").eval()
    model.save_pretrained(site.parent / "saved")
    config = json.loads((site.parent / "saved" / "config.json").read_text())
    assert config["plugins"]["cut"] == {"name": "cut_plugin.Plain", "distribution": "cut-plugin", "version": "0.7"}
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(smpf.from_pretrained(site.parent / "saved")(image), model(image))

    for state, words in [
        ("disabled", r"0\.7 is installed, and disabled by"),
        ("gone", r"pip install cut-plugin==0\.7$"),
    ]:
        if state == "gone":
            (site / "cut_plugin-0.7.dist-info" / "entry_points.txt").unlink()
        monkeypatch.setenv(DISABLE, "cut-plugin" if state == "disabled" else "")
        monkeypatch.setattr(plugins, "_process", [])
        smpf.register_architecture("Plain", lambda: importlib.import_module("cut_plugin").Plain())
        with pytest.raises(UnknownName, match=words):
            smpf.from_pretrained(site.parent / "saved")


def test_a_cut_of_a_script_is_traced_to_the_script(site):
    def body(net, image):
        return net(image), None

    smpf.register_cut("some.Net", smpf.Cut(functools.partial(body), print))
    assert catalogue().cuts.origin("some.Net") == __name__


# --- the command line


@pytest.mark.sweep
def test_the_command_line_shows_good_and_broken_plugins_and_goes_on(site):
    install(site, "good-plugin", "1.0", "print('hello from a plugin')\n" + dedent(GOOD))
    installed_half(site)
    shown = run(["-m", "smp_feedback", "plugins", "--json"], site)
    assert shown.returncode == 0, shown.stderr
    by_name = {plugin["name"]: plugin for plugin in json.loads(shown.stdout)}
    assert by_name["good-plugin"]["brought"] == {"architectures": ["GoodNet"]}
    assert by_name["half"]["error"] == "RuntimeError: no GPU"
    assert "raise RuntimeError" in by_name["half"]["traceback"]
    warning = "smp-feedback: Plugin 'half' of half-plugin 0.3 is left out: RuntimeError: no GPU"
    assert shown.stderr.splitlines() == ["hello from a plugin", warning]


@pytest.mark.sweep
def test_a_process_creates_with_the_good_one_and_says_why_the_other_is_missing(site):
    install(site, "good-plugin", "1.0", GOOD)
    installed_half(site, "needs another version")
    said = process(
        """
        import json, warnings, torch, smp_feedback as smpf
        warnings.simplefilter("ignore")
        shape = list(smpf.create("goodnet", classes=2)(torch.rand(1, 3, 8, 8)).shape)
        try:
            smpf.create("HalfNet")
        except KeyError as error:
            print(json.dumps([shape, str(error), len(smpf.list_plugins())]))
        """,
        site,
    )
    assert said[0] == [1, 2, 8, 8]
    assert "half-plugin 0.3 is left out: it needs smp_feedback>=99" in said[1]


def test_plugins_are_let_in_by_the_order_of_their_names_wherever_they_lie(monkeypatch):
    from types import SimpleNamespace

    from smp_feedback.registry.plugins import in_order

    points = [
        SimpleNamespace(name=n, value=n, dist=SimpleNamespace(name=d))
        for n, d in (("b", "Zoo"), ("a", "zoo"), ("c", "ant"))
    ]
    assert [point.name for point in in_order(points)] == ["c", "a", "b"]
