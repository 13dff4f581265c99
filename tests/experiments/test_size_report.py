"""A comparison at several sizes, drawn and reported: two figures, pictures below them, and one that moves."""

from __future__ import annotations

import base64
import functools
import io
import re

import numpy as np
import pytest
from fake_comparison import SOLVED, fake_results, fake_sizes
from PIL import Image

pytest.importorskip("matplotlib")
from smp_feedback.experiments.comparison.figures import caption, figures
from smp_feedback.experiments.comparison.report import write_report
from smp_feedback.experiments.comparison.schema import parse
from smp_feedback.experiments.comparison.size_figures import trained_looks
from smp_feedback.plotting.style import LINES

TRAINED = {"size": 5, "training": {"steps": [8, 16]}}


def results(**more):
    found = fake_sizes(sway=0.0, **more)
    return {**found, "settings": {**found["settings"], **TRAINED}}


@functools.cache
def drawn_once():
    """The figures of all models and seeds."""
    return figures(results())


def lines(figure):
    """Heights by name."""
    return {drawn.get_label(): drawn.get_ydata().tolist() for drawn in figure.axes[0].lines}


def test_every_model_has_a_line_over_the_sizes_and_the_loop_two():
    drawn = drawn_once()["sizes"]
    expected = {name: 100 * np.array(row[1]) for name, row in SOLVED.items() if name != "feedback"}
    expected |= {f"feedback, {t} looks": 100 * np.array(SOLVED["feedback"][t]) for t in (16, 160)}
    assert lines(drawn).keys() == expected.keys()
    assert all(heights == pytest.approx(expected[name]) for name, heights in lines(drawn).items())
    assert drawn.axes[0].lines[0].get_xdata().tolist() == [5, 9, 13, 21]
    (mark,) = drawn.axes[0].patches
    assert mark.get_x() < 5 < mark.get_x() + mark.get_width()
    colours = {line.get_label(): line.get_color() for line in drawn.axes[0].lines}
    assert colours["feedback, 16 looks"] == colours["feedback, 160 looks"] == LINES[0]
    assert len(set(colours.values())) == len(SOLVED)


def test_the_loop_has_a_line_over_its_looks_for_each_size():
    drawn = drawn_once()["sizes-looks"]
    assert lines(drawn) == {
        f"size {size}": pytest.approx([100 * SOLVED["feedback"][t][i] for t in (16, 64, 160)])
        for i, size in enumerate((5, 9, 13, 21))
    }
    (mark,) = drawn.axes[0].patches
    assert mark.get_x() < 8 < 16 < mark.get_x() + mark.get_width()


@pytest.mark.parametrize(
    ("training", "looks"), [({"steps": [8, 12]}, (8, 12)), ({"steps": 7}, (16, 16)), (None, (16, 16))]
)
def test_the_looks_in_training_are_a_range_where_they_were_drawn(training, looks):
    found = results()
    found["settings"]["training"] = training
    assert trained_looks(parse(found)) == looks


def test_sizes_of_two_sides_are_where_their_area_is():
    found = fake_sizes(models=("plain",), seeds=1, sizes=(5, [9, 16], 13, 21))
    assert figures(found)["sizes"].axes[0].lines[0].get_xdata().tolist() == [5, 12, 13, 21]


def test_only_what_was_varied_is_drawn():
    twins = figures(results(models=("plain", "equal-inference")))
    assert "sizes" in twins
    assert "sizes-looks" not in twins
    assert not any(name.startswith("sizes") for name in figures(fake_results(seeds=1, counts=(2,), trains=("clean",))))
    once = results(solved={"feedback": {16: SOLVED["feedback"][16]}}, models=("feedback",))
    assert list(lines(figures(once)["sizes"])) == ["feedback"]
    assert "sizes-looks" not in figures(once)


def test_several_trainings_have_figures_of_their_own():
    found = results()
    for run in found["runs"]:
        if run["seed"] == 2:
            run["images"] = 10
    names = [name for name in figures(found) if name.startswith("sizes")]
    assert names == ["sizes-clean-10", "sizes-looks-clean-10", "sizes-clean-100000", "sizes-looks-clean-100000"]
    assert caption("sizes-looks-clean-10", "mIoU") == caption("sizes-looks", "mIoU") != caption("sizes", "mIoU")


def test_figures_are_captioned_by_what_was_measured():
    assert caption("sizes", "mIoU").startswith("The share of images solved, every pixel right, over the size")
    assert caption("sizes", "mIoU", "mIoU").startswith("The mIoU reached over the size")
    assert drawn_once()["sizes"].axes[0].get_ylabel() == "solved (%)"


def moving(path):
    """Three frames, red, green and blue."""
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80, loop=0, lossless=True)
    return path


@pytest.fixture(scope="module", params=["gif", "webp"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    Image.new("RGB", (4, 3), "black").save(folder / "still.png")
    pictures = {"Look by look": moving(folder / f"a.{request.param}"), "Size 5": folder / "still.png"}
    return write_report(results(seeds=1), folder / "out", pictures), pictures, request.param


def test_what_moves_is_in_the_page_as_it_is_and_as_its_last_frame_for_who_asks_for_less(written):
    (page, *_), pictures, suffix = written
    text = page.read_text()
    found = re.search(rf'<img src="data:image/{suffix};base64,([^"]+)" alt="([^"]+)"', text)
    assert base64.b64decode(found[1]) == pictures["Look by look"].read_bytes()
    assert "Look by look" in found[2]
    (still,) = re.findall(
        r'<source media="print, \(prefers-reduced-motion: reduce\)" srcset="data:image/png;base64,(.*?)"', text
    )
    with Image.open(io.BytesIO(base64.b64decode(still))) as last:
        assert last.size == (4, 3)
        assert last.getpixel((1, 1)) == (0, 0, 255)


def test_larger_problems_come_first_with_figures_then_pictures(written):
    (page, *_), _, _ = written
    section = page.read_text().partition('<section id="sizes"')[2].partition("</section>")[0]
    captions = re.findall("<figcaption>(.*?)</figcaption>", section)
    assert captions == [caption("sizes", "mIoU"), caption("sizes-looks", "mIoU"), "Look by look", "Size 5"]
    assert page.read_text().count("<section id=") == page.read_text().count("</section>")
    assert re.findall('<section id="(.*?)"', page.read_text())[0] == "sizes"


def test_what_moves_is_a_file_and_in_the_markdown(written):
    (page, markdown, *others), pictures, suffix = written
    files = {path.name: path for path in others}
    assert files[f"picture-look-by-look.{suffix}"].read_bytes() == pictures["Look by look"].read_bytes()
    assert f"![Look by look](figures/picture-look-by-look.{suffix})" in markdown.read_text()
    assert not list(page.parent.rglob(".*"))


def test_pictures_of_a_comparison_at_one_size_stay_where_they_were(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    page, *_ = write_report(
        fake_results(seeds=0),
        tmp_path / "out",
        {"Look": tmp_path / "a.png"},
    )
    assert 'id="sizes"' not in page.read_text()
    assert "<figcaption>Look</figcaption>" in page.read_text().partition('id="pictures"')[2]
    assert "<source" not in page.read_text()
