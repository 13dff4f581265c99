"""Evaluation: how good a model is, look by look, corruption by corruption, and whether it comes to rest."""

from smp_feedback.evaluation.evaluate import evaluate, evaluate_all, miou
from smp_feedback.evaluation.results import load_result, save_result
from smp_feedback.evaluation.score_loop import Refined, evaluate_score
from smp_feedback.evaluation.scores import Score, Scores
from smp_feedback.evaluation.stability import stability
from smp_feedback.evaluation.sweeps import calibration, few_shot, first_images, robustness
from smp_feedback.evaluation.tuning import Tuning, tune

__all__ = [
    "Refined",
    "Score",
    "Scores",
    "Tuning",
    "calibration",
    "evaluate",
    "evaluate_all",
    "evaluate_score",
    "few_shot",
    "first_images",
    "load_result",
    "miou",
    "robustness",
    "save_result",
    "stability",
    "tune",
]
