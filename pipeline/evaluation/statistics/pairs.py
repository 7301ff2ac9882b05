"""Tests of settings measured on the same seeds: paired difference, equivalence, trend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.evaluation.statistics.levels import ALPHA
from pipeline.evaluation.statistics.means import ROUNDING, centre, finite, quantile, spread


@dataclass(frozen=True)
class TTest:
    """A two-sided t test of a mean against 0.

    low, high : 95 % t interval of the mean, low <= value <= high
    p_value : in [0, 1]; below 0.05 exactly where the interval leaves out 0
    n : seeds or pairs, >= 2
    std : of one of the averaged values, at least what their rounding leaves, >= 0
    """

    value: float
    low: float
    high: float
    p_value: float
    n: int
    std: float


class PairedDifference(TTest):
    """The difference of two settings measured in pairs, e.g. on the same seeds: the mean of first minus second."""


class Trend(TTest):
    """The trend over the ordered levels of a setting, each seed measured at all levels.

    value : mean over the seeds of the least-squares slope, per unit of the positions (per level if those are ranks)
    """


def paired_difference(first: Sequence[float], second: Sequence[float], resolution: float = 0.0) -> PairedDifference:
    """Compare two settings pair by pair.

    Source: Student 1908 (Biometrika 6, 1). Where all differences are the same, the interval has no width and the p-value is
    0, or 1 if they are 0 (the limits of t), unless ``resolution`` says how exactly they can be known at all.

    Raises ValueError for fewer than 2 pairs, lengths that differ, or a value that is not finite.

    first, second : at least 2 values each, of the same length, finite
    resolution : step of the values; differences of two rounded values have a variance of at least ``resolution**2 / 6``
    """
    return PairedDifference(*_student(_differences(first, second), _scale(first, second), resolution / math.sqrt(6)))


@dataclass(frozen=True)
class Equivalence:
    """The equivalence test of two settings measured in pairs, within a margin.

    value : mean of first minus second
    low, high : 90 % t interval of it, low <= value <= high
    p_value : of the two one-sided tests, in [0, 1]: small where the difference is shown to be less than the margin, either
        way; below 0.05 exactly where the 90 % interval lies inside the margin
    p_beyond : two-sided, in [0, 1]: small where the difference is shown to be more than the margin; below 0.05 exactly where
        the 95 % interval lies wholly outside
    n : pairs, >= 2
    margin : > 0
    """

    value: float
    low: float
    high: float
    p_value: float
    p_beyond: float
    n: int
    margin: float


def equivalence(first: Sequence[float], second: Sequence[float], margin: float, resolution: float = 0.0) -> Equivalence:
    """Show that two settings differ by less than a margin; that no difference was found does not show it.

    Source: Schuirmann 1987 (J. Pharmacokinet. Biopharm. 15, 657), two one-sided t tests of 5 % each.

    Raises ValueError for a margin not above 0, and as :func:`paired_difference`.

    margin : of the difference, > 0, in the unit of the values
    first, second, resolution : as of :func:`paired_difference`
    """
    if not margin > 0:
        raise ValueError(f"a margin must be > 0, got {margin}")
    part = paired_difference(first, second, resolution)
    error = part.std / math.sqrt(part.n)
    room = margin - abs(part.value)
    if abs(room) <= ROUNDING * max(_scale(first, second), margin):
        p_value, p_beyond = (0.5 if error else 1.0), 1.0
    elif error == 0:
        p_value, p_beyond = (0.0, 1.0) if room > 0 else (1.0, 0.0)
    else:
        p_value = float(stats.t.sf(room / error, part.n - 1))
        p_beyond = min(1.0, 2 * float(stats.t.cdf(room / error, part.n - 1)))
    width = quantile(part.n, 1 - 2 * ALPHA) * error
    return Equivalence(part.value, part.value - width, part.value + width, p_value, p_beyond, part.n, margin)


def trend(rows: Sequence[Sequence[float]], resolution: float = 0.0) -> Trend:
    """Test whether values rise or fall over ordered levels: one slope per seed, then a t test of the slopes.

    Each seed is its own control, as in a paired test; the variance may differ between levels. For a curved relation
    it tests the linear part. Source: Lorch & Myers 1990 (J. Exp. Psychol.: Learn. Mem. Cogn. 16, 149, individual
    regressions); Matthews, Altman, Campbell & Royston 1990 (BMJ 300, 230, slopes as summary measures).

    Raises ValueError for fewer than 2 seeds or levels, rows of different lengths, or a value that is not finite.

    rows : values of shape (seeds, levels), at least 2 of either, finite; the levels in their order
    resolution : step of the values; it leaves each slope a variance of at least ``resolution**2 / 12`` by the sum of the squared
        distances of the ranks 0, 1, … from their mean
    """
    lengths = {len(row) for row in rows}
    if len(rows) < 2 or len(lengths) != 1 or max(lengths) < 2:
        raise ValueError(f"a trend needs at least 2 seeds, each with a value at the same 2 or more levels, got {list(rows)}")
    values = np.stack([finite(row) for row in rows])  # (seeds, levels)
    offsets = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    contrast = offsets / (offsets @ offsets)
    scale = float(np.abs(values).max() * np.abs(contrast).sum())
    return Trend(*_student(values @ contrast, scale, resolution / math.sqrt(12 * (offsets @ offsets))))


def _student(values: np.ndarray, scale: float, floor: float) -> tuple[float, float, float, float, int, float]:
    """Return the t test of values of shape (n,) against 0: mean, 95 % interval, p-value, n, standard deviation.

    scale : of the numbers that the values were computed from; smaller values than their rounding count as 0
    floor : of the standard deviation
    """
    n, value = len(values), centre(values)
    std = max(spread(values, scale=scale), floor)
    error = std / math.sqrt(n)
    if abs(value) <= ROUNDING * scale:
        value, p_value = 0.0, 1.0
    elif error == 0:
        p_value = 0.0
    else:
        p_value = float(2 * stats.t.sf(abs(value) / error, n - 1))
    return value, value - quantile(n) * error, value + quantile(n) * error, p_value, n, std


def _scale(first: Sequence[float], second: Sequence[float]) -> float:
    return float(np.abs([*first, *second]).max())


def _differences(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    if len(first) != len(second):
        raise ValueError(f"pairs need as many values on either side, got {len(first)} and {len(second)}")
    return finite(first) - finite(second)
