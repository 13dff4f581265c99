"""Comparison: does feedback help on my images? A feedback model and its twins, measured and reported.

``schema`` reads ``results.json``, ``results`` is asked what was measured, ``statistics`` what a few seeds can say about
it; ``conclusion`` is the answer in words, ``tables`` and ``figures`` are the numbers, ``report`` the pages. A report is
written from ``results.json`` alone, and needs no torch.

``ablation`` asks what each part of the restoration loop brings: its rows are in ``ablation_rows``.
"""
