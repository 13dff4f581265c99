"""Names for things: found in any case, traced to who brought them, imported late, never taken twice."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys

import pytest

import smp_feedback as smpf
from smp_feedback.errors import FeedbackError, InvalidType, InvalidValue, NameTaken, UnknownName, did_you_mean
from smp_feedback.registry.public import catalogue
from smp_feedback.registry.registry import Registry

KINDS = sorted(catalogue().registries())
NAMES = [
    pytest.param(kind, name, id=f"{kind}-{name}")
    for kind, registry in sorted(catalogue().registries().items())
    for name in registry
    if registry.origin(name) == "smp_feedback"
]


@pytest.fixture
def numbers():
    registry = Registry("number")
    registry.register("Two", 2, aliases=("deux", "zwei"), origin="arithmetic 1.0")
    registry.register("One", 1)
    return registry


def defined(source, module="notebook"):
    """What *source*, run as the body of *module*, calls ``part``."""
    space = {"__name__": module}
    exec(source, space)
    return space["part"]


# --- looking up


@pytest.mark.parametrize("name", ["Two", "two", "TWO", "deux", "DEUX", "Zwei"])
def test_a_part_is_found_by_name_and_alias_in_any_case(numbers, name):
    assert numbers[name] == 2
    assert name in numbers
    assert numbers.entry(name).name == "Two"


def test_aliases_may_be_given_by_their_place_as_hooks_document_them(numbers):
    numbers.register("Six", 6, ("sechs",))
    assert numbers["sechs"] == 6


def test_a_registry_is_a_mapping_of_names_without_their_aliases(numbers):
    assert list(numbers) == ["One", "Two"]
    assert len(numbers) == 2
    assert dict(numbers) == {"One": 1, "Two": 2}
    assert numbers.get("three", 3) == 3


def test_names_are_listed_by_wildcard_in_any_case(numbers):
    assert numbers.names() == ["One", "Two"]
    assert numbers.names("T*") == numbers.names("t?o") == ["Two"]
    assert numbers.names("deux") == []


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_built_in_name_is_case_insensitive_and_traced_to_us(kind, name):
    registry = catalogue().registries()[kind]
    assert registry[name.upper()] is registry[name.lower()] is registry[name]
    assert registry.origin(name.upper()) == "smp_feedback"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_built_in_name_is_suggested_when_its_last_letter_is_wrong(kind, name):
    registry = catalogue().registries()[kind]
    with pytest.raises(UnknownName) as caught:
        registry[f"{name[:-1]}~"]
    assert name in caught.value.close
    assert repr(name) in str(caught.value)


# --- names that do not exist


def test_an_unknown_name_keeps_its_facts_and_reads_as_a_sentence(numbers):
    with pytest.raises(UnknownName) as caught:
        numbers["twoo"]
    error = caught.value
    assert (error.kind, error.name, error.known, error.close) == ("number", "twoo", ["One", "Two"], ["Two"])
    assert str(error) == "No number is called 'twoo'. Did you mean 'Two'?"


@pytest.mark.parametrize("base", [KeyError, LookupError, FeedbackError])
def test_an_unknown_name_is_a_key_error_as_mappings_raise(numbers, base):
    with pytest.raises(base):
        numbers["three"]


def test_a_name_like_no_other_is_answered_with_what_there_is(numbers):
    with pytest.raises(UnknownName, match=r"^No number is called 'xyz'\. There is: One, Two\.$"):
        numbers["xyz"]


def test_an_empty_registry_says_so():
    with pytest.raises(UnknownName, match=r"No number is called 'one'\. There is none\."):
        Registry("number")["one"]


def test_an_unknown_name_survives_a_process_boundary(numbers):
    with pytest.raises(UnknownName) as caught:
        numbers["twoo"]
    twin = pickle.loads(pickle.dumps(caught.value))
    assert type(twin) is UnknownName
    assert str(twin) == str(caught.value)
    assert vars(twin) == vars(caught.value)


def test_suggestions_are_few_and_best_first():
    known = [f"resnet{n}" for n in (18, 34, 50, 101, 152)]
    assert did_you_mean("Resnet34x", known)[0] == "resnet34"
    assert len(did_you_mean("resnet", known)) == 3
    assert did_you_mean("unet", known) == []


@pytest.mark.parametrize("name", [3, None, ("Two",), 2.0])
def test_a_name_of_a_wrong_type_is_a_type_error_that_shows_it(numbers, name):
    with pytest.raises(InvalidType) as caught:
        numbers[name]
    assert isinstance(caught.value, TypeError)
    assert f"number {name!r}" in str(caught.value)
    assert f"expected a name (str), got {type(name).__name__}" in str(caught.value)
    assert name not in numbers


# --- registering


def test_register_is_a_decorator_that_returns_the_part_unchanged():
    registry = Registry("rule")

    @registry.register("double", aliases=("twice",))
    def double(x):
        return 2 * x

    assert double(3) == 6
    assert registry["TWICE"] is double


def test_a_decorator_that_was_not_called_is_an_error_and_not_silence():
    with pytest.raises(FeedbackError, match="name"):

        @Registry("rule").register
        def double(x):
            return 2 * x


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_is_refused_at_once_even_by_the_decorator(name):
    registry = Registry("number")
    with pytest.raises(FeedbackError, match=r"number name .*a name is a non-empty string"):
        registry.register(name)
    assert len(registry) == 0


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_is_a_non_empty_string(name):
    registry = Registry("number")
    with pytest.raises(InvalidValue) as caught:
        registry.register(name, 1)
    assert f"number name {name!r}" in str(caught.value)
    with pytest.raises(InvalidValue):
        registry.register("fine", 1, aliases=("good", name))
    assert len(registry) == 0
    assert "good" not in registry


def test_a_single_alias_that_forgot_its_tuple_is_told_how_to_write_it(numbers):
    with pytest.raises(InvalidType, match=r"aliases='trois'.*aliases=\('trois',\)"):
        numbers.register("Three", 3, aliases="trois")
    assert "three" not in numbers
    assert "t" not in numbers


# --- names that are taken


@pytest.mark.parametrize(
    ("name", "aliases", "clash"),
    [
        ("Two", (), "two"),
        ("TWO", (), "two"),
        ("deux", (), "deux"),
        ("Deux", (), "deux"),
        ("Pair", ("two",), "two"),
        ("Pair", ("couple", "ZWEI"), "zwei"),
    ],
)
def test_a_taken_name_is_refused_whether_it_was_a_name_or_an_alias(numbers, name, aliases, clash):
    before = dict(numbers)
    with pytest.raises(NameTaken) as caught:
        numbers.register(name, 22, aliases=aliases, origin="impostor 0.1")
    message = str(caught.value).lower()
    for word in ("number", repr(clash), "arithmetic 1.0", "'two'", "impostor 0.1", "another name"):
        assert word in message
    assert isinstance(caught.value, ValueError)
    assert dict(numbers) == before
    assert "pair" not in numbers
    assert "couple" not in numbers


def test_a_refusal_spells_the_name_as_it_was_given(numbers):
    with pytest.raises(NameTaken, match="'DEUX'"):
        numbers.register("Pair", 22, aliases=("DEUX",))


def test_registering_the_same_part_again_changes_nothing(numbers):
    part = object()
    for _ in range(2):
        assert numbers.register("Thing", part, aliases=("chose",)) is part
        assert numbers.register("Lazy", "json:dumps") == "json:dumps"
    assert list(numbers) == ["Lazy", "One", "Thing", "Two"]


@pytest.mark.parametrize("kind", ["def part(): return {}", "class part:\n    def __new__(cls): return {}"])
def test_the_redefinition_of_a_part_replaces_it(kind):
    registry = Registry("rule")
    registry.register("rule", defined(kind.format(1)), aliases=("law",))
    registry.register("rule", defined(kind.format(2)), aliases=("law",))
    assert registry["rule"]() == registry["law"]() == 2
    assert len(registry) == 1


def test_a_redefinition_leaves_no_old_part_behind_an_alias_it_gave_up():
    registry = Registry("rule")
    registry.register("rule", defined("def part(): return 1"), aliases=("law", "norm"))
    new = registry.register("rule", defined("def part(): return 2"), aliases=("norm",))
    assert registry["rule"] is registry["norm"] is new
    assert registry.get("law", new) is new


def test_an_equally_named_part_of_another_module_is_no_redefinition():
    registry = Registry("rule")
    registry.register("rule", defined("def part(): return 1", module="mine"))
    with pytest.raises(NameTaken, match=r"belongs to mine \(as 'rule'\); theirs needs another name"):
        registry.register("rule", defined("def part(): return 2", module="theirs"))
    assert registry["rule"]() == 1


def test_two_lambdas_and_two_inner_functions_are_strangers():
    def made(value):
        def part():
            return value

        return part

    for first, second in [(lambda: 1, lambda: 2), (made(1), made(2))]:
        registry = Registry("rule")
        registry.register("rule", first)
        with pytest.raises(NameTaken):
            registry.register("rule", second)
        assert registry["rule"]() == 1


# --- who brought it


def test_a_part_is_traced_to_what_was_said_or_else_to_its_module(numbers):
    def three():
        return 3

    numbers.register("Three", three)
    assert numbers.origin("ZWEI") == "arithmetic 1.0"
    assert numbers.origin("three") == __name__


def test_an_address_is_traced_to_its_module(numbers):
    numbers.register("Parse", "json.decoder:JSONDecoder")
    assert "json.decoder" in numbers.origin("parse")


def test_asking_who_brought_an_unknown_name_suggests_one(numbers):
    with pytest.raises(UnknownName, match="Did you mean 'Two'"):
        numbers.origin("tow")


# --- addresses


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A module that nobody has imported yet, and the address of its ``part``."""
    (tmp_path / "brought_late.py").write_text("part = [4]\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield "brought_late:part"
    sys.modules.pop("brought_late", None)


def test_an_address_is_imported_at_the_first_look_up_and_not_before(numbers, address):
    assert numbers.register("Four", address, aliases=("vier",)) == address
    assert "four" in numbers
    assert numbers.names("f*") == ["Four"]
    assert numbers.entry("vier").target == address
    assert numbers.origin("four")
    assert (len(numbers), list(numbers)) == (3, ["Four", "One", "Two"])
    assert "brought_late" not in sys.modules

    part = numbers["vier"]
    assert part == [4]
    assert sys.modules["brought_late"].part is part is numbers["Four"]


@pytest.mark.parametrize("origin", ["", "arithmetic 1.0"])
@pytest.mark.parametrize("target", ["nowhere", "json:", ":dumps", ""])
def test_a_string_that_is_no_address_is_refused_when_it_is_registered(numbers, target, origin):
    with pytest.raises(InvalidValue) as caught:
        numbers.register("Four", target, origin=origin)
    assert repr(target) in str(caught.value)
    assert "module:attribute" in str(caught.value)
    assert "four" not in numbers


@pytest.mark.parametrize("target", ["no_such_module_anywhere:part", "json:no_such_part"])
def test_an_address_that_leads_nowhere_says_whose_it_is(numbers, target):
    numbers.register("Four", target, origin="arithmetic 1.0")
    with pytest.raises((ImportError, AttributeError, FeedbackError)) as caught:
        numbers["four"]
    told = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert target.partition(":")[0] in told
    assert "Four" in told
    assert "arithmetic 1.0" in told


# --- trial copies


def test_a_copy_is_filled_on_trial_and_taken_over_as_a_whole(numbers):
    trial = numbers.copy()
    trial.register("Three", 3, aliases=("trois",))
    assert "three" not in numbers
    numbers.replace(trial)
    assert numbers["trois"] == 3
    trial.register("Four", 4)
    assert "four" not in numbers


# --- what importing costs


def imported_by(code):
    """The modules in ``sys.modules`` after *code* has run in a process of its own."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "segmentation_models_pytorch", "timm", "lightning", "pytorch_lightning", "matplotlib"}


@pytest.mark.parametrize("module", ["smp_feedback", "smp_feedback.registry.registry"])
def test_importing_the_package_imports_nothing_heavy(module):
    modules = imported_by(f"import {module}")
    assert module in modules
    assert not modules & HEAVY


def test_creating_and_running_a_model_imports_neither_lightning_nor_matplotlib():
    modules = imported_by(
        "import torch, smp_feedback as smpf\n"
        "model = smpf.create('unet', encoder='resnet18', encoder_weights=None).eval()\n"
        "model.trajectory(torch.rand(1, 3, 64, 64), steps=2)\n"
        "smpf.list_architectures(), smpf.list_encoders(), smpf.list_plugins()"
    )
    assert "torch" in modules
    assert not modules & {"lightning", "pytorch_lightning", "matplotlib", "torchmetrics"}


def test_every_public_name_leads_home_and_is_listed():
    assert set(smpf.__all__) <= set(dir(smpf))
    for name in smpf.__all__:
        part = getattr(smpf, name)
        assert part.__name__ == name
        assert part.__module__.startswith("smp_feedback.")
        assert part.__doc__


def test_a_public_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'smp_feedback' has no attribute 'creat'"):
        _ = smpf.creat
