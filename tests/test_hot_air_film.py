"""The study of films through moving air, rehearsed: every model, what is kept of it, and how it is reported."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

pytest.importorskip("lightning")

from benchmarks import hot_air_film as study
from smp_feedback.data import Clips, Corrupted, MovingShapes
from smp_feedback.data.corruption.weather import shimmer
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.statistics import Paired

TINY = {
    "films": {
        "data": "moving",
        "size": 16,
        "arch": "PlainConv",
        "encoder": None,
        "arch_options": {"width": 4, "depth": 2},
        "clip": 2,
        "batch_size": 2,
        "train_steps": 1,
        "train_count": 8,
        "test_images": 4,
        "val_images": 4,
        "split": "test",
        "tuned": "val",
        "train_options": {"frames": 4},
        "test_options": {"frames": 4},
        "seeds": 1,
    },
    "airs": {"severe": 5, "asphalt": {"cn2": 1e-12, "path": 1000.0, "aperture": 0.1, "outer_scale": 1.0}},
    "restoration": {"steps": 1, "depth": 2, "filters": 2},
}


def test_the_studys_file_is_one_that_can_be_run_with_files_and_without(pytestconfig):
    config = yaml.safe_load((pytestconfig.rootpath / "studies/hot_air_film.yaml").read_text())
    drawn = config.pop("drawn")
    assert study.opened(config, root="camvid").films.data == "camvid"
    told = study.opened({**config, "films": {**config["films"], **drawn}})
    assert (told.films.data, told.films.camera) == ("moving", None)
    assert study.opened_films(told.films, "train")[0][0].shape == (3, 64, 64)


def test_every_model_is_trained_kept_and_told_beside_its_rivals(tmp_path, capsys):
    file, out = tmp_path / "told.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(TINY))
    study.main(["--config", str(file), "--out", str(out)])
    told = capsys.readouterr().out
    for row in (*study.ROWS.values(),):
        assert f"| {row.said} | " in told
    for said in study.READ.values():
        assert f"| {said} | " in told
    assert told.count("| severe |") == told.count("| asphalt |") == len(study.DIFFERENCES)
    assert "With 1 seed there is no spread" in told
    runs = {row: json.loads((out / f"{row}-s0.json").read_text()) for row in study.ROWS}
    assert set(runs["clean"]["scores"]["clean"]) == {"severe", "asphalt", "clean"}
    assert set(runs["distorted"]["scores"]) == {"distorted", "averaged", "frames"}
    assert runs["feedback"]["weight"] == 1e-3
    assert (out / "hot_air_film.md").read_text() in told
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*-s0.json")}
    study.main(["--config", str(file), "--out", str(out)])
    assert before == {path.name: path.stat().st_mtime_ns for path in out.glob("*-s0.json")}
    file.write_text(yaml.safe_dump({**TINY, "wind": 1.0}))
    with pytest.raises(InvalidValue, match="has runs of other settings"):
        study.main(["--config", str(file), "--out", str(out)])


def test_differences_are_paired_by_seed():
    told = study.opened(TINY)
    scores = {"mean": (0.50, 0.54, 0.52), "distorted": (0.40, 0.46, 0.41)}
    found = [
        {
            "row": row,
            "seed": seed,
            "scores": {row: {"severe": {"mIoU": value, "flicker": 0.1}}},
            "weight": 0,
            "whole": 1,
        }
        for row, values in scores.items()
        for seed, value in enumerate(values)
    ]
    low, high = Paired((10.0, 8.0, 11.0)).interval
    assert f"| mean - distorted | severe | +9.7 | {low:+.1f} to {high:+.1f} | ahead |" in study.report(told, found)
    assert "| one look a frame: and a mean | 52.0 ± 2.0 | 10.0 ± 0.0 | - | - |" in study.report(told, found)


def test_a_clip_is_seen_through_one_of_the_airs():
    frames = MovingShapes("train", frames=4, count=4, size=16)
    ways = [
        lambda image, severity, generator, *, time=0, k=k: torch.full_like(image, k / 4 + time / 40) for k in (1, 2)
    ]
    clips = Clips(Corrupted(frames, study.Mixed(ways), 1, fresh=True), 4)
    seen = {tuple(round(one.mean().item(), 3) for one in clips[0][0]) for _ in range(20)}
    assert seen == {tuple(round(k / 4 + t / 40, 3) for t in range(4)) for k in (1, 2)}
    told, image = study.opened(TINY), frames[0][0]
    ours = told.seen("severe")(image, 1, torch.Generator().manual_seed(3), time=2)
    assert torch.equal(ours, shimmer(image, 5, torch.Generator().manual_seed(3), time=2))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"airs": {}}, "airs="),
        ({"airs": {"hot": 7}}, "severity=7"),
        ({"airs": {"hot": {"c2n": 1}}}, "c2n"),
        ({"restoration": {"depth": 1}}, "depth=1"),
        ({"aire": 1}, "aire"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(told, said):
    with pytest.raises(Exception, match=said):
        study.opened({**TINY, **told})
