"""Experiments: many models trained alike, measured and reported; ``engine`` makes whatever declares itself as one.

``comparison`` asks whether feedback helps on my images, ``ablation`` what each part of the restoration loop brings. In
both, ``runs`` are made, ``results`` are asked what was measured, and ``tables`` and ``figures`` are the numbers. A
report is written from the results alone, and needs no torch.
"""
