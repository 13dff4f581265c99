"""``smp-feedback compare`` as it is typed: tables, an answer and files, or one line and nothing done."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
import yaml

from smp_feedback.cli.experiments import OF_DATA, _wrote
from smp_feedback.cli.main import main
from smp_feedback.cli.renamed import nested
from smp_feedback.experiments.comparison.settings import ComparisonSettings
from smp_feedback.experiments.films.settings import FilmSettings

EVERY = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))
OTHERS = ("score", "ablation", "clicks", "hot_air_film")  # of other verbs, or of a benchmark
STUDIES = [path for path in EVERY if path.stem not in OTHERS]
TINY = {
    "size": 32,
    "arch_options": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    "feedback": {"steps": 2},
    "train_count": [2],
    "train_steps": 2,
    "batch_size": 2,
    "seeds": 1,
    "corruptions": ["occlusion"],
    "severities": [3],
    "test_images": 4,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A settings file; JSON is YAML."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(json.dumps(nested(TINY, OF_DATA, lambda old, new: new)))
    return path


def flat(settings):
    """*settings* of a file, under the names that they have in Python."""
    data = settings.pop("data")
    return settings | {name: data.pop(new[5:]) for name, new in [*OF_DATA.items()][::-1] if new[5:] in data}


def compare(line, **names):
    return main(["compare", *(word.format(**names) for word in shlex.split(line))])


@pytest.mark.sweep
def test_a_comparison_prints_its_tables_the_answer_and_every_file_and_goes_on_where_it_was(config, tmp_path, capsys):
    line = f"--config {config} --models '[feedback, plain]' --out {tmp_path / 'out'} --accelerator cpu"
    assert compare(line) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("2 models of Unet on polygons", "feedback", "plain", "(one seed)"):
        assert words in printed
    assert "What it costs" in (tmp_path / "out/report.md").read_text()
    files = {Path(name) for name in re.findall(r"wrote (\S+)", printed)}
    assert {"report.html", "report.md", "results.json"} <= {path.name for path in files}
    folder, count = re.search(r"wrote (\S+) \((\d+) figures\)", printed).groups()  # in one line, to fit a console
    assert len([*Path(folder).iterdir()]) == int(count) > 0
    assert all(path.is_file() for path in files - {Path(folder)})
    first = json.loads((tmp_path / "out/results.json").read_text())
    assert [run["model"] for run in first["runs"]] == ["feedback", "plain"]
    assert compare(line) == 0
    assert json.loads((tmp_path / "out/results.json").read_text())["runs"] == first["runs"], "nothing trained again"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--data.name polygon", "Did you mean 'polygons'"),
        ("--data.name camvid", "root"),
        ("--data.name camvid --data.root {tmp}/none", "{tmp}/none"),
        ("--arch Unett", "No architecture is called 'Unett'. Did you mean 'Unet'"),
        ("--out /proc/none", "/proc/none: it is no folder"),
        ("--jobs 0", "jobs=0"),
        ("--executor dusk", "executor='dusk': expected local, dask://HOST:PORT or slurm."),
        ("--executor dask://node", "executor='dask://node': expected local, dask://HOST:PORT or slurm."),
        ("--accelerator gppu", "invalid accelerator name: `accelerator='gppu'`"),
        ("--lr .nan", "lr=nan: expected a number > 0"),
        ("--data.train_count few", "data.train_count: expected list[int] or null, not ['few']"),
        ("--data.train_count '[4, few]'", "data.train_count: expected "),
        ("--train occlusion", "'occlusion': expected 'clean' or 'name:severity'"),
        ("--config '{{trian: [clean]}}'", "does not accept option 'trian'. Did you mean 'train' or"),
        ("--config {tmp}/none.yaml", "none.yaml"),
        ("--data.augment flop", "Did you mean 'flip'"),
        ("--split tset", "Did you mean 'test'"),
        ("--sede 3", "Did you mean '--seeds'"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(line, says, config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("smp_feedback.experiments.comparison.runs.train", lambda *_: pytest.fail("trained"))
    out = "" if "--out" in line else f"--out {tmp_path}/out"
    assert compare(f"--config {config} {out} {line}", tmp=tmp_path) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("\n") == 1
    assert says.format(tmp=tmp_path) in err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_several_words_behind_an_option_are_a_list(config, monkeypatch):
    asked = []
    monkeypatch.setattr("smp_feedback.cli.experiments.aloud", lambda _, found, out, **__: asked.append(found))
    words = "--sizes 32 48 --looks 8 --models feedback plain --corruptions '[]' --seeds 2 --data.train_count 2 4"
    assert compare(f"--config {config} {words}") == 0
    [found] = asked
    assert found.train_count == [2, 4]
    assert (found.sizes, found.looks, found.models, found.seeds) == ([32, 48], [8], ["feedback", "plain"], 2)
    assert compare(f"--config {config} --sizes '[[16, 32], 48]' --corruptions '[]'") == 0
    assert asked[1].sizes == [[16, 32], 48]


def test_files_are_read_and_divided_as_fit_is_told(tmp_path, monkeypatch, capsys):
    """One block of data does for both: what fit names, a comparison keeps among the dataset's options."""
    asked = []
    monkeypatch.setattr("smp_feedback.cli.experiments.aloud", lambda _, found, out, **__: asked.append(found))
    options = {"images": "images", "masks": "masks", "classes": ["ground", "leaf"]}
    data = {"name": "folder", "root": "photos", "val_share": 0.2, "colours": {"ground": "#000000", "leaf": "#00ff00"}}
    (tmp_path / "run.json").write_text(json.dumps({"data": {**data, "options": options}}))
    assert compare(f"--config {tmp_path}/run.json --data.test_share 0.1") == 0
    own = {name: data[name] for name in ("val_share", "colours")}
    assert asked[0].data_options == {**options, **own, "test_share": 0.1}
    assert compare(f"--config {tmp_path}/run.json --data.options.val_share 0.3") == 2
    assert "data.options.val_share=0.3 and data.val_share=0.2: they are the same setting" in capsys.readouterr().err


def test_figures_are_counted_and_what_moves_is_named():
    files = ["report.html", "results.json", "figures/a.svg", "figures/a.png", "figures/solving.webp"]
    lines = [*_wrote([Path("out") / name for name in files])]
    assert lines == ["out/report.html", "out/results.json", "out/figures/solving.webp", "out/figures (2 figures)"]


def test_other_settings_do_not_enter_a_folder_that_is_taken(config, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/one.json").write_text("{}")
    (tmp_path / "settings.json").write_text("{}")
    assert compare(f"--config {config} --out {tmp_path}") == 2
    assert "holds a comparison with other settings: give another --out" in capsys.readouterr().err


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_a_comparison_that_can_be_asked_for(path, monkeypatch):
    asked = []
    monkeypatch.setattr("smp_feedback.cli.experiments.aloud", lambda _, found, out, **__: asked.append(found))
    command = re.search(r"#\s+smp-feedback compare (.*)", path.read_text())[1]
    assert f"--config studies/{path.name}" in command, "the file says how it is run"
    assert compare(command.replace("studies/", f"{path.parent}/")) == 0
    own = yaml.safe_load(path.read_text())
    assert own.pop("task", "image") == ("film" if isinstance(asked[0], FilmSettings) else "image")
    own = flat(own)
    assert own.keys() <= asked[0].to_dict().keys()
    assert all(asked[0].to_dict()[key] == value for key, value in own.items())


@pytest.mark.parametrize("verb", ["compare", "fit"])
def test_help_describes_every_key_in_plain_words(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help_all"])
    page = capsys.readouterr().out
    text = " ".join(page.split())
    assert page.startswith(f"usage: smp-feedback {verb} [options]\n")
    wanted = {"compare": ("Repetitions; each draws", "int | list[int] | null"), "fit": ("Lightning's trainer:",)}
    for words in wanted[verb]:
        assert words in text
    for ugly in ("``", ":class:", "Union[", "Optional[", "known subclasses", "null, null", "+ SIZE"):
        assert ugly not in text, ugly
    described = re.findall(r"^  --([\w.]+)(?: \S+)?(?:\n {24}| {2,})\S", page, flags=re.MULTILINE)
    named = {OF_DATA.get(name, name) for name in ComparisonSettings.__dataclass_fields__}
    keys = {"compare": named, "fit": {"model.lr", "data.root"}}
    assert keys[verb] <= set(described)


def test_the_demo_shows_larger_problems_and_a_twin_of_equal_inference():
    [demo] = (yaml.safe_load(path.read_text()) for path in STUDIES if path.stem == "demo")
    settings = ComparisonSettings(**flat(demo))
    assert {"feedback", "plain", "equal-inference"} <= {*settings.models}
    assert max(settings.sizes) > 4 * settings.size
    assert max(settings.looks) >= 10 * settings.trained_looks
    assert settings.train_count[0] >= settings.batch_size * settings.train_steps, "no image is seen twice"
    rule = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "compare --config studies/demo.yaml" in rule
