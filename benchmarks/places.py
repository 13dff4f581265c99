"""What T looks cost by the place where the feedback enters, over every architecture, beside the goals that we set us.

All that lies before the place runs once per image. Plain forwards, the encoder's share of them and the looks at every
place are taken in turns. An architecture takes minutes and is kept once it is measured: started again with the same
settings, it goes on with those that are missing.

python -m benchmarks.places [--archs Unet ...] [--places input stage:3] [--encoder resnet34] [--steps 5] [--size 256]
"""

from __future__ import annotations

import json
import statistics

import torch
from torch.utils._pytree import tree_leaves

import smp_feedback as smpf
from benchmarks.measure import SMPS, backward_too, bars, begin, interleaved, keep, options, plain_and_image, ratio, show
from smp_feedback.errors import SurgeryError
from smp_feedback.experiments.cost import hardware

PLACES = ("input", "stage:3", "decoder")
PLAIN, ENCODER = "plain forwards", "encoder"


def goal(place, share, steps, *, training):
    """The ratio to stay below; None where none was set. ``decoder``: one encoder of that *share*, T decoders."""
    goals = {"input": 1.08 if training else 1.03, "stage:3": 0.75, "decoder": 1.03 * (share / steps + 1 - share)}
    return goals.get(place)


def opened(plain, places, steps):
    """A loop for each of *places*, and why there is none at the others."""
    models, refused = {}, {}
    for place in places:
        try:
            models[place] = smpf.wrap(plain, smpf.Recurrent(steps=steps, insert=place))
        except SurgeryError as error:
            refused[place] = str(error)
    return models, refused


def compared(models, plain, image, args, *, training):
    """T looks at each place over T plain forwards, all in turns; and the encoder's share of a plain forward."""
    way = backward_too if training else lambda run: run
    mode = torch.enable_grad() if training else torch.inference_mode()
    for model in (plain, *models.values()):
        model.train(training)
    once = way(lambda: plain(image))
    runs = {place: way(lambda model=model: model(image)) for place, model in models.items()}
    runs[PLAIN] = lambda: [once() for _ in range(args.steps)]
    runs[ENCODER] = way(lambda: sum(x.mean() for x in tree_leaves(plain.encoder(image)) if x.numel()))
    with mode:
        seconds = interleaved(runs, max(3, args.repeats // 2) if training else args.repeats)  # a turn takes seconds
    share = args.steps * ratio(seconds[ENCODER], seconds[PLAIN])[0]
    found = {}
    for place in models:
        middle, low, high = ratio(seconds[place], seconds[PLAIN])
        limit = goal(place, share, args.steps, training=training)
        found[place] = {"ratio": middle, "low": low, "high": high, "goal": limit, "encoder": share}
        found[place]["plain_ms"] = 1000 * statistics.median(seconds[PLAIN]) / args.steps
    return found


def measure(arch, args):
    """By place: inference and training, or why the base cannot be entered there."""
    plain, image = plain_and_image(arch, args)
    models, refused = opened(plain, args.places, args.steps)
    ways = {"inference": False, "training": True}
    found = {way: compared(models, plain, image, args, training=training) for way, training in ways.items()}
    return {
        place: {"refused": refused[place]} if place in refused else {way: found[way][place] for way in ways}
        for place in args.places
    }


def cell(found):
    """The ratio and its quartiles; the goal, and whether it is held: neither, where the quartiles lie on both sides."""
    said = f"{found['ratio']:.2f} ({found['low']:.2f} - {found['high']:.2f})"
    if found["goal"] is None:
        return [said, ""]
    verdict = "held" if found["high"] <= found["goal"] else "MISSED" if found["low"] > found["goal"] else "not shown"
    return [said, f"{found['goal']:.2f} {verdict}"]


def row(arch, place, found):
    """A line of the table."""
    if "refused" in found:
        return [arch, place, "not there", "", "", ""]
    return [arch, place, *cell(found["inference"]), *cell(found["training"])]


def measured_before(title, args):
    """What an earlier run wrote of the same settings on the same hardware, by architecture."""
    if not args.out.is_file():
        return {}
    was = json.loads(args.out.read_text())
    if (was["title"], was["hardware"]) != (title, hardware()):
        return {}
    return {arch: found for arch, found in was["results"].items() if list(found) == args.places}


def main():
    """Every architecture at every place, unless some are named."""
    args = begin(options(__doc__, "places", archs=SMPS, places=[*PLACES]))
    title = f"T = {args.steps} looks / {args.steps} plain forwards ({args.encoder}, {args.size} px, batch {args.batch})"
    kept = measured_before(title, args)
    for arch in args.archs:
        if arch not in kept:
            kept[arch] = measure(arch, args)
            keep(title, kept, args.out)
    results = {arch: kept[arch] for arch in args.archs}
    rows = [row(arch, place, found) for arch, places in results.items() for place, found in places.items()]
    show(title, ["base", "insert", "inference", "goal", "training", "goal"], rows, kept, args.out)
    drawn = {
        place if len(args.archs) == 1 else f"{arch}, {place}": found["inference"]
        for arch, places in results.items()
        for place, found in places.items()
        if "inference" in found
    }
    bars(title, drawn, args.out, "time, in plain forwards")


if __name__ == "__main__":
    main()
