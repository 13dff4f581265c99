"""The command line: every verb answers, every error is one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import smp_feedback as smpf
from smp_feedback import errors
from smp_feedback.cli import main as cli
from smp_feedback.cli import own_verbs
from smp_feedback.cli.main import VERBS, main
from smp_feedback.cli.pages import SHORT
from smp_feedback.exporting import export as exporting


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small saved model."""
    loop = smpf.Recurrent(steps=2, feedback_init=0.3)
    model = smpf.create("Linknet", "tu-test_resnet.r160_in1k", None, classes=3, feedback=loop, encoder_depth=3)
    return model.save_pretrained(tmp_path_factory.mktemp("model"))


def in_a_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "smp_feedback", *arguments], capture_output=True, text=True, check=False
    )


def said(capsys):
    out, err = capsys.readouterr()
    return " ".join(out.split()), err


def test_without_arguments_it_helps(capsys):
    assert main([]) == 0
    out, err = said(capsys)
    assert out.startswith("usage: smp-feedback")
    assert not err
    for verb in VERBS:
        assert f"{verb.__name__} {SHORT[verb.__name__]}" in out


@pytest.mark.parametrize("verb", [verb.__name__ for verb in VERBS])
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help_all"])
    assert end.value.code == 0
    out, _ = said(capsys)
    assert out.startswith(f"usage: smp-feedback {verb} ")
    assert getattr(own_verbs, verb).__doc__ in out


def test_help_waits_for_no_torch():
    code = "import sys; from smp_feedback.cli.main import main; main([]); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@torch.no_grad()
@pytest.mark.sweep
def test_export_writes_what_the_library_writes_and_says_where(saved, tmp_path, capsys):
    out = tmp_path / "model.pt2"
    assert main(["export", str(saved), str(out), "--steps", "1", "--outputs", "all"]) == 0
    printed, _ = said(capsys)
    assert f"wrote {out}: trajectory of image ('batch', 3, '8*height', '8*width'), steps=1" in printed
    image = torch.rand(3, 3, 40, 64)
    wanted = smpf.from_pretrained(saved).trajectory(image, steps=1)
    torch.testing.assert_close(torch.export.load(out).module()(image), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.sweep
def test_export_fixes_the_size_that_it_is_given(saved, tmp_path, capsys):
    out = tmp_path / "model.pt2"
    size = ["--size", "32", "48", "--batch", "2", "--static", "--format", "pt2"]
    assert main(["export", str(saved), str(out), *size]) == 0
    assert "(2, 3, 32, 48)" in said(capsys)[0]
    assert torch.export.load(out).module()(torch.rand(2, 3, 32, 48)).shape == (2, 3, 32, 48)


@pytest.mark.parametrize(
    ("more", "dtype"),
    [
        ([], torch.float32),
        (["--precision", "half"], torch.float16),
        (["--precision", "bfloat16"], torch.bfloat16),
        (["--precision", "full"], torch.float32),
    ],
)
def test_export_writes_numbers_of_the_precision_asked_for(more, dtype, saved, tmp_path, monkeypatch):
    written = exporting.Exported(tmp_path / "model.onnx", (1, 3, 8, 8), ("logits",), 2, 0.0)
    seen = []
    monkeypatch.setattr(exporting, "export", lambda model, *_, **__: seen.append(model) or written)
    assert main(["export", str(saved), str(written.path), *more]) == 0
    assert {parameter.dtype for parameter in seen[0].parameters()} == {dtype}


def test_export_of_one_look_is_said_with_its_state(saved, tmp_path, monkeypatch, capsys):
    state = ("batch", 9, "height", "width")
    written = exporting.Exported(tmp_path / "look.onnx", (1, 3, 8, 8), ("logits", "next_state"), 1, 0.0, state=state)
    told = {}
    monkeypatch.setattr(exporting, "export", lambda *_, **how: told.update(how) or written)
    assert main(["export", str(saved), str(written.path), "--look"]) == 0
    assert (told["look"], told["steps"]) == (True, None)
    printed, _ = said(capsys)
    assert "look.onnx: logits, next_state of image (1, 3, 8, 8) and state ('batch', 9, 'height', 'width')" in printed


def test_info_shows_every_setting(saved):
    run = in_a_process("info", str(saved))
    assert run.returncode == 0, run.stderr
    shown = " ".join(run.stdout.split())
    for setting in ("architecture │ Linknet", "arguments.encoder_depth │ 3", "feedback.steps │ 2"):
        assert f"│ {setting} │" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("exprt", "No verb is called 'exprt'. Did you mean 'export'?"),
        ("score trian", "No verb of score is called 'trian'. Did you mean 'train'?"),
        ("xyz", "No verb is called 'xyz'. There is: app, check, clicks, compare, export, "),
        ("--print_shtab", "--print_shtab: for which shell? Give one of bash, zsh, tcsh."),
        ("--print_shtab fsh", "No shell is called 'fsh'. Did you mean"),
        ("export {saved}", "export: no OUT given"),
        ("export {saved} {out}.onnx --stpes 3", "unrecognized arguments: --stpes"),
        ("export {saved} {out}.onnx --steps three", "steps: expected int, not three."),
        ("export {saved} {out}.onnx --steps 0", "steps=0: expected a whole number >= 1"),
        ("export {saved} {out}.onx", "Did you mean 'onnx'"),
        ("export {saved} {out}.onnx --look --steps 3", "look=True, steps=3: the file is one look, called once a frame"),
        ("export {saved} {out}.onnx --format pt2", "the suffix says 'onnx'"),
        ("export {saved} {out}/model.onnx", "is no directory"),
        ("export {out} {out}.onnx", "neither a directory nor the name of a hub repository"),
        ("export {saved} {out}.onnx --batch 2", "--batch 2 without --size"),
        ("export {saved} {out}.onnx --size 0 8", "expected whole numbers >= 1"),
        ("export {saved} {out}.onnx --size 31 32", "divisible by 8. Consider pad your images to shape (32, 32)"),
        ("export {saved} {out}.onnx --static", "--size H W"),
        ("export {saved} {out}.onnx --precision double", "choose from 'half', 'bfloat16', 'full'"),
        ("info {saved} --window 64", "--window 64. That is an option of validate, test, predict."),
        ("info {out}", "neither a directory"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(arguments, says, saved, tmp_path, capsys):
    argv = [word.format(saved=saved, out=tmp_path / "out") for word in arguments.split()]
    assert main(argv) == 2
    out, err = said(capsys)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("smp-feedback: ")
    assert says in err
    assert not list(tmp_path.iterdir())


def test_a_process_ends_with_that_status_and_no_traceback(tmp_path):
    run = in_a_process("info", str(tmp_path))
    assert (run.returncode, run.stdout) == (2, "")
    assert (
        run.stderr
        == f"smp-feedback: {tmp_path} holds no config.json: expected a directory written by save_pretrained.\n"
    )


def test_a_missing_library_is_named_with_its_extra(monkeypatch, capsys):
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "jsonargparse" else name)
    assert main([]) == 2
    assert 'pip install "smp_feedback[cli]"' in said(capsys)[1]


@pytest.mark.sweep
def test_one_batch_is_not_all_of_them():
    """Python keeps one ``float | int | None`` for all modules, in the order of the first that said it."""
    pytest.importorskip("lightning")
    run = in_a_process("fit", "--trainer.limit_train_batches", "1", "--print_config")
    assert run.returncode == 0, run.stderr
    assert "  limit_train_batches: 1\n" in run.stdout


@pytest.mark.parametrize("lightnings_own", [False, True])
def test_ctrl_c_is_one_line_and_status_130(lightnings_own, monkeypatch, capsys):
    def stopped(*verbs, **brought):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if lightnings_own:
                sys.exit(1)
            raise

    monkeypatch.setattr(cli, "_parser", stopped)
    assert main(["info", "model"]) == 130
    assert said(capsys) == ("", "smp-feedback: interrupted; --resume continues the run.\n")
