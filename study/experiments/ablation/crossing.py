"""Two factors fully crossed: what each cell comes to, and whether the effect of one depends on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.evaluation.statistics import paired_difference
from study.experiments.ablation.definition import Factor

RELATIVE = 1e-12  # of the squared values; sums of squares below it are rounding


@dataclass(frozen=True)
class Interaction:
    """Whether the effects of two factors add up.

    value, low, high : of two levels each the difference of differences with its 95 % t interval, in accuracy; else None
    largest : how far a cell lies from what the two factors give if they only add up, at most, in accuracy
    statistic : t, or F; degrees : of freedom of t (1 number) or F (2 numbers)
    p_value : in [0, 1]
    n : seeds on which every cell is known, >= 2
    """

    value: float | None
    low: float | None
    high: float | None
    largest: float
    statistic: float
    degrees: tuple[int, ...]
    p_value: float
    n: int


@dataclass(frozen=True)
class Crossing:
    """The grid of two factors.

    means : over the seeds that a cell has, shape (first levels, second levels); NaN where it has none
    counts : seeds of each cell, of the same shape
    residuals : mean over the common seeds minus what adding up gives, of the same shape; None where there is no common seed
    interaction : None where fewer than two seeds have every cell
    """

    first: Factor
    second: Factor
    means: np.ndarray
    counts: np.ndarray
    residuals: np.ndarray | None
    interaction: Interaction | None


def crossing(first: Factor, second: Factor, values: Sequence[Sequence[Sequence[float | None]]], resolution: float) -> Crossing:
    """The grid from its accuracies, of shape (first levels, second levels, seeds); None where a training is missing or failed."""
    numbers = np.array(values, dtype=float)  # (a, b, seeds), None as NaN
    known = np.isfinite(numbers)
    counts = known.sum(axis=2)
    means = np.where(counts > 0, np.where(known, numbers, 0.0).sum(axis=2) / np.maximum(counts, 1), np.nan)
    common = numbers[:, :, known.all(axis=(0, 1))]  # (a, b, n)
    residuals = additive_residuals(common.mean(axis=2)) if common.shape[2] else None
    return Crossing(first, second, means, counts, residuals, interaction(common, resolution) if common.shape[2] > 1 else None)


def additive_residuals(means: np.ndarray) -> np.ndarray:
    """What is left of cell means, shape (a, b), after the mean of its row and of its column."""
    return means - means.mean(axis=1, keepdims=True) - means.mean(axis=0, keepdims=True) + means.mean()


def interaction(cells: np.ndarray, resolution: float) -> Interaction:
    """Test whether two factors only add up.

    Of two levels each: the difference of differences, one a seed, and its t interval (Student 1908). Of more: the F test of the
    interaction in a factorial design in randomised blocks, a seed being a block, whose own luck cancels (Fisher 1935, The Design
    of Experiments, chapter 6; Montgomery 2017, Design and Analysis of Experiments, section 5.6). It takes the spread of single
    trainings to be the same in all cells.

    Parameters
    ----------
    cells : accuracies, shape (a, b, seeds), at least 2 of each, finite
    resolution : step of the values; rounding to it leaves each a variance of ``resolution**2 / 12``
    """
    a, b, n = cells.shape
    residuals = additive_residuals(cells.mean(axis=2))
    largest = float(np.abs(residuals).max())
    if a == b == 2:
        # Four rounded values stand in the contrast, twice as many as in a difference of two.
        part = paired_difference(cells[1, 1] - cells[1, 0], cells[0, 1] - cells[0, 0], resolution * np.sqrt(2))
        error = part.std / np.sqrt(n)
        statistic = part.value / error if error else 0.0
        return Interaction(part.value, part.low, part.high, largest, float(statistic), (n - 1,), part.p_value, n)
    degrees = ((a - 1) * (b - 1), (a * b - 1) * (n - 1))
    within = cells - cells.mean(axis=(0, 1)) - cells.mean(axis=2, keepdims=True) + cells.mean()  # blocks and cells taken out
    noise = max(float((within**2).sum()) / degrees[1], resolution**2 / 12)
    square = n * float((residuals**2).sum()) / degrees[0]
    if square <= RELATIVE * float((cells**2).max()):
        return Interaction(None, None, None, largest, 0.0, degrees, 1.0, n)
    statistic = square / noise if noise else float(np.finfo(float).max)
    return Interaction(None, None, None, largest, statistic, degrees, float(stats.f.sf(statistic, *degrees)), n)
