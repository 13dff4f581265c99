"""What restoration, its feedback and what it carries gain on films through moving air.

python -m benchmarks.hot_air_film --config studies/hot_air_film.yaml [--root path/to/camvid] [--out runs/hot_air_film]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import ConcatDataset

from smp_feedback.checks import check_fields, check_number
from smp_feedback.config.restoration import Restoration
from smp_feedback.data import Corrupted, Triplets
from smp_feedback.data.turbulence import of_wind
from smp_feedback.data.turbulence.simulator import in_words
from smp_feedback.errors import InvalidValue
from smp_feedback.evaluation.films import Averaged, AveragedFrames, evaluate_films, tune_rate
from smp_feedback.evaluation.statistics import Paired, significance
from smp_feedback.experiments.cost import hardware
from smp_feedback.experiments.films.frames import LONG, VAL_SEED, filmed, opened_films
from smp_feedback.experiments.films.settings import FilmSettings
from smp_feedback.experiments.runs import TEST_SEED, built
from smp_feedback.registry.public import catalogue
from smp_feedback.saving.files import replace_file
from smp_feedback.training import FeedbackModule, PairsModule, RestorationModule, TripletsModule, fit
from smp_feedback.training.facts import facts_of

CROSS_ENTROPY = {"loss": "iterative_focal", "gammas": [0.0]}  # of focus 0: of every model
CLEAN = "clean"
FRAME_RATES = (0.1, 0.25, 0.5, 1.0)  # to try for averaged frames, each a pass over the films
MEASURES = ("mIoU", "flicker")


class Row(NamedTuple):
    """A model: what it learns from, and its loop as fields of Restoration; None is M alone."""

    said: str
    air: bool = True
    loop: dict[str, Any] | None = None


ROWS = {
    "clean": Row("M, trained on clean frames", air=False),
    "distorted": Row("M, trained through the air"),
    "restoration": Row("+ restoration", loop={"weight": 0.0, "steps": 1}),
    "feedback": Row("+ feedback of 1e-3, as published", loop={"weight": 1e-3}),
    "learnt": Row("+ feedback of a learnt weight", loop={"weight": "learnt"}),
    "carried": Row("one look a frame: feedback carried", loop={"weight": "learnt", "carry": "feedback"}),
    "mean": Row("one look a frame: and a mean", loop={"weight": "learnt", "carry": "mean"}),
}
READ = {"averaged": "M through the air, answers averaged", "frames": "M through the air, of averaged frames"}
NAMES = {**{name: row.said for name, row in ROWS.items()}, **READ}
DIFFERENCES = (
    *(("mean", other) for other in ("distorted", "averaged", "frames", "feedback", "carried")),
    *(("carried", other) for other in ("distorted", "feedback", "learnt")),
    *(("learnt", "feedback"), ("feedback", "restoration"), ("restoration", "distorted"), ("distorted", "clean")),
)


@dataclass(frozen=True, kw_only=True)
class HotAir:
    """The study.

    Args:
        films: Data, base and training, as ``compare --task film`` has them: *batch_size* clips of *clip* frames a
            batch; a model that sees images has as many of them as pass through M as often.
        airs: By name: a severity of ``shimmer``, or the parameters of ``Turbulence``, in a wind of *wind* m/s. A clip
            is trained on through one of them, drawn anew; films are scored through each.
        wind: See *airs*.
        restoration: R, and T of the loop that looks again at one image.
        lr_restorer: Learning rate of R's Adam; M's is that of *films*.
    """

    films: FilmSettings
    airs: dict[str, Any] = field(default_factory=lambda: {"harsh": 4, "severe": 5})
    wind: float = 2.0
    restoration: dict[str, Any] = field(default_factory=dict)
    lr_restorer: float = 1e-3

    def __post_init__(self) -> None:
        check_number("wind", self.wind, least=0, unit=" m/s")
        check_number("lr_restorer", self.lr_restorer, above=0)
        if not isinstance(self.airs, Mapping) or not self.airs or CLEAN in self.airs:
            raise InvalidValue(f"airs={self.airs!r}: expected air by name, such as {{harsh: 4}}; {CLEAN!r} is none.")
        for name in self.airs:
            self.seen(name)
        for row in ROWS:
            self.loop(row)

    def loop(self, row: str) -> Restoration | None:
        """The loop of a row."""
        own = ROWS[row].loop
        return None if own is None else Restoration(**{**self.restoration, **own})

    def seen(self, air: str) -> Any:
        """That air as a corruption of films, whatever the severity."""
        told = self.airs[air]
        if isinstance(told, Mapping):
            return of_wind(told, self.wind)
        shimmer = catalogue().corruptions["shimmer"]
        Corrupted([], "shimmer", told)  # type: ignore[arg-type]  # checks the severity
        return functools.partial(_shimmer, shimmer, told)

    def through(self, frames: Any, air: str, seed: int) -> Any:
        """*frames* as they are scored through *air*."""
        return frames if air == CLEAN else Corrupted(frames, self.seen(air), 1, seed=seed)


def _shimmer(shimmer: Any, strength: int, image: Any, severity: int, generator: Any, *, time: int = 0) -> Any:
    return shimmer(image, strength, generator, time=time)


class Mixed:
    """One of several airs, drawn from the generator: of a clip, whose frames share it, the same for all."""

    def __init__(self, ways: Sequence[Any]) -> None:
        self.ways = ways

    def __call__(self, image: Any, severity: int, generator: torch.Generator, *, time: int = 0) -> Any:
        """See the image through it."""
        return self.ways[int(torch.randint(len(self.ways), (), generator=generator))](
            image, severity, generator, time=time
        )


def opened(config: Mapping[str, Any], **told: Any) -> HotAir:
    """The study of a file's *config*, in which *told* replaces settings of the films."""
    check_fields(HotAir, config)
    check_fields(FilmSettings, config.get("films", {}))
    films = FilmSettings(**{"models": ["plain"], **config.get("films", {}), **told})
    return HotAir(**{**config, "films": films})


def trained(study: HotAir, row: str, seed: int) -> tuple[Any, Any]:
    """The model of *row*, and what is known of its data."""
    films = study.films
    frames: Any = opened_films(films, "train", seed)
    if films.camera is not None:
        frames = ConcatDataset([filmed(films, "train", seed, films.clip), frames])
    about = facts_of(opened_films(films, films.split))
    loop = study.loop(row)
    torch.manual_seed(seed)
    model: Any = built(films, len(about.classes), loop, about.image[0])
    told: dict[str, Any] = {"classes": len(about.classes), "ignore_index": about.ignore_index}
    looks = films.batch_size * films.clip
    air = Mixed([study.seen(name) for name in study.airs])
    data: Any
    module: Any
    if loop is None:
        pairs = Corrupted(frames, air, 1, fresh=True) if ROWS[row].air else frames
        data = PairsModule(pairs, batch_size=looks)
        learns = {"loss": CROSS_ENTROPY["loss"], "loss_arguments": {"gammas": CROSS_ENTROPY["gammas"]}}
        constant: Any = {"optimizer": _adam(films.lr), "schedule": lambda one: LambdaLR(one, lambda _: 1.0)}
        module = FeedbackModule(model, **learns, **constant, **told)
    else:
        triplets = Triplets(frames, air, 1, fresh=True)
        passes = loop.steps + 1 if loop.weight else 1
        clips = {} if loop.carry is None else {"clip": films.clip}
        data = TripletsModule(triplets, batch_size=films.batch_size if clips else max(1, looks // passes), **clips)
        rates: Any = {"lr": films.lr, "lr_restorer": study.lr_restorer, "halve_every": 10**6, "decay": 1.0}
        module = RestorationModule(model, **CROSS_ENTROPY, class_weights=None, weight_decay=0.0, **rates, **told)
    fit(module, data, steps=films.train_steps, seed=seed, progress=False, accelerator="cpu")
    return model.eval(), about


def _adam(lr: float) -> Any:
    return lambda groups: Adam([one for group in groups for one in group["params"]], lr=lr)


def run(study: HotAir, row: str, seed: int) -> dict[str, Any]:
    """Train the model of *row*, and score every way in which it is read."""
    begun = time.process_time()
    model, about = trained(study, row, seed)
    seconds = time.process_time() - begun
    films = study.films
    test = opened_films(films, films.split)
    task = {"classes": len(about.classes), "ignore_index": about.ignore_index}
    scores: dict[str, dict[str, Any]] = {}
    for air in (*study.airs, *([CLEAN] if row == "clean" else [])):
        readings: dict[str, Any] = {row: model}
        if row == "distorted":
            readings |= rivals(study, model, air, task)
        for name, reads in readings.items():
            found = evaluate_films(reads, study.through(test, air, TEST_SEED), **task)
            rate = getattr(reads, "rate", None)
            scores.setdefault(name, {})[air] = {"mIoU": found.miou, "flicker": found.flicker, "rate": rate}
    weight = getattr(getattr(model, "restorer", None), "weight", None)
    learnt = weight.item() if isinstance(weight, torch.Tensor) else weight
    whole = time.process_time() - begun
    return {"row": row, "seed": seed, "scores": scores, "weight": learnt, "seconds": seconds, "whole": whole}


def rivals(study: HotAir, model: Any, air: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Answers averaged, and frames averaged, at the rates that are best on validation films through *air*."""
    films = study.films
    val = opened_films(films, films.tuned) if films.camera is None else filmed(films, films.tuned, VAL_SEED, LONG)
    seen = study.through(val, air, VAL_SEED)
    answers = next(iter(tune_rate(model, seen, **task)))
    frames = max(FRAME_RATES, key=lambda rate: (evaluate_films(AveragedFrames(model, rate), seen, **task).miou, rate))
    return {"averaged": Averaged(model, answers), "frames": AveragedFrames(model, frames)}


def gathered(study: HotAir, folder: Path, rows: Sequence[str], seeds: Sequence[int], say: Any = print) -> list[Any]:
    """Every run, those that *folder* has already as they are; seed by seed, so that there is soon something to read."""
    settings = json.loads(json.dumps(asdict(study)))
    for own in ("root", "seeds"):
        settings["films"].pop(own)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "settings.json"
    if kept.is_file() and json.loads(kept.read_text()) != settings:
        raise InvalidValue(f"{folder} has runs of other settings; give another --out.")
    _keep(kept, settings)
    found = []
    for seed, row in itertools.product(seeds, rows):
        path = folder / f"{row}-s{seed}.json"
        if not path.is_file():
            _keep(path, run(study, row, seed))
            say(f"wrote {path}")
        found.append(json.loads(path.read_text()))
    return found


def _keep(path: Path, value: Any) -> None:
    replace_file(path, lambda draft: draft.write_text(json.dumps(value, indent=1)))


def by_seed(found: Sequence[Any], name: str, air: str, measure: str = "mIoU") -> dict[int, float]:
    """What *name* scored through *air*, in per cent, by seed."""
    there = [one for one in found if air in one["scores"].get(name, {})]
    return {one["seed"]: 100 * one["scores"][name][air][measure] for one in there}


def report(study: HotAir, found: Sequence[Any]) -> str:
    """Markdown: every model under each air, and the differences with their intervals."""
    seeds = len({one["seed"] for one in found})
    heads = [f"{air}: {measure}" for air in study.airs for measure in MEASURES]
    lines = [f"| per cent, mean ± sd of {seeds} seeds | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name, said in NAMES.items():
        values = [by_seed(found, name, air, measure) for air in study.airs for measure in MEASURES]
        if any(values):
            lines.append(f"| {said} | {' | '.join(_spread([*value.values()]) for value in values)} |")
    clean = [*by_seed(found, "clean", CLEAN).values()]
    lines += ["", f"M, trained on clean frames, on clean films: {_spread(clean)}.", ""]
    lines += ["| difference in mIoU, points | air | mean | 95 % interval | |", "|---|---|---|---|---|"]
    for (one, other), air in itertools.product(DIFFERENCES, study.airs):
        first, second = by_seed(found, one, air), by_seed(found, other, air)
        paired = Paired(tuple(first[seed] - second[seed] for seed in first if seed in second))
        if paired.values:
            low, high = paired.interval
            inside = "-" if math.isnan(low) else f"{low:+.1f} to {high:+.1f}"
            lines.append(f"| {one} - {other} | {air} | {paired.mean:+.1f} | {inside} | {paired.verdict} |")
    weights = sorted({f"{one['row']}, seed {one['seed']}: {one['weight']:.2g}" for one in found if one["weight"]})
    airs = "; ".join(f"{name}: {_air(air, study.wind)}" for name, air in study.airs.items())
    cost = {row: [one["whole"] for one in found if one["row"] == row] for row in ROWS}
    spent = ", ".join(f"{row} {statistics.mean(each):.0f}" for row, each in cost.items() if each)
    lines += ["", significance(seeds), "", f"Air: {airs}.", f"Weight of the feedback: {'; '.join(weights) or '-'}."]
    return "\n".join([*lines, f"CPU seconds a run: {spent} ({hardware()})."])


def _air(air: Any, wind: float) -> str:
    return f"shimmer:{air}" if not isinstance(air, Mapping) else f"{in_words(air)}, wind {wind:g} m/s"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_air_film", description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="studies/hot_air_film.yaml, or one like it")
    parser.add_argument("--root", help="CamVid's folder; without it, drawn films")
    parser.add_argument("--rows", nargs="+", choices=[*ROWS], default=[*ROWS], help="models to train (default: all)")
    parser.add_argument("--seeds", type=int, help="how many; the file's own unless said")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/hot_air_film"))
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    config = yaml.safe_load(args.config.read_text())
    drawn = config.pop("drawn", {})
    if args.root is None:
        config["films"] = {**config.get("films", {}), **drawn}
    study = opened(config, root=args.root)
    if args.seeds is not None:
        study = replace(study, films=replace(study.films, seeds=args.seeds))
    text = report(study, gathered(study, args.out, args.rows, range(study.films.seeds)))
    print(text)
    replace_file(args.out / "hot_air_film.md", lambda draft: draft.write_text(text + "\n"))
    print(f"wrote {args.out / 'hot_air_film.md'}")


if __name__ == "__main__":
    main()
