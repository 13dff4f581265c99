"""Video files: what is written is read, by both readers alike, upright and whole; what is broken is named."""

import sys
import types
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from smp_feedback.data import Clips, LabelledVideo, VideoFrames, check_dataset, write_video
from smp_feedback.data.films import video, video_dataset
from smp_feedback.errors import DataWarning, InvalidInput, InvalidType, InvalidValue, MissingExtra

av = pytest.importorskip("av")


def clouds(count=5, size=(24, 32), seed=0):
    """Smooth frames, which compression keeps."""
    coarse = torch.rand(count, 3, 3, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear").clamp(0, 1)


def coded(path, frames, codec, pixels, *, turn=None, rate=Fraction(25), pixel=None):
    """*frames* (N, H, W, 3), uint8, in any format, as strangers write them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        if turn is not None:
            stream.set_display_rotation(turn)
        if pixel is not None:
            stream.codec_context.sample_aspect_ratio = pixel
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def as_bytes(frames):
    return (frames * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def works_with_torchcodec(path):
    return video._decoder(path) is not None


# --- in and out


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "A.MOV", "a.avi"])
@pytest.mark.parametrize("size", [(24, 32), (23, 31), (24, 31)])
def test_what_is_written_is_read_whole(tmp_path, name, size):
    frames = clouds(size=size)
    path = write_video(tmp_path / name, iter(frames), Fraction(30000, 1001))
    read = VideoFrames(path, reader="pyav")
    assert (read.fps, read.size) == (Fraction(30000, 1001), size)
    assert read.length in (5, None)
    images = torch.stack(list(read))
    assert images.dtype == torch.float32
    assert images.shape == frames.shape
    assert (images - frames).abs().mean() < 0.03  # colour at half resolution, of a few pixels
    assert torch.equal(torch.stack(list(read)), images)  # again, from the start


@pytest.mark.parametrize("fps", [24, 29.97, Fraction(30000, 1001), Fraction(15), 7.5])
def test_the_frame_rate_comes_back(tmp_path, fps):
    path = write_video(tmp_path / "a.mp4", clouds(3), fps)
    assert VideoFrames(path).fps == (Fraction(fps).limit_denominator(100_000))


UNEVEN = [Fraction(k, 60) for k in (0, 1, 2, 3, 9, 10, 11, 30)]


def shown(path):
    """When each frame is shown, in seconds, as the decoder says."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_frames_are_shown_when_they_are_told_and_say_so(tmp_path, kind):
    late = [5 + time for time in UNEVEN]  # as a camera tells the time
    path = write_video(tmp_path / f"a.{kind}", clouds(8), 25, times=iter(late))
    assert shown(path) == pytest.approx([float(time) for time in UNEVEN], abs=6e-4)  # of .mkv a millisecond
    video = VideoFrames(path)
    assert [float(time) for time in video.times] == pytest.approx([float(time) for time in UNEVEN], abs=6e-4)
    assert sum(1 for _ in video) == 8
    again = write_video(tmp_path / f"b.{kind}", video, video.fps, times=video.times)
    assert shown(again) == pytest.approx(shown(path), abs=1e-6)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001), 7.5])
def test_a_film_of_one_rate_has_no_times(tmp_path, kind, fps):
    assert VideoFrames(write_video(tmp_path / f"a.{kind}", clouds(9), fps)).times is None


def test_frames_beyond_the_times_follow_at_the_rate(tmp_path):
    path = write_video(tmp_path / "a.mp4", clouds(4), 10, times=[0, 0.5])
    assert shown(path) == pytest.approx([0, 0.5, 0.6, 0.7])


def test_what_cannot_keep_the_times_says_so(tmp_path):
    with pytest.warns(DataWarning, match=r"not 25 a second, and an \.avi has one time .* up to 0\.22 s off; \.mp4"):
        path = write_video(tmp_path / "a.avi", clouds(8), 25, times=UNEVEN)
    assert len(list(VideoFrames(path))) == 8
    write_video(tmp_path / "b.avi", clouds(3), 25, times=[0, 0.04, 0.08])


@pytest.mark.parametrize(
    ("times", "match"), [([0, 1, 1], "frame 2 is shown at 1 s, the one before it at 1 s"), ([0, float("nan")], "nan")]
)
def test_times_that_do_not_rise_are_named_and_leave_no_file(tmp_path, times, match):
    with pytest.raises(InvalidInput, match=match):
        write_video(tmp_path / "a.mp4", clouds(3), 25, times=times)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_the_shape_of_a_pixel_comes_back(tmp_path, kind):
    path = write_video(tmp_path / f"a.{kind}", clouds(2), 25, pixel=Fraction(16, 11))
    assert VideoFrames(path).pixel == Fraction(16, 11)
    assert VideoFrames(path).size == (24, 32)
    assert VideoFrames(write_video(tmp_path / f"b.{kind}", clouds(2), 25)).pixel == 1


def test_the_pixels_of_a_turned_video_are_turned(tmp_path):
    path = coded(tmp_path / "a.mp4", as_bytes(clouds(2)), "libx264", "yuv420p", turn=90, pixel=Fraction(4, 3))
    assert VideoFrames(path).pixel == Fraction(3, 4)


def test_grey_frames_bytes_and_floats_are_written_alike(tmp_path):
    grey = clouds(3)[:, :1]
    kinds = [grey, (grey * 255).round().byte(), grey.expand(-1, 3, -1, -1), grey.double()]
    read = [torch.stack(list(VideoFrames(write_video(tmp_path / f"{k}.mkv", f, 5)))) for k, f in enumerate(kinds)]
    assert all((one - read[0]).abs().max() < 0.05 for one in read)
    assert (read[0] - grey).abs().max() < 0.04
    assert (read[0] - read[0][:, :1]).abs().max() < 0.02  # without a tint


def test_frames_are_written_as_they_come(tmp_path):
    alive = []

    def stream():
        for frame in clouds(30, (16, 16)):
            alive.append(sum(1 for _ in tmp_path.iterdir()))
            yield frame

    write_video(tmp_path / "a.mp4", stream(), 10)
    assert alive == [1] * 30  # the draft alone is there
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_that_fails_half_way_leaves_what_was_there(tmp_path):
    path = write_video(tmp_path / "a.mp4", clouds(2), 5)
    before = path.read_bytes()

    def breaks():
        yield from clouds(3)
        raise KeyError("camera")

    for frames, error in (
        (breaks(), KeyError),
        ([], InvalidInput),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 8, 10)], InvalidInput),
        ([torch.zeros(3, 8, 8), torch.zeros(8, 8)], InvalidInput),
        ([np.zeros((3, 8, 8))], InvalidType),
        ([torch.zeros(3, 8, 8, dtype=torch.int64)], InvalidType),
    ):
        with pytest.raises(error):
            write_video(path, frames, 5)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"path": "a.gifv"}, InvalidValue, r"ends in \.mp4"),
        ({"path": "nowhere/a.mp4"}, InvalidValue, "expected a folder that exists"),
        ({"fps": 0}, InvalidValue, "fps=0"),
        ({"fps": float("nan")}, InvalidValue, "fps=nan"),
        ({"fps": "25"}, InvalidType, "fps='25'"),
        ({"quality": 60}, InvalidValue, "quality=60"),
        ({"pixel": 0}, InvalidValue, "pixel=0: expected its width over its height"),
        ({"pixel": float("nan")}, InvalidValue, "pixel=nan"),
    ],
)
def test_what_makes_no_video_is_refused_before_a_frame_is_asked_for(tmp_path, change, error, match):
    def never():
        raise AssertionError
        yield

    told = {"path": "a.mp4", "fps": 25} | change
    with pytest.raises(error, match=match):
        write_video(tmp_path / told.pop("path"), never(), **told)


# --- what strangers write


@pytest.mark.parametrize(
    ("codec", "pixels", "close"),
    [
        ("ffv1", "bgr0", 0.5),
        ("ffv1", "yuv444p", 2),
        ("ffv1", "gray", None),
        ("ffv1", "gray16le", None),
        ("ffv1", "yuv420p10le", None),
        ("mjpeg", "yuvj420p", None),
        ("libx264", "yuv420p", None),
    ],
)
def test_any_format_is_read_and_both_readers_agree(tmp_path, codec, pixels, close):
    frames = as_bytes(clouds(4, (18, 30)))
    path = coded(tmp_path / "a.mkv", frames, codec, pixels)
    images = torch.stack(list(VideoFrames(path, reader="pyav")))
    wanted = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    if "gray" in pixels:
        luma = (wanted * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        assert (images - luma).abs().max() < 0.02
    else:
        assert (images - wanted).abs().mean() < 0.04
    if close is not None:
        assert (images - wanted).abs().max() * 255 <= close
    if VideoFrames(path).bits == 8 and works_with_torchcodec(path):
        other = torch.stack(list(VideoFrames(path, reader="torchcodec")))
        assert (images - other).abs().max() <= 1 / 255


def test_of_more_than_eight_bits_all_are_kept(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (16, 1))
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.height, stream.width, stream.pix_fmt = 16, 256, "gray16le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(ramp, format="gray16le")))
        container.mux(stream.encode())
    read = VideoFrames(tmp_path / "a.mkv")
    assert (read.bits, read.reader) == (16, "pyav")
    assert next(iter(read))[0].numpy() * 65535 == pytest.approx(ramp, abs=1)


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_a_turned_video_is_read_upright(tmp_path, turn):
    frames = as_bytes(clouds(2, (16, 32)))
    path = coded(tmp_path / "a.mp4", frames, "libx264", "yuv444p", turn=turn)
    wanted = np.rot90(frames, turn // 90, axes=(1, 2)) / 255  # anticlockwise, as the file says
    for reader in ("pyav", *(["torchcodec"] if works_with_torchcodec(path) else [])):
        read = VideoFrames(path, reader=reader)
        images = torch.stack(list(read)).permute(0, 2, 3, 1).numpy()
        assert read.size == wanted.shape[1:3]
        assert np.abs(images - wanted).mean() < 0.02, reader


# --- what is broken


def test_what_is_no_video_is_named_with_its_cause(tmp_path):
    with pytest.raises(InvalidValue, match=r"no\.mp4: expected a video file; .*no\.mp4 does not exist"):
        VideoFrames(tmp_path / "no.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(InvalidInput, match=r"empty\.mp4 is empty"):
        VideoFrames(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no video at all" * 100)
    with pytest.raises(InvalidInput, match=r"text\.mp4 is no video that can be read"):
        VideoFrames(tmp_path / "text.mp4")
    whole = write_video(tmp_path / "whole.mp4", clouds(8), 5).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match=r"half\.mp4 is no video that can be read, or a broken one"):
        VideoFrames(tmp_path / "half.mp4")


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(InvalidInput, match=r"a\.mkv holds no video"):
        VideoFrames(tmp_path / "a.mkv")


def test_a_video_that_breaks_off_says_so(tmp_path):
    noise = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "a.avi"
    coded(path, as_bytes(noise), "mjpeg", "yuvj420p")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    read = VideoFrames(path, reader="pyav")
    with pytest.raises(InvalidInput, match=r"a\.avi is no video that can be read, or a broken one: Invalid data"):
        list(read)


def test_fewer_frames_than_a_file_says_are_said(tmp_path):
    read = VideoFrames(write_video(tmp_path / "a.mp4", clouds(3), 5))
    read.length = 4
    with pytest.warns(DataWarning, match=r"a\.mp4 holds 3 frames, and says 4"):
        assert len(list(read)) == 3


def test_without_its_libraries_it_says_which_extra(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", clouds(2), 5)
    monkeypatch.setattr("smp_feedback.errors.find_spec", lambda name: None)
    for use in (lambda: VideoFrames(path), lambda: write_video(path, clouds(2), 5)):
        with pytest.raises(MissingExtra, match=r"needs av: pip install .smp_feedback\[video\]"):
            use()


def test_where_torchcodec_finds_no_ffmpeg_pyav_reads(tmp_path, monkeypatch):
    class Lost:
        def __init__(self, path):
            raise RuntimeError("Could not load libtorchcodec.")

    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    decoders = types.ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = Lost
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    path = write_video(tmp_path / "a.mp4", clouds(2), 5)
    assert VideoFrames(path).reader == "pyav"
    with pytest.raises(InvalidInput, match="finds no FFmpeg, or cannot read it; write reader='pyav'"):
        list(VideoFrames(path, reader="torchcodec"))


# --- with masks


def labelled(root, count=12, masks=range(12), **how):
    """Frame k is as bright as k, and its mask is all k."""
    frames = [torch.full((3, 16, 24), 0.05 * k) for k in range(count)]
    (root / "masks").mkdir()
    for k in masks:
        Image.new("L", (24, 16), k).save(root / "masks" / f"m_{k:04}.png")
    video = write_video(root / "a.mp4", frames, 10)
    return LabelledVideo(video, root / "masks", **{"classes": [str(k) for k in range(count)]} | how)


def test_frames_of_a_video_have_their_masks_in_any_order(tmp_path):
    data = labelled(tmp_path, transform="flip")
    assert (len(data), data.films) == (12, (range(12),))
    for i in (7, 2, 11, 0):
        image, mask = data[i]
        assert image.mean().item() == pytest.approx(0.05 * i, abs=0.02)
        assert mask.unique().tolist() == [i]
    frames, masks = Clips(data, length=3, every=2)[5]
    assert masks[:, 0, 0].tolist() == [5, 7, 9]
    assert frames.mean((1, 2, 3)).tolist() == pytest.approx([0.25, 0.35, 0.45], abs=0.02)
    check_dataset(data)


def test_a_clip_reads_a_video_once(tmp_path, monkeypatch):
    data, opened = labelled(tmp_path, size=8), []
    monkeypatch.setattr(
        video_dataset, "opened", lambda path, opened_by=video_dataset.opened: opened.append(path) or opened_by(path)
    )
    assert Clips(data, length=10)[1][0].shape == (10, 3, 8, 8)
    assert len(opened) == 1


def test_frames_without_a_mask_count_for_nothing(tmp_path):
    with pytest.raises(InvalidValue, match=r"10 of 12 frames have no mask, such as frame 0: write ignore_index=255"):
        labelled(tmp_path, masks=[3, 4])
    data = LabelledVideo(tmp_path / "a.mp4", tmp_path / "masks", classes=list("abcdef"), ignore_index=255)
    assert [int(mask.unique()) for _, mask in data] == [255] * 3 + [3, 4] + [255] * 7


@pytest.mark.parametrize(("name", "match"), [("12.png", "belongs to no frame"), ("x3.png", "masks of one frame")])
def test_masks_that_fit_no_frame_are_named(tmp_path, name, match):
    labelled(tmp_path)
    Image.new("L", (24, 16)).save(tmp_path / "masks" / name)
    with pytest.raises(InvalidValue, match=match):
        LabelledVideo(tmp_path / "a.mp4", tmp_path / "masks", classes=["a"])
