"""What is private to other libraries and used here: listed in CONTRIBUTING.md, each with a test that sees it go."""

from __future__ import annotations

import argparse
import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
SOURCES = [path for room in ("smp_feedback", "plugins", "benchmarks") for path in sorted((ROOT / room).rglob("*.py"))]
SOURCES = [path for path in SOURCES if "tests" not in path.parts]
DOCUMENTED = {"_replace", "_fields", "_asdict", "_exit", "_getframe"}
"""Python's own documentation describes them: of named tuples, ``os`` and ``sys``."""

OURS = {"_dtype"}
"""Lightning's modules have one, too; the classes here that do are none of them."""


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


@cache
def theirs():
    """Private names of the classes that are extended here, and of what they hold."""
    pytest.importorskip("jsonargparse")
    lightning = pytest.importorskip("lightning")
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    compiled = torch.compile(nn.ReLU(), backend="eager")
    verbs = argparse.ArgumentParser().add_subparsers()
    makers = nn.BatchNorm2d(1), lightning.LightningModule(), lightning.LightningDataModule(), lightning.Callback()
    parsers = ArgumentParser(), DefaultHelpFormatter("x"), verbs
    every = {*dir(compiled), *dir(smp.base.SegmentationModel), *(name for one in makers + parsers for name in dir(one))}
    return frozenset(filter(is_private, every))


def uses(tree):
    """Private names that *tree* reads, names in a string, imports or overrides; and those that it makes."""
    used, made, overrides = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            (made if isinstance(node.ctx, ast.Store) and _is_self(node.value) else used).add(node.attr)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        if isinstance(node, ast.ClassDef):
            overrides |= {name for part in node.body for name in _names_of(part)} & theirs()
        elif isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names if "._" in alias.name}
        elif (
            isinstance(node, ast.ImportFrom) and node.level == 0 and not (node.module or "").startswith("smp_feedback")
        ):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            used |= {name for name in names if "._" in name}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            parts = node.value.split(".")
            if all(part.isidentifier() for part in parts) and any(map(is_private, parts)):
                used.add(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value):
            used |= {node.value} & theirs()
    return used | overrides, made


def _names_of(part):
    targets = [part.target] if isinstance(part, ast.AnnAssign) else getattr(part, "targets", [])
    return [getattr(part, "name", ""), *(target.id for target in targets if isinstance(target, ast.Name))]


def _is_self(node):
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_uses(sources):
    """Where each name that is private to somebody else is used: of no module here, or of a class of theirs as well."""
    found = {path: uses(ast.parse(text)) for path, text in sources.items()}
    ours = {name for _, made in found.values() for name in made}
    where = defaultdict(set)
    for path, (used, _) in found.items():
        read = {name for name in used if "." in name or (is_private(name) and (name not in ours or name in theirs()))}
        for name in read - DOCUMENTED - OURS:
            where[name].add(path)
    return dict(where)


def listed():
    """The table of CONTRIBUTING.md: a private name, and the test that would notice."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("**Private names**")[2].partition("\n\n**")[0]
    rows = [row for row in text.splitlines() if row.startswith("| `")]
    return {name: row.rsplit("`", 2)[1] for row in rows for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}


def test_what_is_private_to_others_is_listed_and_what_is_listed_is_used():
    found = private_uses({str(path.relative_to(ROOT)): path.read_text() for path in SOURCES})
    unlisted = {name: sorted(where) for name, where in found.items() if name not in listed()}
    assert unlisted == {}, "replace it by a public name, or list it in CONTRIBUTING.md with a test that sees it go"
    assert set(listed()) - set(found) == set(), "listed, and no longer used"


def test_each_listed_name_has_a_test_that_is_there():
    for name, test in listed().items():
        path, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text(), (name, test)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("x._secret_of_theirs", "_secret_of_theirs"),
        ("from torch._dynamo import reset", "torch._dynamo.reset"),
        ("import timm.models._builder", "timm.models._builder"),
        ("from torch.nn.modules.conv import _ConvNd", "torch.nn.modules.conv._ConvNd"),
        ("find('torchvision.ops._utils.split')", "torchvision.ops._utils.split"),
        ("getattr(net, '_forward_hooks')", "_forward_hooks"),
        ("class A(nn.Module):\n    def _load_from_state_dict(self): ...", "_load_from_state_dict"),
    ],
)
def test_a_private_name_of_others_is_found(code, name):
    assert set(private_uses({"x.py": code})) == {name}


def test_what_is_private_to_this_package_is_left_alone():
    own = "class A:\n    def __init__(self): self._own = 1\n    def twice(self, other): return other._own"
    assert private_uses({"x.py": own, "y.py": "def _help(): ...\nthere._help()"}) == {}


# --- what is relied on of each


def test_a_module_moves_by_apply():
    class Counts(nn.Linear):
        moves = 0

        def _apply(self, fn, recurse=True):
            self.moves += 1
            return super()._apply(fn, recurse)

    part = Counts(1, 1)
    nn.Sequential(part).half().to(torch.float64).float()
    assert part.moves == 3


def test_a_module_holds_its_parts_in_dicts():
    net = nn.Sequential(nn.BatchNorm2d(2))
    assert net._modules == {"0": net[0]}
    assert net[0]._buffers["running_mean"] is net[0].running_mean
    assert net[0]._parameters["weight"] is net[0].weight
    net[0]._buffers["running_mean"] = mean = torch.ones(2)
    assert net[0].running_mean is mean
    assert nn.BatchNorm2d(2, track_running_stats=False)._buffers["running_mean"] is None


def test_a_module_holds_its_hooks_in_these_dicts():
    kinds = {
        "_forward_pre_hooks": "register_forward_pre_hook",
        "_forward_hooks": "register_forward_hook",
        "_backward_pre_hooks": "register_full_backward_pre_hook",
        "_backward_hooks": "register_full_backward_hook",
    }
    for held, register in kinds.items():
        net = nn.ReLU()
        getattr(net, register)(lambda *_: None)
        assert [name for name, value in vars(net).items() if "_hooks" in name and value and name in kinds] == [held]


def test_a_compiled_module_holds_the_other_as_orig_mod():
    net = nn.Linear(1, 1)
    compiled = torch.compile(net, backend="eager")
    assert compiled._modules["_orig_mod"] is net
    assert set(compiled.state_dict()) == {"_orig_mod.weight", "_orig_mod.bias"}


def test_norms_with_statistics_have_these_classes_in_common():
    from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
    from torch.nn.modules.instancenorm import _InstanceNorm

    batch = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm
    instance = nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d
    assert all(issubclass(kind, _BatchNorm) for kind in batch)
    assert all(issubclass(kind, _InstanceNorm) for kind in instance)
    assert all(issubclass(kind, _NormBase) for kind in batch + instance)


def test_torchvisions_models_have_a_class_in_common():
    from torchvision.models import segmentation
    from torchvision.models.segmentation._utils import _SimpleSegmentationModel

    assert issubclass(segmentation.FCN, _SimpleSegmentationModel)
    assert issubclass(segmentation.DeepLabV3, _SimpleSegmentationModel)


def test_smp_says_of_a_model_whether_torch_can_script_it():
    assert smp.base.SegmentationModel._is_torch_scriptable is True


def test_torch_logs_guards_by_this_name():
    from torch import _guards

    assert _guards.log.name == "torch._guards"


def test_a_lightning_module_holds_its_trainer_or_none():
    lightning = pytest.importorskip("lightning")
    module, trainer = lightning.LightningModule(), lightning.Trainer(accelerator="cpu", logger=False, barebones=True)
    assert module._trainer is None
    module.trainer = trainer
    assert module._trainer is trainer


def test_lightning_counts_batches_that_stepped():
    lightning = pytest.importorskip("lightning")
    trainer = lightning.Trainer(accelerator="cpu", logger=False, barebones=True)
    loop = trainer.fit_loop.epoch_loop
    assert loop._batches_that_stepped == 0
    assert loop.on_save_checkpoint()["_batches_that_stepped"] == 0, "it is resumed"


def test_a_parser_holds_its_actions_and_those_of_its_verbs():
    jsonargparse = pytest.importorskip("jsonargparse")
    parser, verb = jsonargparse.ArgumentParser(), jsonargparse.ArgumentParser()
    verb.add_argument("--size", type=int)
    parser.add_subcommands().add_subcommand("fit", verb)
    verbs = {k: v for action in parser._actions for k, v in getattr(action, "_name_parser_map", {}).items()}
    assert verbs == {"fit": verb}
    assert ["--size"] in [action.option_strings for action in verb._actions]


def test_help_is_made_by_these_methods():
    jsonargparse = pytest.importorskip("jsonargparse")
    for name in ("_get_help_string", "_get_type_str", "_format_action_invocation"):
        assert callable(getattr(jsonargparse.DefaultHelpFormatter, name))
