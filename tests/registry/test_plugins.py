"""One door for built-ins and strangers; whoever stumbles over it is reported and leaves nothing behind."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
import warnings
from importlib import metadata

import pytest
import segmentation_models_pytorch as smp
import torch
from distributions import forget_modules_of, install, points_in, process
from segmentation_models_pytorch.base import SegmentationModel
from torch import nn

import smp_feedback as smpf
from smp_feedback import hookspecs
from smp_feedback.errors import FeedbackError, InvalidType, NameTaken, PluginWarning, UnknownName
from smp_feedback.loops.recurrent.model import RecurrentModel
from smp_feedback.registry import public as plugins
from smp_feedback.registry.public import BUILT_IN, Plugin, catalogue, open_catalogue
from smp_feedback.surgery.cuts import SMP_CUT

HOOKS = [name for name, hook in vars(hookspecs).items() if hasattr(hook, "smp_feedback_spec")]
TWELVE = [
    *("DPT", "DeepLabV3", "DeepLabV3Plus", "FPN", "Linknet", "MAnet", "PAN", "PSPNet", "Segformer", "UPerNet"),
    *("Unet", "UnetPlusPlus"),
]

GOOD = """
    from smp_feedback.hookspecs import hookimpl

    @hookimpl
    def register_losses(register):
        register("steady", "torch.nn:L1Loss", aliases=("calm",))
"""
BROKEN = {
    "raises on import": ("ZeroDivisionError", "1 / 0"),
    "exits on import": ("SystemExit", "raise SystemExit(3)"),
    "imports what is not installed": ("no_such_requirement", "import no_such_requirement"),
    "does not parse": ("SyntaxError", "def ("),
    "raises in a hook": (
        "half way",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_dynamics(register):
            register("half", "json:dumps", aliases=("demi",))

        @hookimpl
        def register_losses(register):
            register("half", "json:dumps")
            raise RuntimeError("half way")
        """,
    ),
    "registers a taken name": (
        "loss 'dice' belongs to smp_feedback",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_losses(register):
            register("half", "json:dumps", aliases=("demi",))
            register("dice", "json:loads")
        """,
    ),
    "calls itself another": (
        "argument 'origin'",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_losses(register):
            register("half", "json:dumps", aliases=("demi",), origin="smp_feedback")
        """,
    ),
    "takes a name as an alias": (
        "loss 'focal' belongs to smp_feedback",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_losses(register):
            register("half", "json:dumps", aliases=("focal",))
        """,
    ),
    "misspells a hook": (
        "register_loses is no hook. Did you mean 'register_losses'",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_loses(register):
            register("half", "json:dumps")

        @hookimpl
        def register_dynamics(register):
            register("half", "json:dumps")
        """,
    ),
    "misspells a hook's argument": (
        "registar",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_losses(registar):
            registar("half", "json:dumps")
        """,
    ),
    "brings a preset that is no dict": (
        "preset 'half' of broken is 16: expected a loop's config as a dict",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_losses(register):
            register("half", "json:dumps", aliases=("demi",))

        @hookimpl
        def register_presets(register):
            register("half", 16)
        """,
    ),
    "calls a preset as a loop is called": (
        "preset 'Score': a loop of smp_feedback is called so, and one name stands for both; broken needs another name",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_presets(register):
            register("half", {"steps": 3})
            register("Score", {"steps": 3})
        """,
    ),
    "calls a loop as a preset is called": (
        "loop 'anytime': a preset of smp_feedback is called so, and one name stands for both; broken needs another",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_loops(register):
            register("half", "json:dumps", aliases=("anytime",))
        """,
    ),
    "registers under no name": (
        "non-empty string",
        """
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def register_losses(register):
            register("half", "json:dumps")
            register("", "json:dumps")
        """,
    ),
}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a plugin's module and returns the entry point that names it; the module is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return metadata.EntryPoint(name, name, "smp_feedback")

    yield write
    forget_modules_of(tmp_path)


def written(opened):
    """Everything a catalogue says, names, aliases and origins."""
    return {kind: dict(registry._entries) for kind, registry in opened.registries().items()}


# --- the door


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_in_one_sentence(hook):
    sentence = " ".join((getattr(hookspecs, hook).__doc__ or "").split())
    assert sentence.startswith("Call ``register(")
    assert sentence.endswith(".")
    assert ". " not in sentence


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "register_encoders"])  # smp's are in smp
def test_every_hook_has_a_built_in_implementation_that_brings_something(hook):
    modules = [importlib.import_module(name) for name in BUILT_IN]
    assert any(hasattr(getattr(module, hook, None), "smp_feedback_impl") for module in modules)
    registry = open_catalogue(installed=False).registries()[hook.removeprefix("register_")]
    assert len(registry) > 0
    assert {registry.origin(name) for name in registry} == {"smp_feedback"}


def test_every_registry_has_its_hook():
    assert {f"register_{kind}" for kind in catalogue().registries()} == set(HOOKS)


def test_without_the_built_in_plugins_there_is_nothing(monkeypatch):
    monkeypatch.setattr(plugins, "BUILT_IN", ())
    opened = open_catalogue(installed=False)
    assert [len(registry) for registry in opened.registries().values()] == [0] * len(HOOKS)


def test_a_built_in_may_come_through_the_door_of_a_stranger(monkeypatch):
    # all but those with cuts of our own classes, which no stranger may bring
    modules = [name for name in BUILT_IN if not hasattr(importlib.import_module(name), "register_cuts")]
    monkeypatch.setattr(plugins, "BUILT_IN", modules)
    ours = open_catalogue(installed=False)
    monkeypatch.setattr(plugins, "BUILT_IN", ())
    points = [metadata.EntryPoint(module, module, "smp_feedback") for module in modules]
    strangers = open_catalogue(found=points)
    for kind, registry in strangers.registries().items():
        assert {name: entry.target for name, entry in written(strangers)[kind].items()} == {
            name: entry.target for name, entry in written(ours)[kind].items()
        }
        assert {registry.origin(name) for name in registry} <= set(modules)
    assert [(plugin.name, plugin.state) for plugin in strangers.plugins] == [(module, "loaded") for module in modules]


def test_smps_own_classes_are_cut_by_nobody_else():
    point = metadata.EntryPoint("cuts", "smp_feedback.surgery.cuts", "smp_feedback")
    with pytest.warns(PluginWarning, match=r"SegmentationModel': smp_feedback cuts that class; .* of your own"):
        opened = open_catalogue(found=[point])
    assert opened.cuts["segmentation_models_pytorch.base.model.SegmentationModel"] is SMP_CUT


def test_every_catalogue_is_fresh():
    first, second = open_catalogue(found=[]), open_catalogue(found=[])
    first.losses.register("mine", "json:dumps")
    assert "mine" not in second.losses
    assert "mine" not in catalogue().losses


# --- strangers


@pytest.mark.parametrize("hook", HOOKS)
def test_a_stranger_brings_parts_through_every_hook(plugin, hook):
    point = plugin(
        "stranger",
        f"""
        from smp_feedback.hookspecs import hookimpl

        @hookimpl
        def {hook}(register):
            class Part:  # all that any kind of part needs to have
                begin = body = head = before = check = close = config_class = keys = None
                shares = of_all = best = tasks = None

                def __call__(self):
                    return 7

            register("Brought", "stranger:part"{", aliases=('carried',)" * (hook != "register_verbs")})
            register("Made")(Part())
            global part
            part = Part()
        """,
    )
    kind = hook.removeprefix("register_")
    opened = open_catalogue(found=[point])
    registry = opened.registries()[kind]
    also = "brought" if kind == "verbs" else "CARRIED"  # a verb has one name
    assert registry[also] is registry["BROUGHT"] is sys.modules["stranger"].part
    assert registry["made"]() == 7
    assert registry.origin("brought") == registry.origin("made") == "stranger"
    assert opened.plugins == [Plugin("stranger", brought={kind: ("Brought", "Made")})]
    before, after = written(open_catalogue(found=[])), written(opened)
    assert [kind for kind in before if before[kind] != after[kind]] == [kind]


def test_a_plugin_may_be_any_object(plugin):
    plugin(
        "objects",
        """
        from smp_feedback.hookspecs import hookimpl

        class Losses:
            @hookimpl
            def register_losses(self, register):
                register("steady", "torch.nn:L1Loss")

        losses = Losses()
        """,
    )
    opened = open_catalogue(found=[metadata.EntryPoint("objects", "objects:losses", "smp_feedback")])
    assert opened.losses["steady"] is nn.L1Loss


def test_a_part_is_traced_to_the_distribution_and_version_that_brought_it(plugin, tmp_path):
    install(tmp_path, "calm-losses", "1.2.3", GOOD)
    opened = open_catalogue(found=points_in(tmp_path))
    assert opened.losses.origin("calm") == "calm-losses 1.2.3"
    assert opened.plugins == [Plugin("calm-losses", "calm-losses", "1.2.3", brought={"losses": ("steady",)})]


def test_the_second_plugin_to_claim_a_name_is_left_out_and_told_whose_it_is(plugin):
    first, second = plugin("first", GOOD), plugin("second", GOOD.replace("L1Loss", "MSELoss"))
    with pytest.warns(PluginWarning, match=r"'second' .*loss 'steady' belongs to first .*second needs another name"):
        opened = open_catalogue(found=[first, second])
    assert opened.losses["calm"] is nn.L1Loss
    assert [p.error is None for p in opened.plugins] == [True, False]


# --- broken ones


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_reported_listed_and_leaves_nothing_while_others_load(plugin, fault):
    reason, source = BROKEN[fault]
    points = [plugin("before", GOOD.replace("steady", "early").replace("calm", "soon"))]
    points += [plugin("broken", source), plugin("after", GOOD)]
    with pytest.warns(PluginWarning) as caught:
        opened = open_catalogue(found=points)

    (warning,) = caught
    assert "'broken'" in str(warning.message)
    assert reason in str(warning.message)

    good, bad, last = opened.plugins
    assert (good.error, last.error) == (None, None)
    assert (bad.name, bad.distribution, bad.state) == ("broken", None, "broken")
    assert reason in bad.error
    assert "Traceback" in bad.traceback
    assert reason in bad.traceback

    assert written(opened) == written(open_catalogue(found=[points[0], points[2]]))
    assert opened.losses["soon"] is opened.losses["calm"] is nn.L1Loss
    for registry in opened.registries().values():
        assert "half" not in registry
        assert "demi" not in registry


def test_an_entry_point_that_names_nothing_is_reported(plugin):
    plugin("hollow", "")
    with pytest.warns(PluginWarning, match=r"'hollow'.*no_such_plugin"):
        opened = open_catalogue(found=[metadata.EntryPoint("hollow", "hollow:no_such_plugin", "smp_feedback")])
    assert "no_such_plugin" in opened.plugins[0].error


def test_a_plugin_that_forgot_to_mark_its_hooks_is_reported(plugin):
    point = plugin("unmarked", "def register_losses(register): register('steady', 'torch.nn:L1Loss')")
    with pytest.warns(PluginWarning, match=r"'unmarked'.*hookimpl"):
        opened = open_catalogue(found=[point])
    assert opened.plugins[0].error
    assert "steady" not in opened.losses


def test_the_user_may_still_interrupt_a_plugin(plugin):
    point = plugin("endless", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        open_catalogue(found=[point])


# --- the catalogue of a process


@pytest.mark.sweep
def test_installed_plugins_may_use_the_public_interface_while_the_catalogue_opens(tmp_path):
    install(
        tmp_path,
        "eager-plugin",
        "2.0",
        """
        import smp_feedback as smpf
        from smp_feedback.hookspecs import hookimpl

        DEFAULT = smpf.Recurrent(steps=8, dynamics="leaky")

        @smpf.register_architecture("Decorated")
        def decorated(encoder_name, encoder_weights, in_channels, classes):
            raise NotImplementedError

        @hookimpl
        def register_architectures(register):
            register("Handed", decorated)
            smpf.register_loss("Inside", "torch.nn:L1Loss")
        """,
    )
    install(tmp_path, "broken-plugin", "0.1", "import smp_feedback as smpf\nsmpf.list_architectures()\n1 / 0")
    install(
        tmp_path,
        "half-plugin",
        "0.2",
        "import smp_feedback as smpf\nsmpf.register_loss('half', 'json:dumps')\nraise RuntimeError('half way')",
    )
    said = process(
        """
        import json, warnings
        import smp_feedback as smpf
        from smp_feedback.registry.public import catalogue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            names = smpf.list_architectures()
        print(json.dumps({
            "names": names,
            "losses": list(catalogue().losses),
            "warnings": [str(w.message) for w in caught if w.category.__name__ == "PluginWarning"],
            "plugins": {p.name: [p.origin, p.error] for p in smpf.list_plugins()},
            "listed": len(smpf.list_plugins()),
        }))
        """,
        tmp_path,
    )
    assert {"Decorated", "Handed", *TWELVE} <= set(said["names"])
    assert said["plugins"]["eager-plugin"] == ["eager-plugin 2.0", None]
    for name, reason in [("broken-plugin", "ZeroDivisionError"), ("half-plugin", "half way")]:
        assert reason in said["plugins"][name][1]
        (warning,) = [w for w in said["warnings"] if name in w]
        assert reason in warning
    assert "Inside" in said["losses"]
    assert "half" not in said["losses"]
    assert said["listed"] == len(said["plugins"])


def test_the_catalogue_of_a_process_is_opened_once():
    assert catalogue() is catalogue()
    smpf.list_plugins()
    assert smpf.list_plugins() == catalogue().plugins
    smpf.list_plugins().clear()
    assert smpf.list_plugins() == catalogue().plugins


# --- architectures


def test_smps_twelve_architectures_are_found_in_smp():
    found = open_catalogue(installed=False).architectures
    smps = {k for k, v in vars(smp).items() if isinstance(v, type) and issubclass(v, SegmentationModel)}
    assert set(TWELVE) <= smps < set(found)
    for name in smps:
        assert found[name] is getattr(smp, name)


def test_a_thirteenth_architecture_appears_by_itself(monkeypatch, restored):
    class Thirteenth(smp.Unet):
        pass

    before = open_catalogue(found=[])
    monkeypatch.setattr(smp, "Thirteenth", Thirteenth, raising=False)
    fresh = open_catalogue(found=[])
    assert set(fresh.architectures) - set(before.architectures) == {"Thirteenth"}
    assert fresh.architectures["thirteenth"] is Thirteenth

    restored.architectures.replace(fresh.architectures)
    image = torch.rand(1, 3, 64, 64)
    model = smpf.create("thirteenth", encoder="resnet18", encoder_weights=None, feedback={"dynamics": "residual"})
    assert isinstance(model, Thirteenth)
    plain = smp.Unet("resnet18", encoder_weights=None).eval()
    plain.load_state_dict(model.feedforward_state_dict())
    torch.testing.assert_close(model.eval()(image), plain(image), atol=1e-5, rtol=0)


class Body(nn.Module):
    """Nothing of smp: two functions, as timm calls them."""

    def __init__(self, in_channels, classes, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.Tanh(), nn.Conv2d(width, width, 1))
        self.head = nn.Conv2d(width, classes, 1)

    def forward_features(self, image):
        return self.body(image)

    def forward_head(self, features):
        return self.head(features)

    def forward(self, image):
        return self.forward_head(self.forward_features(image))


@pytest.fixture
def my_net(restored):
    @smpf.register_architecture("MyNet", aliases=("mynet-v1",))
    def my_net(encoder_name, encoder_weights, in_channels, classes, width=8):
        return Body(in_channels, classes, width)

    return my_net


def test_a_registered_architecture_is_listed_and_traced_to_its_author(my_net):
    assert smpf.list_architectures("mynet*") == ["MyNet"]
    assert catalogue().architectures["MYNET-V1"] is my_net
    assert catalogue().architectures.origin("mynet") == __name__


@pytest.mark.parametrize("name", ["MyNet", "mynet", "MYNET-V1"])
def test_a_registered_architecture_is_created_with_its_own_keywords(my_net, name):
    plain = smpf.create(name, in_channels=2, classes=3, width=5, feedback=False)
    assert type(plain) is Body
    model = smpf.create(name, in_channels=2, classes=3, width=5)
    assert isinstance(model, Body)
    assert isinstance(model, smpf.FeedbackModel)
    assert model.head.weight.shape == (3, 5, 1, 1)
    assert model.body[0].weight.shape == (5, 2, 3, 3)


def test_a_registered_architecture_refuses_keywords_it_does_not_take(my_net):
    with pytest.raises(TypeError, match=r"MyNet takes no 'widht'\. Did you mean 'width'"):
        smpf.create("mynet", widht=5)


def test_a_registered_architecture_looks_again(my_net):
    image = torch.rand(2, 3, 16, 16)
    config = smpf.Recurrent(steps=3, feedback_init=0.5, tau=3.0)
    model = smpf.create("mynet", classes=4, feedback=config).eval()
    path = model.trajectory(image)
    assert path.shape == (3, 2, 4, 16, 16)
    torch.testing.assert_close(path[-1], model(image))
    assert all((path[t] - path[t + 1]).abs().max() > 1e-3 for t in range(2))

    deaf = smpf.wrap(Body(3, 4), feedback=config).eval()
    deaf.load_state_dict(model.state_dict())
    for weight in deaf.feedback.readers.parameters():
        nn.init.zeros_(weight)
    assert (deaf(image) - model(image)).abs().max() > 1e-3


def test_a_registered_architecture_keeps_every_output_until_it_is_trained(my_net):
    image = torch.rand(2, 3, 16, 16)
    plain = smpf.create("mynet", classes=4, feedback=False).eval()
    model = smpf.wrap(plain)
    for steps in (1, 2, 5):
        torch.testing.assert_close(model(image, steps=steps), plain(image), atol=1e-6, rtol=0)


def test_an_architecture_may_not_take_the_name_of_another(restored):
    with pytest.raises(NameTaken, match=r"'unet' belongs to smp_feedback"):
        smpf.register_architecture("unet", lambda **arguments: None)
    assert catalogue().architectures["Unet"] is smp.Unet


def test_a_decorator_without_its_name_is_an_error_and_not_silence(restored):
    with pytest.raises(FeedbackError, match="name"):

        @smpf.register_architecture
        def my_net(encoder_name, encoder_weights, in_channels, classes):
            raise NotImplementedError


@pytest.mark.parametrize("feedback", [False, True])
def test_a_builder_that_returns_no_module_is_told_so(restored, feedback):
    @smpf.register_architecture("Forgetful")
    def forgetful(encoder_name, encoder_weights, in_channels, classes):
        Body(in_channels, classes)

    with pytest.raises(FeedbackError, match=r"Forgetful.*NoneType.*Module"):
        smpf.create("forgetful", feedback=feedback)


def test_a_builder_that_hands_out_one_module_twice_is_told_so(restored):
    net = Body(3, 1)

    @smpf.register_architecture("Shared")
    def shared(encoder_name, encoder_weights, in_channels, classes):
        return net

    smpf.create("shared")
    with pytest.raises(FeedbackError, match=r"Shared.*(again|already)"):
        smpf.create("shared")


def test_what_a_builder_raises_is_not_mistaken_for_an_unknown_name(restored):
    @smpf.register_architecture("Bomb")
    def bomb(encoder_name, encoder_weights, in_channels, classes):
        raise KeyError("inside the builder")

    with pytest.raises(KeyError, match="inside the builder") as caught:
        smpf.create("bomb")
    assert not isinstance(caught.value, UnknownName)


# --- other parts through the public functions


def test_a_loop_whose_config_names_another_loop_is_refused_and_not_swapped(restored):
    class Mine(RecurrentModel):
        """Its config class is the recurrent loop's, and says so."""

    smpf.register_loop("mine", Mine)
    for feedback in ("mine", {"loop": "mine", "steps": 3}):
        with pytest.raises(FeedbackError, match=r"'mine'.*'recurrent'"):
            smpf.wrap(Body(3, 2), feedback=feedback)


def test_a_registered_dynamics_is_used_by_name(restored):
    from smp_feedback.dynamics import Dynamics

    class Latest(Dynamics):
        """h' = e."""

        def begin(self, steps):
            return lambda h, e, t: e

    smpf.register_dynamics("latest", Latest, aliases=("last",))
    model = smpf.wrap(Body(3, 2), feedback=smpf.Recurrent(dynamics="LAST")).eval()
    path = model.trajectory(torch.rand(1, 3, 16, 16), steps=3)
    torch.testing.assert_close(path, path[:1].expand_as(path))


# a function is no rule, no loop, no preset; a dict can be none of them
WRONG = {"architectures": {}, "restorers": {}, "losses": {}, "datasets": {}, "corruptions": {}}
WRONG |= {"augmentations": {}, "encoders": {}, "verbs": {}, "metrics": json.loads}
WRONG |= dict.fromkeys(("cuts", "loops", "dynamics", "projections", "presets"), json.loads)


@pytest.mark.parametrize("kind", catalogue().registries())
def test_a_part_that_cannot_be_what_it_is_registered_as_is_refused_at_once_or_when_it_is_imported(restored, kind):
    registry = restored.registries()[kind]
    before = list(registry)
    with pytest.raises(InvalidType, match=rf"{registry.kind} 'mine' .*: expected a"):
        registry.register("mine", WRONG[kind])
    assert list(registry) == before
    registry.register("late", "smp_feedback:__all__" if WRONG[kind] == {} else "json:loads")
    with pytest.raises(InvalidType, match=rf"{registry.kind} 'late' .*: expected a"):
        registry["late"]


def test_plugin_warnings_are_the_only_sign_of_a_broken_plugin(plugin):
    point = plugin("broken", "1 / 0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        opened = open_catalogue(found=[point])
    assert "ZeroDivisionError" in opened.plugins[0].error
    assert written(opened) == written(open_catalogue(found=[]))
