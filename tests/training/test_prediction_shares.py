"""Tables of several processes are those that one would have written, byte for byte."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("lightning")
from smp_feedback.training import prediction_writers
from smp_feedback.training.prediction_shares import put_together, share_of
from smp_feedback.training.prediction_writers import LabelWriter, PredictionWriter

IMAGES = ["a/x.png", "b/x.png", "c.png", "d.png", "e.png"]
UNREAD = 2


class Named(list):
    """Items that say how they are called."""

    def name(self, index):
        return IMAGES[index]


def answers():
    torch.manual_seed(3)
    return torch.randn(1, len(IMAGES), 3, 4, 6).round()


def written(folder, places):
    folder.mkdir()
    writer = PredictionWriter(folder, Named([(0, 0)] * len(IMAGES)), ("ground", "leaf", "stone"), polygons="coco")
    for place in places:
        writer.write(answers()[:, place : place + 1], [place])
    return writer


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_what_processes_have_predicted_is_put_together_in_the_order_of_the_images(processes, tmp_path):
    pytest.importorskip("pycocotools")
    read = [place for place in range(len(IMAGES)) if place != UNREAD]
    one = written(tmp_path / "one", read)
    one.outputs.finish()
    parts = [written(tmp_path / str(k), [i for i in read if i % processes == k]) for k in range(processes)]
    assert processes < 5 or parts[UNREAD].outputs.summary is None, "one process has answered nothing"
    sent = [pickle.loads(pickle.dumps(share_of(part.outputs))) for part in parts]
    put_together(parts[0].outputs, sent, parts[0].images)
    parts[0].outputs.finish()
    for name in ("summary.csv", "names.csv", "annotations.json"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert parts[0].written == len(read)


def test_the_first_process_alone_writes_labels_and_knows_what_nobody_could_read(tmp_path, monkeypatch):
    writers = [LabelWriter(tmp_path, Named([(0, 0)] * len(IMAGES)), ("ground", "leaf", "stone")) for _ in range(2)]
    for rank, writer in enumerate(writers):
        writer.on_predict_start(None, None)
        for place in range(rank, 4, 2):
            writer.write(answers()[:, place : place + 1, :, 0, 0], [place])
    writers[0].unread = {"e.png": "it is empty"}

    def end(rank, share):
        monkeypatch.setattr(prediction_writers, "gathered", share)
        writers[rank].on_predict_end(SimpleNamespace(world_size=2, is_global_zero=rank == 0), None)

    said = [(w.unread, [*zip(w.places, w.rows, strict=True)]) for w in writers]

    def share(_, mine):
        return [one[0 if isinstance(mine, dict) else 1] for one in said]

    end(1, share)
    assert not (tmp_path / "labels.csv").exists()
    end(0, share)
    names = [line.partition(",")[0] for line in (tmp_path / "labels.csv").read_text().splitlines()]
    assert names == ["image", *IMAGES[:4]]
    assert writers[1].unread == writers[0].unread == {"e.png": "it is empty"}
