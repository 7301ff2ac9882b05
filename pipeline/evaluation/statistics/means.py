"""Means of few values, e.g. over seeds: confidence and prediction intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from pipeline.evaluation.statistics.levels import CONFIDENCE

ROUNDING = 1e-12  # relative; differences this small are the arithmetic's, not the data's


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % Student t interval.

    n : >= 2
    low <= value <= high
    std : of one value (n - 1 in the denominator), >= 0
    """

    value: float
    low: float
    high: float
    n: int
    std: float


def mean_interval(values: Sequence[float], resolution: float = 0.0) -> Mean:
    """Return the mean of independent values, e.g. over seeds, with its confidence interval.

    Source: Student 1908 (Biometrika 6, 1). The bounds are not cut off at 0 or 1.

    Raises ValueError for fewer than 2 values, or one that is not finite.

    values : at least 2, finite
    resolution : step of the values, e.g. 1 / images for an accuracy; 0: none. Rounding to it leaves a variance of
        ``resolution**2 / 12`` (Sheppard 1898), so values that all agree do not count as known exactly
    """
    numbers = finite(values)
    value, std = centre(numbers), spread(numbers)
    width = quantile(len(numbers)) * max(std, resolution / math.sqrt(12)) / math.sqrt(len(numbers))
    return Mean(value, value - width, value + width, len(numbers), std)


def prediction_interval(values: Sequence[float], resolution: float = 0.0) -> tuple[float, float]:
    """Return the interval that holds the next value in 95 % of cases, if all are drawn from one normal distribution.

    Source: Hahn & Meeker 1991, Statistical Intervals, section 4.7. Arguments and errors as of :func:`mean_interval`.
    """
    numbers = finite(values)
    std = max(spread(numbers), resolution / math.sqrt(12))
    width = quantile(len(numbers)) * std * math.sqrt(1 + 1 / len(numbers))
    value = centre(numbers)
    return value - width, value + width


@cache
def quantile(n: int, confidence: float = CONFIDENCE) -> float:
    """Return the half-width of a mean's t interval in standard errors, for n >= 2 values."""
    return float(stats.t.ppf((1 + confidence) / 2, n - 1))


def centre(values: np.ndarray) -> float:
    """Return the mean of values of shape (n,); exact for equal values."""
    return float(values[0]) if np.ptp(values) == 0 else float(values.mean())  # the mean of equal values rounds


def spread(values: np.ndarray, scale: float | None = None) -> float:
    """Return the standard deviation; 0 if it is only the rounding of numbers as large as ``scale``."""
    std = float(values.std(ddof=1)) if np.ptp(values) else 0.0
    return std if std > ROUNDING * (float(np.abs(values).max()) if scale is None else scale) else 0.0


def finite(values: Sequence[float]) -> np.ndarray:
    """Return the values as float64 (n,). Raises ValueError for fewer than 2, or one that is not finite."""
    numbers = np.asarray(values, float)
    if len(numbers) < 2 or not np.isfinite(numbers).all():
        raise ValueError(f"an interval needs at least 2 values, all finite, got {list(values)}")
    return numbers
