"""Every example runs as it stands, at small settings; a file without a test fails."""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
import smp_feedback as smpf

EXAMPLES = Path(__file__).parents[1] / "examples"
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "mnist"
WORDS = {
    "mnist": "--arch timm/test_resnet.r160_in1k --epochs 1 --batch_size 4 --looks 3 --steps 2 --noise 3 --root {root}",
    "follow_shapes": "--size 16 --train_steps 1 --frames 3",
    "solve_a_maze": "--size 2 --larger 3 --train_steps 1 --steps 1 2 --free_steps 0 1 --looks 1 2 --images 1",
    "wrap_smp": "--train_steps 2 --images 4",
    "wrap_torchvision": "--name lraspp_mobilenet_v3_large --size 64",
    "write_a_plugin": "--train_steps 2",
}
SERVING = ["film_without_torch", "predict_without_torch"]  # given a model, and without this package
FILES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in SERVING)
pytestmark = pytest.mark.usefixtures("restored")  # what an example registers is gone, afterwards


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def words(name, root, out):
    return [word.format(root=root) for word in WORDS[name].split()] + ["--out", str(out)]


def test_every_example_is_run_here():
    assert set(FILES) == set(WORDS)


@pytest.mark.parametrize("name", FILES + SERVING)
def test_an_example_is_described(name):
    page = (EXAMPLES / "README.md").read_text()
    assert f"]({name}.py)" in page
    assert f"python examples/{name}.py" in (EXAMPLES / f"{name}.py").read_text().partition('"""\n\n')[0]


@pytest.mark.parametrize("name", FILES)
def test_an_example_runs(name, mnist, tmp_path, capsys):
    example(name).main(words(name, mnist, tmp_path / "out"))
    printed = capsys.readouterr().out
    assert f"wrote {tmp_path / 'out'}" in printed
    folder = tmp_path / ("out/model-0" if name == "mnist" else "out")
    assert isinstance(smpf.from_pretrained(folder), smpf.FeedbackModel)


def test_an_example_runs_as_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["write_a_plugin.py", "--train_steps", "1"])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # runpy puts the example there
    runpy.run_path(str(EXAMPLES / "write_a_plugin.py"), run_name="__main__")
    assert "wrote runs/write_a_plugin; loaded, it answers the same: True" in capsys.readouterr().out


def test_a_plugin_of_the_example_says_the_same_from_disk_and_learns(tmp_path, capsys):
    example("write_a_plugin").main(["--out", str(tmp_path), "--train_steps", "40"])
    printed = capsys.readouterr().out
    assert "mine: ['Pyramid']" in printed
    assert "loaded, it answers the same: True" in printed
    before, after = (float(part.split()[-1]) for part in printed.split("not seen:")[1].split(" %")[:2])
    assert after > before + 5


def test_a_wrapped_model_of_the_examples_keeps_its_answers(tmp_path, capsys):
    example("wrap_smp").main(["--out", str(tmp_path), "--train_steps", "1", "--images", "2"])
    assert float(capsys.readouterr().out.split("any logit is ")[1].split()[0]) < 1e-4
    example("wrap_torchvision").main(words("wrap_torchvision", "", tmp_path / "torchvision"))
    printed = capsys.readouterr().out
    assert float(printed.split("moved by more than ")[1].split()[0]) < 1e-4
    moves = [float(line.split("by ")[1].split()[0]) for line in printed.splitlines() if line.startswith("look ")]
    assert len(moves) == 4
    assert 0 < moves[1] < moves[0] == 1, "heard, and fading"


def test_digits_are_scored_over_looks_and_noise_for_each_model_and_seed(mnist, tmp_path):
    out = tmp_path / "out"
    result = example("mnist").main([*words("mnist", mnist, out), "--seeds", "0", "1"])
    assert {(row["model"], row["seed"], row["severity"], row["looks"]) for row in result["rows"]} == {
        *(("feedback", seed, severity, looks) for seed in (0, 1) for severity in (0, 3) for looks in (1, 2, 3)),
        *(("feed-forward", seed, severity, 1) for seed in (0, 1) for severity in (0, 3)),
    }
    assert json.loads((out / "mnist.json").read_text())["task"] == "classification"
    assert {path.name for path in out.glob("mnist*.png")} >= {"mnist-severity.png", "mnist-looks.png"}
    zero, one = (next(smpf.from_pretrained(out / f"model-{seed}").parameters()) for seed in (0, 1))
    assert not torch.equal(zero, one), "another seed, other weights"


def test_the_table_of_digits_is_the_mean_over_seeds():
    module = example("mnist")
    rows = [
        {"model": "feedback", "seed": seed, "severity": 0, "looks": looks, "score": 0.9 + 0.02 * seed + 0.01 * looks}
        for seed in (0, 1)
        for looks in (1, 2)
    ]
    rows += [{"model": "feed-forward", "seed": 0, "severity": 5, "looks": 1, "score": 0.5}]
    cells = [list(column.cells) for column in module.table(rows).columns]
    assert cells == [["feed-forward", "feedback"], ["5", "none"], ["50.0", "92.0"], ["", "93.0"]]


def test_the_example_of_a_maze_scores_every_size_and_films_the_largest(tmp_path, capsys):
    example("solve_a_maze").main(words("solve_a_maze", "", tmp_path))
    printed = capsys.readouterr().out
    for size in (2, 3):
        line = next(line for line in printed.splitlines() if line.startswith(f"{size} x {size}, solved in per cent"))
        assert [part.split()[1] for part in line.partition(": ")[2].split(", ")] == ["(1)", "(2)"]
    assert f"wrote {tmp_path / 'maze.gif'}" in printed
    with Image.open(tmp_path / "maze.gif") as film:
        assert film.n_frames >= 2
        assert film.width > 7 * 40, "pixels large enough to be counted"


def test_a_film_through_one_file_is_looked_at_as_by_its_model_in_a_process_without_torch(tmp_path):
    av = pytest.importorskip("av")
    torch.manual_seed(0)
    loop = smpf.Recurrent(steps=2, dynamics="gated", projection="probabilities", feedback_init=1.0)
    model = smpf.create("PlainConv", classes=3, feedback=loop).eval()
    model.data_config = smpf.DataConfig(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    smpf.export(model, tmp_path / "look.onnx", look=True, image=torch.rand(1, 3, 24, 32))
    with av.open(str(tmp_path / "in.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=12)
        stream.height, stream.width = 24, 32
        for noise in torch.randint(0, 256, (6, 24, 32, 3), dtype=torch.uint8).numpy():
            film.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        film.mux(stream.encode())
    step, seen = None, list(example("film_without_torch").looks(tmp_path / "look.onnx", str(tmp_path / "in.mp4")))
    assert len(seen) == 6
    with torch.inference_mode():
        for pixels, logits in seen:
            step = model.look(model.preprocess(torch.from_numpy(pixels).permute(2, 0, 1))[None], step)
            wanted = step.logits[0].numpy()
            assert np.abs(logits - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max())
    code = f"""if True:
        import runpy, sys
        sys.argv = ["example", "look.onnx", "in.mp4", "out.mp4"]
        runpy.run_path({str(EXAMPLES / "film_without_torch.py")!r}, run_name="__main__")
        assert not {{"torch", "smp_feedback"}} & set(sys.modules)
    """
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "wrote out.mp4\n"), run.stderr
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert (film.streams.video[0].average_rate, len(list(film.decode(video=0)))) == (12, 6)


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    """One look of a small model as a file."""
    model = smpf.create("PlainConv", width=4, feedback=smpf.Recurrent(steps=2, dynamics="gated")).eval()
    file = tmp_path_factory.mktemp("look") / "look.onnx"
    smpf.export(model, file, look=True, image=torch.rand(1, 3, 16, 16), check=False)
    return file


@pytest.mark.parametrize("turn", [90, 180])
def test_a_film_that_lies_on_its_side_is_shown_to_the_file_upright_and_of_odd_sizes_written_whole(turn, look, tmp_path):
    av = pytest.importorskip("av")
    film = tmp_path / "in.mp4"
    with av.open(str(film), "w") as written:
        stream = written.add_stream("libx264", rate=12, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = 25, 33, "yuv444p"
        stream.set_display_rotation(turn)
        noise = torch.randint(0, 256, (25, 33, 3), dtype=torch.uint8).numpy()
        written.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        written.mux(stream.encode())
    module = example("film_without_torch")
    ((pixels, logits),) = module.looks(look, str(film))
    (upright,) = smpf.data.VideoFrames(film, reader="pyav")
    assert np.abs(pixels / 255 - upright.permute(1, 2, 0).numpy()).max() < 0.01
    assert logits.shape[1:] == upright.shape[1:]
    module.main([str(look), str(film), str(tmp_path / "out.mp4")])
    with av.open(str(tmp_path / "out.mp4")) as opened:
        assert opened.streams.video[0].height == upright.shape[1]


@pytest.mark.sweep
def test_a_few_real_digits_are_learnt(tmp_path):
    if not REAL.is_dir():
        pytest.skip("shared/data/mnist is not here; made-up digits run the same code")
    told = "--arch timm/test_resnet.r160_in1k --epochs 4 --batch_size 16 --images 256 --test_images 100 --noise"
    result = example("mnist").main([*told.split(), "--root", str(REAL), "--out", str(tmp_path), "--models", "feedback"])
    last = max(result["rows"], key=lambda row: row["looks"])
    assert last["looks"] == 10
    assert last["score"] > 0.4, "guessing is 0.1"
