"""Intervals, tests and sample sizes for metrics measured on few images or over few seeds."""

from pipeline.evaluation.statistics.levels import ALPHA, CONFIDENCE, holm, p_equals, p_text
from pipeline.evaluation.statistics.means import Mean, mean_interval, prediction_interval
from pipeline.evaluation.statistics.pairs import (
    Equivalence,
    PairedDifference,
    Trend,
    equivalence,
    paired_difference,
    trend,
)
from pipeline.evaluation.statistics.planning import MOST_SEEDS, equivalence_power, power, seeds_for_equivalence, seeds_needed
from pipeline.evaluation.statistics.proportions import Difference, McNemar, Proportion, difference, mcnemar

__all__ = [
    "ALPHA",
    "CONFIDENCE",
    "MOST_SEEDS",
    "Difference",
    "Equivalence",
    "McNemar",
    "Mean",
    "PairedDifference",
    "Proportion",
    "Trend",
    "difference",
    "equivalence",
    "equivalence_power",
    "holm",
    "mcnemar",
    "mean_interval",
    "p_equals",
    "p_text",
    "paired_difference",
    "power",
    "prediction_interval",
    "seeds_for_equivalence",
    "seeds_needed",
    "trend",
]
