"""How many seeds a question takes.

The standard deviation is that of the difference of one pair (or of one seed's slope). Taken from a few seeds, it and the effect
are themselves uncertain, and so is the number: it answers for a truth that is just as it was measured (Hoenig & Heisey 2001).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from pipeline.evaluation.statistics.levels import ALPHA
from pipeline.evaluation.statistics.means import quantile

MOST_SEEDS = 1000  # nobody trains more; above it an effect is as good as none
NODES, WEIGHTS = np.polynomial.legendre.leggauss(100)


def power(effect: float, std: float, n: int, alpha: float = ALPHA) -> float:
    """How often the two-sided paired t test finds an effect.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2; the noncentral t distribution with ``n - 1`` degrees of freedom and
    noncentrality ``effect / std * sqrt(n)``. Its square, a noncentral F, holds both tails; of the lower one ``nct`` can make NaN.

    Parameters
    ----------
    effect : the true difference; its sign does not matter
    std : of the difference of one pair, >= 0. 0: an effect is always found, and none never
    n : pairs, >= 2
    alpha : level of the test, in (0, 1)

    Returns
    -------
    in [0, 1]; ``alpha`` where the effect is 0

    Raises
    ------
    ValueError
        Out of these ranges.
    """
    _check(std, n, alpha)
    if std == 0:
        return float(effect != 0)
    bound = quantile(n, 1 - alpha)
    shift = min(abs(effect) / std * math.sqrt(n), 1e3 * bound)  # further away the series fails, and there is no doubt left
    return alpha if shift < 1e-6 else float(stats.ncf.sf(bound**2, 1, n - 1, shift**2))  # of no shift scipy makes -0.95


def seeds_needed(effect: float, std: float, power: float = 0.8, alpha: float = ALPHA) -> int | None:
    """The fewest seeds with which the two-sided paired t test finds an effect as often as asked.

    Parameters
    ----------
    power : in (0, 1)
    effect, std, alpha : as of :func:`power`

    Returns
    -------
    >= 2; None where the effect is 0, or so small that 1,000 seeds are too few

    Raises
    ------
    ValueError
        Out of these ranges.
    """
    _check_share(power)
    return _fewest(lambda n: _power(effect, std, n, alpha) >= power) if effect else None


_power = power  # the argument of the same name hides it


def equivalence_power(effect: float, std: float, n: int, margin: float, alpha: float = ALPHA) -> float:
    """How often the two one-sided tests show a difference to be less than a margin.

    Source: Phillips 1990 (J. Pharmacokinet. Biopharm. 18, 137). Both tests share one estimate of the standard deviation; for each
    value of it the mean must fall between two bounds, and the chance of that is integrated over the estimate.

    Parameters
    ----------
    effect : the true difference; its sign does not matter
    margin : > 0
    std, n : as of :func:`power`; std 0: it is always shown where it is so
    alpha : level of either test, in (0, 0.5)

    Returns
    -------
    in [0, 1]; at most ``alpha`` where the effect is as large as the margin

    Raises
    ------
    ValueError
        Out of these ranges.
    """
    _check(std, n, alpha, below=0.5)
    if not margin > 0:
        raise ValueError(f"a margin must be > 0, got {margin}")
    if std == 0:
        return float(abs(effect) < margin)
    bound = quantile(n, 1 - 2 * alpha)
    far, near = ((margin + sign * abs(effect)) / std * math.sqrt(n) for sign in (1, -1))
    top = (far + near) / 2 / bound  # above it no mean is between the bounds
    own = stats.chi(n - 1, scale=1 / math.sqrt(n - 1))  # of the estimate, over the true standard deviation
    # below low the mean is between the bounds, above high it is not, but for 1e-15
    low, high = max(own.ppf(1e-15), (near - 8) / bound), min(own.isf(1e-15), (near + 8) / bound, top)
    if low >= high:
        return float(own.cdf(high)) if high > 0 else 0.0
    ratio = low + (high - low) * (NODES + 1) / 2
    inside = stats.norm.cdf(near - bound * ratio) - stats.norm.cdf(bound * ratio - far)
    return float(own.cdf(low) + (high - low) / 2 * WEIGHTS @ (inside * own.pdf(ratio)))


def seeds_for_equivalence(effect: float, std: float, margin: float, power: float = 0.8, alpha: float = ALPHA) -> int | None:
    """The fewest seeds with which the two one-sided tests show, as often as asked, that a difference is less than a margin.

    Returns
    -------
    >= 2; None where the effect is not less than the margin, or so near to it that 1,000 seeds are too few

    Raises
    ------
    ValueError
        As :func:`equivalence_power`, or a power that is not in (0, 1).
    """
    _check_share(power)
    return _fewest(lambda n: equivalence_power(effect, std, n, margin, alpha) >= power)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest n in [2, MOST_SEEDS] that is enough, if one that is larger is enough too."""
    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(std: float, n: int, alpha: float, below: float = 1) -> None:
    if not (0 <= std < math.inf and n >= 2 and 0 < alpha < below):
        raise ValueError(f"a power needs std >= 0, n >= 2 and alpha in (0, {below}), got std {std}, n {n}, alpha {alpha}")


def _check_share(power: float) -> None:
    if not 0 < power < 1:
        raise ValueError(f"power must be in (0, 1), got {power}")
