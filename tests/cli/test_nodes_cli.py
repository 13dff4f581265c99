"""``smp-feedback`` in several processes that somebody else has started: as on two machines, and files of one."""

from __future__ import annotations

import csv
import json
import os
import shlex
import socket
import subprocess
import sys

import pytest
import torch
from test_fit_cli import SMALL

pytest.importorskip("lightning")
from smp_feedback.cli.main import main

ALONE = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}  # nothing but this machine is listened to
RENDEZVOUS = "--nnodes 2 --nproc_per_node 1 --node_rank {node} --rdzv_endpoint 127.0.0.1:{port} --local_addr 127.0.0.1"
NODES = "--trainer.num_nodes 2 --trainer.devices 1 --trainer.strategy ddp"


@pytest.fixture
def config(tmp_path):
    """A config file; JSON is YAML."""
    (tmp_path / "run.yaml").write_text(json.dumps(SMALL))
    return tmp_path / "run.yaml"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def on_two_nodes(line, folder):
    """Two commands of torchrun, as they are typed on two machines; each in a folder of its own."""
    port, running = free_port(), []
    for node in range(2):
        (folder / f"node_{node}").mkdir(exist_ok=True)
        meets = shlex.split(RENDEZVOUS.format(node=node, port=port))
        command = [sys.executable, "-m", "torch.distributed.run", *meets, "-m", "smp_feedback", *shlex.split(line)]
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": {**os.environ, **ALONE}}
        running.append(subprocess.Popen(command, cwd=folder / f"node_{node}", **how))
    told = [process.communicate(timeout=500) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(err[-3000:] for _, err in told)
    return [out for out, _ in told]


def there(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.sweep
def test_fit_on_two_nodes_is_fit_of_two_processes_and_one_of_them_writes(config, tmp_path, capsys):
    (first, second) = on_two_nodes(f"fit --config {config} --out run {NODES}", tmp_path)
    assert second == ""
    assert "wrote run/model" in first
    assert "looks 1-2: " in first
    assert there(tmp_path / "node_1") == []
    names = there(tmp_path / "node_0/run")
    assert {"best.ckpt", "config.yaml", "data.json", "last.ckpt", "model/model.safetensors"} <= {*names}

    kept = torch.load(tmp_path / "node_0/run/last.ckpt", weights_only=True)
    assert (kept["PairsModule"]["processes"], kept["global_step"]) == (2, 1), "4 of 8 images each make one step"
    assert main(["validate", "--run", f"{tmp_path}/node_0/run", "--out", f"{tmp_path}/one", *ONE]) == 0
    alone = json.loads((tmp_path / "one/scores.json").read_text())
    with (tmp_path / "node_0/run/csv/version_0/metrics.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["val_miou"])
    assert alone["looks"] == pytest.approx([float(row[f"val_miou/look_{t}"]) for t in (1, 2)], abs=1e-6)

    capsys.readouterr()
    assert main(["fit", "--resume", f"{tmp_path}/node_0/run", *ONE, "--model.schedule", "null"]) == 0
    said = capsys.readouterr()
    assert "The run goes on with 1 process x 4 images, and had 2 processes x 4 images" in said.err


ONE = ["--trainer.devices", "1", "--trainer.num_nodes", "1"]


def test_processes_that_somebody_else_starts_are_told_where_to_write(config, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["fit", "--config", str(config)]) == 2
    assert (
        "Each process of torchrun would name a folder of its own by the time: give --out DIR."
        in capsys.readouterr().err
    )
