"""``smp-feedback restore ablation`` as it is typed: tables, an answer and files, or one line and nothing done."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
import yaml

from smp_feedback.cli.experiments import OF_DATA
from smp_feedback.cli.main import main
from smp_feedback.cli.renamed import nested
from smp_feedback.experiments.ablation.settings import AblationSettings

STUDY = Path(__file__).parents[2] / "studies" / "ablation.yaml"
TINY = {
    "size": 32,
    "train_count": 8,
    "encoder": "tu-test_resnet.r160_in1k",
    "arch_options": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    "restoration": {"steps": 2, "depth": 2, "filters": 4},
    "train_steps": 2,
    "batch_size": 2,
    "seeds": 1,
    "test_images": 2,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A settings file; JSON is YAML."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(json.dumps(nested(TINY, OF_DATA, lambda old, new: new)))
    return path


def ablation(line, **names):
    return main(["restore", "ablation", *(word.format(**names) for word in shlex.split(line))])


@pytest.mark.sweep
def test_an_ablation_prints_its_tables_the_answer_and_every_file_and_goes_on_where_it_was(config, tmp_path, capsys):
    line = f"--config {config} --out {tmp_path / 'out'} --accelerator cpu"
    assert ablation(line) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("6 models of Unet on polygons under turbulence:3", "What each part brings"):
        assert words in printed
    assert "What it costs" in (tmp_path / "out/ablation.md").read_text()
    for words in (
        "Undecided: on distorted images and under the same loss, restoration with feedback (mIoU",
        "(one seed)",
    ):
        assert words in printed
    files = {path.name: path for path in map(Path, re.findall(r"wrote (\S+)", printed))}
    assert [*files] == ["ablation.md", "ablation.json", "ablation-rows.png", "pictures.png"]
    assert all(path.is_file() for path in files.values())
    first = json.loads(files["ablation.json"].read_text())
    assert first["command"].startswith("smp-feedback ")
    assert ablation(line) == 0
    assert json.loads(files["ablation.json"].read_text())["runs"] == first["runs"], "nothing trained again"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--data.name polygon", "Did you mean 'polygons'"),
        ("--data.name camvid --data.root {tmp}/none", "{tmp}/none"),
        ("--arch Unett", "No architecture is called 'Unett'. Did you mean 'Unet'"),
        ("--corruption turbulense", "Did you mean 'turbulence'"),
        ("--severity 7", "severity=7: expected 1 to 5"),
        ("--restoration.steps 0", "steps=0"),
        ("--restoration '{{stps: 2}}'", "Did you mean 'steps'"),
        ("--gammas '[0, .nan]'", "gammas=nan"),
        ("--rows '[clean, restored]'", "Did you mean 'distorted' or 'restoration'"),
        ("--lr .nan", "lr=nan: expected a number > 0"),
        ("--jobs 0", "jobs=0"),
        ("--executor dusk", "executor='dusk': expected local, dask://HOST:PORT or slurm."),
        ("--executor dask://node", "executor='dask://node': expected local, dask://HOST:PORT or slurm."),
        ("--accelerator gppu", "invalid accelerator name: `accelerator='gppu'`"),
        ("--out /proc/none", "/proc/none: it is no folder"),
        ("--sede 3", "Did you mean '--seed' or '--seeds'"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(line, says, config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("smp_feedback.experiments.ablation.runs.train", lambda *_: pytest.fail("trained"))
    out = "" if "--out" in line else f"--out {tmp_path}/out"
    assert ablation(f"--config {config} {out} {line}", tmp=tmp_path) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("\n") == 1
    assert says.format(tmp=tmp_path) in err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_other_settings_do_not_enter_a_folder_that_is_taken_and_are_named(config, tmp_path, capsys):
    settings = AblationSettings(**{**TINY, "lr": 0.001}).to_dict()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/one.json").write_text("{}")
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert ablation(f"--config {config} --out {tmp_path} --accelerator cpu") == 2
    assert capsys.readouterr().err.endswith("give another --out, or remove it. there lr=0.001, here 0.0005\n")


def test_the_study_is_an_ablation_that_can_be_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("smp_feedback.cli.experiments.aloud", lambda _, found, out, **how: asked.append((found, how)))
    command = re.search(r"#\s+smp-feedback restore ablation (.*)", STUDY.read_text())[1]
    assert ablation(command.replace("studies/", f"{STUDY.parent}/")) == 0
    [(found, how)] = asked
    own = yaml.safe_load(STUDY.read_text())
    data = own.pop("data")
    own |= {name: data[new[5:]] for name, new in OF_DATA.items() if new[5:] in data and name != "images"}
    assert all(found.to_dict()[key] == value for key, value in own.items())
    assert how["jobs"] == 2


def test_help_describes_every_key_in_plain_words(capsys):
    with pytest.raises(SystemExit):
        main(["restore", "ablation", "--help_all"])
    page = capsys.readouterr().out
    assert page.startswith("usage: smp-feedback restore ablation [options]\n")
    assert "Training batches of every row" in " ".join(page.split())
    for ugly in ("``", ":class:", "Union[", "Optional[", "null, null", "+ SIZE"):
        assert ugly not in page, ugly
    described = re.findall(r"^  --([\w.]+)(?: \S+)?(?:\n {24}| {2,})\S", page, flags=re.MULTILINE)
    assert {OF_DATA.get(name, name) for name in AblationSettings.__dataclass_fields__} <= set(described)
