"""A film goes in and comes out answered: one look a frame, as ``look`` gives it, and never half of it."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import time
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("av")
pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
import av

import smp_feedback as smpf
from smp_feedback.cli import films
from smp_feedback.cli.main import main
from smp_feedback.data import VideoFrames, write_video
from smp_feedback.data.films import webcam
from smp_feedback.errors import InvalidInput
from smp_feedback.ops.reading import labels_of
from smp_feedback.training.film_answers import FilmAnswers

NORMALISED = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), "classes": ("ground", "bar", "rest")}
RATE = Fraction(12)


def pictures(count, size=(24, 32), seed=0):
    """A bar that moves over a ground with noise."""
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 120, (count, *size, 3), dtype=np.uint8)
    for k, one in enumerate(made):
        one[:, (2 * k) % size[1] :][:, :6] = 230
    return made


def film(path, frames, rate=RATE):
    with av.open(str(path), "w") as written:
        stream = written.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for one in frames:
            written.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="rgb24")))
        written.mux(stream.encode())
    return path


def read(path):
    """The frames of a film, as they are read everywhere."""
    return list(VideoFrames(path))


def rate_of(path):
    with av.open(str(path)) as opened:
        return opened.streams.video[0].average_rate


def make(classes=3, **config):
    torch.manual_seed(0)
    loop = smpf.Recurrent(**{"steps": 2, "dynamics": "gated", "feedback_init": 1.0, **config})
    model = smpf.create("PlainConv", classes=classes, feedback=loop).eval()
    model.data_config = smpf.DataConfig(**NORMALISED)
    return model


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A saved model that carries, one that does not, and a film."""
    folder = tmp_path_factory.mktemp("kept")
    make().save_pretrained(folder / "model")
    make(dynamics="decay").save_pretrained(folder / "decay")
    film(folder / "in.mp4", pictures(8))
    return folder


def predicted(kept, *words, run="model"):
    told = ["--run", str(kept / run), "--trainer.accelerator", "cpu"]
    return main(["predict", *told, *map(str, words)])


def labels_in(folder):
    return [torch.from_numpy(np.array(Image.open(path)).astype(np.int64)) for path in sorted(folder.glob("*.png"))]


def looked(model, frames, **how):
    """The masks that look gives of normalised frames."""
    step, masks = None, []
    with torch.inference_mode():
        for frame in frames:
            step = model.look(model.preprocess(frame)[None], step, **how)
            masks.append(labels_of(step.logits)[0])
    return masks


def test_masks_of_a_film_are_those_of_look_on_its_normalised_frames(kept, tmp_path, capsys):
    out, masks = tmp_path / "out.mp4", tmp_path / "masks"
    assert predicted(kept, "--video", kept / "in.mp4", "--out", out, "--masks", masks) == 0
    frames, model = read(kept / "in.mp4"), smpf.from_pretrained(kept / "model")
    expected = looked(model, frames)
    found = labels_in(masks)
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    plain = [labels_of(model(frame[None]))[0] for frame in frames]
    assert any(not torch.equal(one, other) for one, other in zip(plain, expected, strict=True)), "nothing was tested"
    written = read(out)
    assert (len(written), written[0].shape, rate_of(out)) == (8, frames[0].shape, RATE)
    said = capsys.readouterr().out
    assert "one look a frame: the state goes on, and never begins anew" in said
    assert "8 frames, " in said
    assert "frames per second" in said
    with torch.inference_mode():
        state = model.look(frames[0][None]).state
    shape = " x ".join(map(str, state.shape))
    assert f"state: {shape}, {4 * state.numel() / 1e6:.3g} MB" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "out.mp4"]


def test_a_film_keeps_its_times_and_the_shape_of_its_pixels(kept, tmp_path):
    times = [0, 0.04, 0.08, 0.4, 0.44, 1.0]
    frames = torch.from_numpy(pictures(6)).permute(0, 3, 1, 2)
    path = write_video(tmp_path / "in.mp4", frames, 25, times=times, pixel=Fraction(4, 3))
    assert predicted(kept, "--video", path, "--out", tmp_path / "out.mp4") == 0
    written = VideoFrames(tmp_path / "out.mp4")
    assert [float(time) for time in written.times] == pytest.approx(times)
    assert written.pixel == Fraction(4, 3)


def test_answers_are_shown_over_their_frames(kept, tmp_path):
    """Where the answer is the background the film is as it was, to its coding; elsewhere it is coloured."""
    out, masks = tmp_path / "out.mp4", tmp_path / "masks"
    assert predicted(kept, "--video", kept / "in.mp4", "--out", out, "--masks", masks) == 0
    apart = torch.stack(read(out)).float() - torch.stack(read(kept / "in.mp4")).float()
    labels = torch.stack(labels_in(masks))
    assert (labels > 0).any()
    assert (labels == 0).any()
    moved = apart.abs().mean(1)
    assert moved[labels > 0].mean() > 3 * moved[labels == 0].mean()


def test_a_model_sees_the_size_that_it_is_told_and_masks_have_the_films(kept, tmp_path):
    masks = tmp_path / "masks"
    told = ["--video", kept / "in.mp4", "--out", tmp_path / "o.mp4", "--masks", masks]
    assert predicted(kept, *told, "--data.size", "16") == 0
    found = labels_in(masks)
    assert found[0].shape == (24, 32)
    model, answers = make(), FilmAnswers(make(), size=(16, 16))
    step, seen = None, list(answers.answers(read(kept / "in.mp4")))
    model.data_config = smpf.DataConfig(**NORMALISED, size=(16, 16))
    with torch.inference_mode():
        for frame, one, mask in zip(read(kept / "in.mp4"), seen, found, strict=True):
            step = model.look(model.preprocess(frame)[None], step)
            assert torch.equal(one.step.logits, step.logits)
            larger = torch.nn.functional.interpolate(step.logits, (24, 32), mode="bilinear")
            assert torch.equal(one.labels, labels_of(larger)[0])
            assert torch.equal(mask, one.labels)


def test_a_model_that_carries_nothing_answers_frame_by_frame_and_says_so(kept, tmp_path, capsys):
    masks = tmp_path / "masks"
    assert predicted(kept, "--video", kept / "in.mp4", "--out", tmp_path / "o.mp4", "--masks", masks, run="decay") == 0
    model = smpf.from_pretrained(kept / "decay")
    for frame, mask in zip(read(kept / "in.mp4"), labels_in(masks), strict=True):
        with torch.no_grad():
            assert torch.equal(mask, labels_of(model(model.preprocess(frame)[None]))[0])
    said = capsys.readouterr().out
    assert "frame by frame: dynamics=decay carries no state" in said
    assert "state:" not in said


def test_a_film_begins_anew_where_the_state_changes_by_more_than_was_said(kept, tmp_path, capsys):
    cut = film(tmp_path / "cut.mp4", np.concatenate([pictures(5), 255 - pictures(4, seed=1)]))
    frames, model = read(cut), smpf.from_pretrained(kept / "model")
    step, changes = None, []
    with torch.inference_mode():
        for frame in frames:
            step = model.look(model.preprocess(frame)[None], step)
            changes.append(float(step.change))
    threshold = f"{(changes[5] + max(changes[2:5])) / 2:.6f}"
    assert max(changes[2:5]) < float(threshold) < changes[5], "the cut cannot be told: nothing would be tested"
    words = ["--video", cut, "--out", tmp_path / "out.mp4", "--masks", tmp_path / "masks", "--reset", threshold]
    assert predicted(kept, *words) == 0
    expected = looked(model, frames, reset=float(threshold))
    assert all(torch.equal(one, other) for one, other in zip(labels_in(tmp_path / "masks"), expected, strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(expected, looked(model, frames), strict=True))
    assert "began anew at 1 cut" in capsys.readouterr().out


def test_a_folder_of_frames_is_a_film_in_the_order_of_names(kept, tmp_path):
    frames = pictures(11)
    (tmp_path / "frames").mkdir()
    for k, one in enumerate(frames):
        Image.fromarray(one).save(tmp_path / "frames" / f"frame_{k}.png")
    assert predicted(kept, "--images", tmp_path / "frames", "--film", "true", "--out", tmp_path / "maps") == 0
    expected = looked(make(), torch.from_numpy(frames).permute(0, 3, 1, 2))
    for k, mask in enumerate(expected):
        found = np.array(Image.open(tmp_path / "maps" / f"frame_{k}.png")).astype(np.int64)
        assert torch.equal(torch.from_numpy(found), mask)


def test_a_pixel_of_several_labels_has_a_mask_for_each_class(tmp_path):
    model = make()
    model.data_config = smpf.DataConfig(**NORMALISED, task="multilabel")
    model.save_pretrained(tmp_path / "model")
    path = film(tmp_path / "in.mp4", pictures(2))
    assert predicted(tmp_path, "--video", path, "--out", tmp_path / "out.mp4", "--masks", tmp_path / "masks") == 0
    names = [f"frame_00000{k}.{name}.png" for k in range(2) for name in ("bar", "ground", "rest")]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == names
    frame = model.preprocess(read(path)[0])[None]
    with torch.inference_mode():
        expected = labels_of(model.look(frame).logits, "multilabel")[0]
    bar = np.array(Image.open(tmp_path / "masks" / "frame_000000.bar.png")).astype(np.int64)
    assert torch.equal(torch.from_numpy(bar), expected[1])


def test_what_fails_half_way_leaves_what_was_there(kept, tmp_path, monkeypatch, capsys):
    out, calls = tmp_path / "out.mp4", []
    out.write_bytes(b"old")

    def broken(one, task):
        calls.append(one)
        if len(calls) == 3:
            raise RuntimeError("the card is gone")
        return torch.zeros(3, 24, 32)

    monkeypatch.setattr(films, "drawn", broken)
    assert predicted(kept, "--video", kept / "in.mp4", "--out", out) == 2
    assert "the card is gone" in capsys.readouterr().err
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.mp4", b"old")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the child is a fork, which costs no second import")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_who_is_killed_at_any_moment_leaves_no_half_written_file(kept, tmp_path):
    path = film(tmp_path / "in.mp4", pictures(150))
    out, masks = tmp_path / "out" / "out.mp4", tmp_path / "masks"
    out.parent.mkdir()
    out.write_bytes(b"old")
    moments = random.Random(5)
    for _ in range(3):
        for mask in masks.glob("*"):
            mask.unlink()
        child = os.fork()
        if not child:  # threads of the parent's are not here, and none may be waited for
            torch.set_num_threads(1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os._exit(predicted(kept, "--video", path, "--out", out, "--masks", masks))
        begun, wanted = time.monotonic(), moments.randint(1, 60)
        while len(list(masks.glob("*.png"))) < wanted and time.monotonic() < begun + 60:
            time.sleep(moments.random() / 1000)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it had ended before: nothing was tested"
        assert out.read_bytes() == b"old"
        for mask in masks.glob("[!.]*"):
            assert Image.open(mask).convert("P").size == (32, 24), "whole, or it could not be read"
        assert [one.name for one in out.parent.glob("[!.]*")] == ["out.mp4"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_frames_are_shown_in_the_precision_of_the_model(dtype):
    model, frames = make().to(dtype), torch.from_numpy(pictures(3, (8, 8))).permute(0, 3, 1, 2)
    for one, expected in zip(FilmAnswers(model).answers(frames), looked_in(model, frames, dtype), strict=True):
        assert torch.equal(one.step.logits, expected)


def looked_in(model, frames, dtype):
    step = None
    with torch.inference_mode():
        for frame in frames:
            step = model.look(model.preprocess(frame)[None].to(dtype), step)
            yield step.logits


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true", "32-true"])
def test_a_film_is_answered_in_the_precision_that_is_asked_for_as_images_are(precision, kept, tmp_path, capsys):
    """So a run that was trained in bfloat16 answers in it, of which its settings tell."""
    told = ["--video", kept / "in.mp4", "--out", tmp_path / "o.mp4", "--masks", tmp_path / "masks", "--frames", 3]
    assert predicted(kept, *told, "--trainer.precision", precision) == 0
    assert f"never begins anew, in {precision}" in capsys.readouterr().out
    model = smpf.from_pretrained(kept / "model").to(DTYPES[precision])
    step, frames = None, read(kept / "in.mp4")[:3]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        for frame, mask in zip(frames, labels_in(tmp_path / "masks"), strict=True):
            step = model.look(model.preprocess(frame)[None].to(DTYPES[precision]), step)
            assert torch.equal(mask, labels_of(step.logits)[0])


DTYPES = {
    "bf16-mixed": torch.float32,
    "bf16-true": torch.bfloat16,
    "64-true": torch.float64,
    "32-true": torch.float32,
}


def test_frames_of_several_sizes_are_refused_unless_one_is_said():
    frames = [torch.rand(3, 24, 32), torch.rand(3, 24, 32), torch.rand(3, 20, 32)]
    answers = FilmAnswers(make()).answers(frames)
    next(answers), next(answers)
    with pytest.raises(InvalidInput, match=r"Frame 2 has 20 x 32 pixels, those before it 24 x 32: expected a film of"):
        next(answers)
    sizes = [tuple(one.labels.shape) for one in FilmAnswers(make(), size=(16, 16)).answers(frames)]
    assert sizes == [(24, 32), (24, 32), (20, 32)]


@torch.no_grad()
def test_of_a_long_film_a_few_frames_are_in_memory():
    alive, most = weakref.WeakSet(), 0

    def frames():
        nonlocal most
        for one in pictures(60, (8, 8)):
            frame = torch.from_numpy(one).permute(2, 0, 1).clone()
            alive.add(frame)
            gc.collect(0)
            most = max(most, len(alive))
            yield frame

    for _ in FilmAnswers(make()).answers(frames()):
        pass
    assert most <= 4


def test_a_camera_is_read_until_it_is_told_to_stop_and_leaves_a_whole_film(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(webcam, "camera_called", lambda name: ("lavfi", "testsrc=size=32x24:rate=10"))
    out = tmp_path / "out.mp4"
    assert predicted(kept, "--camera", "0", "--out", out, "--frames", "3") == 0
    assert (len(read(out)), rate_of(out)) == (3, 10)
    seen, before = [], signal.getsignal(signal.SIGINT)
    real = films.drawn

    def interrupting(one, task):
        seen.append(one)
        if len(seen) == 4:
            signal.raise_signal(signal.SIGINT)
        return real(one, task)

    monkeypatch.setattr(films, "drawn", interrupting)
    assert predicted(kept, "--camera", "0", "--out", out) == 0
    assert len(read(out)) == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interruption_is_no_request_any_more():
    """The camera may have stopped sending frames, and nobody would look at the first."""
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    with films.interruptible(endless=True) as frames_of:
        signal.raise_signal(signal.SIGINT)
        assert not list(frames_of([torch.zeros(3, 2, 2)]))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.signal(signal.SIGINT, outside) is signal.default_int_handler


def test_a_camera_that_is_not_there_is_one_line(kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(webcam, "camera_called", lambda name: ("v4l2", f"{tmp_path}/video{name}"))
    assert predicted(kept, "--camera", "7", "--out", tmp_path / "out.mp4") == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "Camera 7: " in said
    assert "cannot be opened" in said


@pytest.mark.parametrize(
    ("system", "name", "called"),
    [
        ("linux", "0", ("v4l2", "/dev/video0")),
        ("linux", "/dev/v4l/by-id/it", ("v4l2", "/dev/v4l/by-id/it")),
        ("darwin", "1", ("avfoundation", "1")),
        ("win32", "Integrated Camera", ("dshow", "video=Integrated Camera")),
    ],
)
def test_a_camera_is_called_as_its_system_calls_it(system, name, called, monkeypatch):
    monkeypatch.setattr(webcam.sys, "platform", system)
    assert webcam.camera_called(name) == called


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--camera", "0"], "--video and --camera: expected --video FILE, --camera N, or --images"),
        (["--images", "{kept}"], "--video and --images: expected"),
        (["--film", "true"], "--video and --film: expected"),
        (["--looks", "true"], "--looks: a film gets one answer a frame"),
        (["--uncertainty", "true"], "--uncertainty: a film gets one answer a frame"),
        (["--settled", "3"], "--settled: a film gets one answer a frame"),
        (["--steps", "3"], "steps=3: this model goes on from frame to frame, and looks once at each"),
        (["--reset", "often"], "reset=often: expected auto, never, or a number > 0"),
        (["--reset", "auto"], "this model has learned no threshold"),
        (["--frames", "0"], "frames=0: expected a whole number >= 1"),
        (["--out", "{tmp}/maps"], "expected the film to write, .mp4"),
        (["--out", "{kept}/in.mp4"], "is the --video itself"),
        (["--out", "{kept}/in.mp4/out.mp4"], "--out: {kept}/in.mp4 is a file; expected a folder to write to"),
        (["--masks", "{kept}/in.mp4"], "--masks: {kept}/in.mp4 is a file; expected a folder to write to"),
        (["--masks", "{tmp}/out.mp4"], "is the film --out itself: give a folder"),
        (["--video", "{kept}/not.mp4"], "expected a video file"),
        (["--video", "{kept}/model"], "model is a folder: expected a video file; frames in a folder are --images DIR"),
        (["--run", "{kept}/decay", "--reset", "0.5"], "the model begins anew with every frame; leave it out"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_file_is_made(words, says, kept, tmp_path, capsys):
    told = ["--video", kept / "in.mp4", "--out", tmp_path / "out.mp4"]
    words = [word.format(kept=kept, tmp=tmp_path) for word in words]
    before = (kept / "in.mp4").read_bytes()
    assert predicted(kept, *told, *words) == 2
    assert says.format(kept=kept) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert (kept / "in.mp4").read_bytes() == before


@pytest.mark.parametrize("word", ["--masks", "--reset", "--frames"])
def test_what_is_for_films_needs_one(word, kept, tmp_path, capsys):
    assert predicted(kept, "--images", kept, "--out", tmp_path / "maps", word, "1") == 2
    assert f"{word} is for films" in capsys.readouterr().err


@pytest.mark.sweep
def test_three_hundred_frames_go_in_and_out(kept, tmp_path, capsys):
    path = film(tmp_path / "in.mp4", pictures(300), Fraction(30000, 1001))
    assert predicted(kept, "--video", path, "--out", tmp_path / "out.mp4", "--masks", tmp_path / "masks") == 0
    assert (len(read(tmp_path / "out.mp4")), rate_of(tmp_path / "out.mp4")) == (300, Fraction(30000, 1001))
    expected = looked(make(), read(path))
    assert all(torch.equal(one, other) for one, other in zip(labels_in(tmp_path / "masks"), expected, strict=True))
    assert "300 frames, " in capsys.readouterr().out


@pytest.mark.sweep
def test_a_run_of_fit_answers_a_film_with_its_own_weights(kept, tmp_path):
    loop = {"steps": 2, "dynamics": "gated"}
    data = {"name": "polygons", "size": 24, "batch_size": 4, "train_count": 8}
    trainer = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    settings = {"model": {"arch": "PlainConv", "feedback": loop}, "data": data, "trainer": trainer}
    assert main(["fit", "--config", json.dumps(settings), "--out", str(tmp_path / "run")]) == 0
    masks = tmp_path / "masks"
    told = ["--video", kept / "in.mp4", "--out", tmp_path / "o.mp4", "--masks", masks]
    assert predicted(tmp_path, *told, run="run") == 0
    seen = FilmAnswers(smpf.from_pretrained(tmp_path / "run" / "model")).answers(read(kept / "in.mp4"))
    for mask, one in zip(labels_in(masks), seen, strict=True):
        assert mask.shape == (24, 32)
        assert torch.equal(mask, one.labels)


def test_label_maps_do_not_replace_a_films_frames(kept, tmp_path, capsys):
    for place in ("frames", "masks"):
        (tmp_path / place).mkdir()
        for k, one in enumerate(pictures(2)):
            Image.fromarray(one).save(tmp_path / place / f"frame_{k:06d}.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    of_frames = ["--images", tmp_path / "frames", "--film", "true"]
    assert predicted(kept, *of_frames, "--out", tmp_path / "frames") == 2
    assert "is where the frames are" in capsys.readouterr().err
    assert predicted(kept, *of_frames, "--out", tmp_path / "masks") == 2
    assert "no answer that was written before" in capsys.readouterr().err
    of_video = ["--video", kept / "in.mp4", "--out", tmp_path / "out.mp4"]
    assert predicted(kept, *of_video, "--masks", tmp_path / "masks") == 2
    assert "no answer that was written before" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_maps_of_a_longer_film_before_are_said(kept, tmp_path, capsys):
    told = ["--video", kept / "in.mp4", "--masks", tmp_path / "masks", "--out", tmp_path / "out.mp4"]
    assert predicted(kept, *told) == 0
    assert "longer film" not in capsys.readouterr().out
    assert predicted(kept, *told, "--frames", 3) == 0
    assert "also holds frame_000003.png to frame_000007.png, of a longer film before" in capsys.readouterr().out
