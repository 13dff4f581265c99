"""What smp promises of its models, as checks: one that looks again keeps every promise of the plain one.

Each raises ``AssertionError`` with the promise that was broken. ``build`` is :func:`smp_feedback.create` with all but
``feedback=`` given, so that the plain model it answers to is built from the same words.

>>> import functools, smp_feedback as smpf
>>> build = functools.partial(smpf.create, "Unet", encoder="tu-test_resnet", encoder_weights=None)
>>> check_trains(build, torch.rand(1, 3, 64, 64))
>>> check_like_plain(build, torch.rand(1, 3, 67, 67), classes=7)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from smp_feedback.config.recurrent import Recurrent
from smp_feedback.exporting.formats import answers
from smp_feedback.factory import wrap
from smp_feedback.loops.base import FeedbackModel
from smp_feedback.surgery.extension import calls_of
from smp_feedback.surgery.feature_capture import stages_of
from smp_feedback.testing.promises import check_close, hearing, keeping

Build = Callable[..., Any]
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
ROUNDING = {torch.float64: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}  # of the largest logit, after a few looks


def check_trains(build: Build, image: Tensor, *, config: Recurrent | None = None) -> None:
    """In training mode it answers and learns where the plain model does, and refuses in the same words where not.

    Wrapped and looking once, its gradients are the plain model's own. *config* is the loop it is wrapped in, which says
    where the feedback enters.
    """
    plain = build(feedback=False).train()
    once = wrap(plain, replace(keeping(config or Recurrent()), steps=1)).train()
    model = build(feedback=True).train()
    expected, found, ours = (_learn(m, image) for m in (plain, once, model))
    if isinstance(expected, str):
        assert found == ours == expected, f"the plain model says {expected!r}, this one {found!r} and {ours!r}"
        return
    assert not isinstance(found, str), f"the plain model learns, this one says {found!r}"
    assert not isinstance(ours, str), f"the plain model learns, this one says {ours!r}"
    for name, gradient in expected.items():
        scale = 1 + float(gradient.abs().max())
        assert float((found[name] - gradient).abs().max()) <= 1e-3 * scale, f"{name} learns otherwise than in smp"
    for name in expected.keys() | {f"feedback.{key}" for key, _ in model.feedback.named_parameters()}:
        assert name in ours, f"no gradient reaches {name}"
        assert ours[name].isfinite().all(), f"the gradient of {name} is not finite"


def check_like_plain(build: Build, image: Tensor, **arguments: Any) -> None:
    """Built with *arguments* and shown *image*, it answers in the plain model's shapes or refuses in its words."""
    plain, model = (_shapes(build(feedback=feedback, **arguments), image) for feedback in (False, True))
    assert model == plain, f"the plain model: {plain}; this one: {model}"


def check_parameters(model: FeedbackModel, plain: nn.Module) -> None:
    """What an optimizer is given, what can be frozen and what ``train()`` reaches: all of *plain*, and feedback."""
    named = dict(model.named_parameters())
    extra = named.keys() - dict(plain.named_parameters()).keys()
    assert extra == {f"feedback.{name}" for name, _ in model.feedback.named_parameters()} != set()
    assert len(list(model.parameters())) == len({id(p) for p in model.parameters()}), "a parameter is listed twice"
    for flag in (False, True):
        model.requires_grad_(flag).train(flag)
        assert all(p.requires_grad == flag for p in named.values()), f"requires_grad_({flag}) reaches not all"
        assert all(module.training == flag for module in model.modules()), f"train({flag}) reaches not all"


def check_labels(model: FeedbackModel, image: Tensor) -> None:
    """With ``aux_params``: ``(masks, labels)`` as in smp, and labels from what the encoder saw in the last look."""
    base: Any = model.eval()
    with hearing(model), torch.no_grad():
        with calls_of(base.encoder) as calls:
            masks, labels = model(image)
        each = [base.classification_head(stages_of(encoded)[-1]) for _, encoded in calls]
        assert len(each) > 1, "one look: the last is the first"
        assert torch.equal(labels, each[-1]), "the labels are not those of the last look"
        assert not torch.equal(labels, each[0]), "the labels do not hear the feedback"
        for step, expected in zip(model.iterate(image), each, strict=True):
            assert step.labels is not None, f"step {step.index}: no labels"
            assert torch.equal(step.labels, expected), f"step {step.index}: labels of another look"
        assert torch.equal(step.logits, masks), "the masks are not those of the last look"


def check_freezing(model: FeedbackModel, image: Tensor) -> None:
    """A frozen encoder stands still, its statistics of every step too, and the feedback learns; unfrozen, all moves."""
    base: Any = model
    inside = set(base.encoder.modules())
    kept = {f"statistics.{i}": rows for i, rows in enumerate(base.feedback.statistics) if rows.norm[0] in inside}

    def statistics() -> dict[str, Tensor]:
        rows = {
            f"{k}.{name}[{t}]": b for k, m in kept.items() for name, bs in m.named_buffers() for t, b in enumerate(bs)
        }
        return {k: b.clone() for k, b in (dict(base.encoder.named_buffers()) | rows).items() if "running" in k}

    with hearing(model):
        base.train().freeze_encoder()
        for when in ("after freeze_encoder()", "after freeze_encoder() and train()"):
            before, gradients = statistics(), _learn(model, image)
            assert not isinstance(gradients, str), gradients
            moved = [k for k, b in statistics().items() if not torch.equal(b, before[k])]
            assert not moved, f"{when} these statistics moved: {moved}"
            assert not [k for k in gradients if k.startswith("encoder.")], f"{when} the encoder has gradients"
            for name, _ in model.feedback.named_parameters():
                assert gradients[f"feedback.{name}"].abs().max() > 0, f"{when} feedback.{name} learns nothing"
            model.train()
        base.unfreeze_encoder()
        before, gradients = statistics(), _learn(model.train(), image)
        still = [k for k, b in statistics().items() if torch.equal(b, before[k])]
        assert not still, f"after unfreeze_encoder() these statistics stand still: {still}"
        assert [k for k in gradients if k.startswith("encoder.")], (
            "after unfreeze_encoder() the encoder has no gradient"
        )


def check_mismatched_weights(build: Build) -> None:
    """Another head's weights: refused when strict; else warned of, shape by shape, and the rest is loaded."""
    model, weights = build(classes=2), build(classes=5).state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    wrong = {key for key, value in weights.items() if value.shape != before[key].shape}
    assert any(key.startswith("segmentation_head.") for key in wrong)
    said = _said(model.load_state_dict, dict(weights))
    assert str(said).startswith("RuntimeError"), f"strict=True, another head's weights: {said}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.load_state_dict(dict(weights), strict=False)
    listed = {key: line for w in caught for key, line in re.findall(r"^ - (\S+): (.*)$", str(w.message), re.MULTILINE)}
    assert listed.keys() == wrong, f"warned of {sorted(listed)}, not of {sorted(wrong)}"
    for key, value in model.state_dict().items():
        assert torch.equal(value, (before if key in wrong else weights)[key]), (
            f"{key} was not {'kept' * (key in wrong)}"
        )
    for key, line in listed.items():
        assert line == f"{weights[key].shape} (weights) -> {before[key].shape} (model)", line


def check_dtypes(model: FeedbackModel, image: Tensor) -> None:
    """In half, bfloat16 and double it answers in that type, as in float32 up to rounding; and back."""
    with hearing(model), torch.no_grad():
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        expected = model.eval()(image)
        for dtype, rounding in ROUNDING.items():
            answer = model.to(dtype)(image.to(dtype))
            assert answer.dtype == dtype, f"{dtype} in, {answer.dtype} out"
            tensors = [*model.parameters(), *model.buffers()]
            assert {t.dtype for t in tensors if t.is_floating_point()} == {dtype}, f"not all of it is {dtype}"
            assert answer.isfinite().all(), f"{dtype}: not finite"
            off = float((answer - expected).abs().max() / expected.abs().max())
            assert off <= rounding, f"{dtype}: off by {off:.1e} of the largest logit"
            model.float().load_state_dict(weights)


def check_compiles(model: FeedbackModel, image: Tensor, *, dynamic: bool = True) -> None:
    """``torch.compile(fullgraph=True)`` makes one graph of it that answers as it does."""
    torch.compiler.reset()
    with hearing(model.eval()), torch.inference_mode():
        compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="eager")
        _same(compiled(image), model(image), "compiled, it answers otherwise")


def check_exports(model: FeedbackModel, image: Tensor) -> None:
    """``torch.export`` (strict) makes a program of it that answers as it does."""
    with hearing(model.eval()), torch.inference_mode(), warnings.catch_warnings():
        # a look is set for the length of a call and set back, which strict export takes for a lasting change
        warnings.filterwarnings("ignore", "While compiling, we found certain side effects", UserWarning)
        program = torch.export.export(model, (image,), strict=True).module()
        _same(program(image), model(image), "exported, it answers otherwise")


def check_refuses_script(model: FeedbackModel) -> None:
    """``torch.jit.script`` is refused, with what to use instead."""
    assert model._is_torch_scriptable is False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*jit.script.*deprecated", FutureWarning)
        said = str(_said(torch.jit.script, model))
    for words in ("NotScriptable", "deprecated", "torch.export", "torch.compile", "smp_feedback.export"):
        assert words in said, f"{words!r} is not in {said!r:.300}"


def _learn(model: nn.Module, image: Tensor) -> dict[str, Tensor] | str:
    """The gradient of every parameter that got one, under the same dice for all; or its refusal."""
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]), _dropping_nothing(model):
        torch.manual_seed(0)
        answer = _said(model, image)
    if isinstance(answer, str):
        return answer
    torch.stack([part.square().mean() for part in answers(answer)]).sum().backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@contextmanager
def _dropping_nothing(model: nn.Module) -> Iterator[None]:
    """Context: no ``nn.Dropout`` drops: what one drops hangs on how maps lie in memory."""
    drops = [(module, module.p) for module in model.modules() if isinstance(module, DROPOUTS)]
    for module, _ in drops:
        module.p = 0.0
    try:
        yield
    finally:
        for module, p in drops:
            module.p = p


def _shapes(model: nn.Module, image: Tensor) -> list[tuple[int, ...]] | str:
    """The shapes of its answer, or its refusal."""
    with torch.no_grad():
        answer = _said(model.eval(), image)
    return answer if isinstance(answer, str) else [tuple(part.shape) for part in answers(answer)]


def _said(call: Callable[..., Any], *args: Any) -> Any:
    """What *call* gives, or how it refuses."""
    try:
        return call(*args)
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _same(ours: Any, theirs: Any, words: str) -> None:
    for a, b in zip(answers(ours), answers(theirs), strict=True):
        check_close(a, b, words, 1e-5)
