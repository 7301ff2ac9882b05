"""How far a figure measured on few images, or over few seeds, can be from the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95  # of every interval that is printed
ROUNDING = 1e-12  # relative; differences this small are the arithmetic's, not the data's
MOST_EXACT = 16  # pairs whose sign patterns are all counted: 65,536


@dataclass(frozen=True)
class Proportion:
    """A share of ``n`` images with its 95 % Wilson score interval.

    Source: E. B. Wilson 1927; recommended over the textbook interval by Newcombe 1998 (Stat. Med. 17, 857, method 3).

    successes : in [0, n]
    n : >= 1
    value, low, high : in [0, 1], low <= value <= high
    """

    successes: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, n: int) -> Proportion:
        """Raises ValueError where there is nothing to take a share of, or the share is impossible."""
        if not 0 <= successes <= n or n < 1:
            raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
        interval = stats.binomtest(int(successes), int(n)).proportion_ci(CONFIDENCE, method="wilson")
        # rounding may put a bound 1e-17 on the wrong side of 0/n or n/n
        value = successes / n
        return cls(int(successes), int(n), value, min(float(interval.low), value), max(float(interval.high), value))

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%}, {self.successes} of {self.n})"


@dataclass(frozen=True)
class Difference:
    """What lies between two proportions of independent images.

    value : first minus second, in [-1, 1]
    low, high : 95 % hybrid score interval, Newcombe 1998 (Stat. Med. 17, 873, method 10)
    p_value : Fisher's exact test, two-sided: how often chance alone separates equal proportions at least so far
    """

    value: float
    low: float
    high: float
    p_value: float


def difference(first: Proportion, second: Proportion) -> Difference:
    """Compare two proportions that share no image."""
    value = first.value - second.value
    table = [[part.successes, part.n - part.successes] for part in (first, second)]
    return Difference(
        value=value,
        low=value - math.hypot(first.value - first.low, second.high - second.value),
        high=value + math.hypot(first.high - first.value, second.value - second.low),
        p_value=float(stats.fisher_exact(table).pvalue),
    )


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
    """The mean of independent values, over seeds say, and where it would be with endlessly many.

    Source: Student 1908 (Biometrika 6, 1). The bounds are not cut off at 0 or 1.

    Parameters
    ----------
    values : at least 2, finite
    resolution : step of the values, e.g. 1 / images for an accuracy; 0: none. Rounding to it leaves a variance of
        ``resolution**2 / 12`` (Sheppard 1898), so values that all agree do not count as known exactly

    Raises
    ------
    ValueError
        Fewer than 2 values, or one that is not finite.
    """
    numbers = _finite(values)
    value, std = _centre(numbers), _spread(numbers)
    width = _t(len(numbers)) * max(std, resolution / math.sqrt(12)) / math.sqrt(len(numbers))
    return Mean(value, value - width, value + width, len(numbers), std)


def prediction_interval(values: Sequence[float], resolution: float = 0.0) -> tuple[float, float]:
    """Where one further value lies in 95 % of cases, if it is drawn like these from a normal distribution.

    Source: Hahn & Meeker 1991, Statistical Intervals, section 4.7. Arguments and errors as of :func:`mean_interval`.
    """
    numbers = _finite(values)
    std = max(_spread(numbers), resolution / math.sqrt(12))
    width = _t(len(numbers)) * std * math.sqrt(1 + 1 / len(numbers))
    value = _centre(numbers)
    return value - width, value + width


@dataclass(frozen=True)
class PairedDifference:
    """What lies between two settings that were measured in pairs, on the same seeds say.

    value : mean of first minus second
    low, high : 95 % t interval of it, low <= value <= high
    p_value : of the paired t test, two-sided, in [0, 1]; below 0.05 exactly where the interval leaves out 0
    n : pairs, >= 2
    """

    value: float
    low: float
    high: float
    p_value: float
    n: int


def paired_difference(first: Sequence[float], second: Sequence[float], resolution: float = 0.0) -> PairedDifference:
    """Compare two settings pair by pair.

    Source: Student 1908 (Biometrika 6, 1). Where all differences are the same, the interval has no width and the p-value is
    0, or 1 if they are 0 (the limits of t), unless ``resolution`` says how exactly they can be known at all.

    Parameters
    ----------
    first, second : at least 2 values each, of the same length, finite
    resolution : step of the values; differences of two rounded values have a variance of at least ``resolution**2 / 6``

    Raises
    ------
    ValueError
        Fewer than 2 pairs, lengths that differ, or a value that is not finite.
    """
    differences = _differences(first, second)
    n, value = len(differences), _centre(differences)
    error = max(_spread(differences, scale=_scale(first, second)), resolution / math.sqrt(6)) / math.sqrt(n)
    if abs(value) <= ROUNDING * _scale(first, second):
        value, p_value = 0.0, 1.0
    elif error == 0:
        p_value = 0.0
    else:
        p_value = float(2 * stats.t.sf(abs(value) / error, n - 1))
    return PairedDifference(value, value - _t(n) * error, value + _t(n) * error, p_value, n)


def permutation_test(first: Sequence[float], second: Sequence[float], seed: int = 0) -> float:
    """Two-sided p-value of paired values under random exchange within pairs: no distribution is assumed.

    Exact, over all ``2**n`` sign patterns, up to 16 pairs; above that over 65,535 drawn ones and the observed one.
    Source: Fisher 1935, The Design of Experiments, section 21; Phipson & Smyth 2010 for counting the observed pattern.

    Raises
    ------
    ValueError
        As :func:`paired_difference`.
    """
    differences = _differences(first, second)
    n = len(differences)
    if n <= MOST_EXACT:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
    else:
        patterns = np.random.default_rng(seed).integers(0, 2, (2**MOST_EXACT, n))
        patterns[0] = 0  # the observed one
    sums = np.abs((1 - 2 * patterns) @ differences)
    as_far = sums >= abs(differences.sum()) - ROUNDING * n * _scale(first, second)  # sums that are equal but for rounding count
    return float(as_far.mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being several, in the order given: those below 0.05 are all true in 95 % of such families.

    Source: Holm 1979 (Scand. J. Statist. 6, 65). No independence is assumed.

    Raises
    ------
    ValueError
        One that is not in [0, 1].
    """
    if not all(0 <= p_value <= 1 for p_value in p_values):
        raise ValueError(f"p-values must be in [0, 1], got {list(p_values)}")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = float(largest)
    return corrected


def _t(n: int) -> float:
    """How many standard errors a 95 % interval reaches to either side of the mean of n values."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))


def _centre(values: np.ndarray) -> float:
    return float(values[0]) if np.ptp(values) == 0 else float(values.mean())  # the mean of equal values rounds


def _spread(values: np.ndarray, scale: float | None = None) -> float:
    """The standard deviation; 0 where all that is left is the rounding of numbers as large as ``scale``."""
    std = float(values.std(ddof=1)) if np.ptp(values) else 0.0
    return std if std > ROUNDING * (float(np.abs(values).max()) if scale is None else scale) else 0.0


def _scale(first: Sequence[float], second: Sequence[float]) -> float:
    return float(np.abs([*first, *second]).max())


def _differences(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    if len(first) != len(second):
        raise ValueError(f"pairs need as many values on either side, got {len(first)} and {len(second)}")
    return _finite(first) - _finite(second)


def _finite(values: Sequence[float]) -> np.ndarray:
    """float64 array of shape (n,)."""
    numbers = np.asarray(values, float)
    if len(numbers) < 2 or not np.isfinite(numbers).all():
        raise ValueError(f"an interval needs at least 2 values, all finite, got {list(values)}")
    return numbers
