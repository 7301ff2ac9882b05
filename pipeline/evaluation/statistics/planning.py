"""Power of tests, and the number of seeds that a question needs.

The standard deviation is that of one pair's difference (or one seed's slope). Estimated from a few seeds, it and the effect
are uncertain, and so is the number: it assumes that the truth equals the estimate (Hoenig & Heisey 2001).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from pipeline.evaluation.statistics.levels import ALPHA
from pipeline.evaluation.statistics.means import quantile

MOST_SEEDS = 1000  # nobody trains more; a smaller effect is as good as none
NODES, WEIGHTS = np.polynomial.legendre.leggauss(100)


def power(effect: float, std: float, n: int, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided paired t test: how often it detects an effect.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2; the noncentral t distribution with ``n - 1`` degrees of freedom and
    noncentrality ``effect / std * sqrt(n)``. Its square, a noncentral F, holds both tails; ``nct`` can return NaN for the lower.

    Raises ValueError if an argument is out of range.

    Parameters
    ----------
    effect : the true difference; its sign does not matter
    std : of the difference of one pair, >= 0; with 0 any effect is always detected
    n : pairs, >= 2
    alpha : level of the test, in (0, 1)

    Returns
    -------
    in [0, 1]; ``alpha`` where the effect is 0
    """
    _check(std, n, alpha)
    if std == 0:
        return float(effect != 0)
    bound = quantile(n, 1 - alpha)
    shift = min(abs(effect) / std * math.sqrt(n), 1e3 * bound)  # beyond, the series fails and the power is 1
    return alpha if shift < 1e-6 else float(stats.ncf.sf(bound**2, 1, n - 1, shift**2))  # scipy returns -0.95 for a shift of 0


def seeds_needed(effect: float, std: float, power: float = 0.8, alpha: float = ALPHA) -> int | None:
    """Return the fewest seeds for which the two-sided paired t test has the wanted power.

    Raises ValueError if an argument is out of range.

    Parameters
    ----------
    power : in (0, 1)
    effect, std, alpha : see :func:`power`

    Returns
    -------
    >= 2; None if the effect is 0, or 1,000 seeds are too few
    """
    _check_share(power)
    return _fewest(lambda n: _power(effect, std, n, alpha) >= power) if effect else None


_power = power  # the argument of the same name hides it


def equivalence_power(effect: float, std: float, n: int, margin: float, alpha: float = ALPHA) -> float:
    """Return the power of the two one-sided tests: how often they show that a difference is less than a margin.

    Source: Phillips 1990 (J. Pharmacokinet. Biopharm. 18, 137). Both tests share one estimate of the standard deviation; for each
    value of it the mean must fall between two bounds, and the chance of that is integrated over the estimate.

    Raises ValueError if an argument is out of range.

    Parameters
    ----------
    effect : the true difference; its sign does not matter
    margin : > 0
    std, n : see :func:`power`; with std 0 equivalence is always shown if true
    alpha : level of either test, in (0, 0.5)

    Returns
    -------
    in [0, 1]; at most ``alpha`` where the effect is as large as the margin
    """
    _check(std, n, alpha, below=0.5)
    if not margin > 0:
        raise ValueError(f"a margin must be > 0, got {margin}")
    if std == 0:
        return float(abs(effect) < margin)
    bound = quantile(n, 1 - 2 * alpha)
    far, near = ((margin + sign * abs(effect)) / std * math.sqrt(n) for sign in (1, -1))
    top = (far + near) / 2 / bound  # above it no mean is between the bounds
    own = stats.chi(n - 1, scale=1 / math.sqrt(n - 1))  # distribution of estimate / true standard deviation
    # up to 1e-15 the mean is between the bounds below low, and never above high
    low, high = max(own.ppf(1e-15), (near - 8) / bound), min(own.isf(1e-15), (near + 8) / bound, top)
    if low >= high:
        return float(own.cdf(high)) if high > 0 else 0.0
    ratio = low + (high - low) * (NODES + 1) / 2
    inside = stats.norm.cdf(near - bound * ratio) - stats.norm.cdf(bound * ratio - far)
    return float(own.cdf(low) + (high - low) / 2 * WEIGHTS @ (inside * own.pdf(ratio)))


def seeds_for_equivalence(effect: float, std: float, margin: float, power: float = 0.8, alpha: float = ALPHA) -> int | None:
    """Return the fewest seeds for which the two one-sided tests of equivalence have the wanted power.

    Raises ValueError if an argument is out of range.

    Returns
    -------
    >= 2; None if the effect is not less than the margin, or 1,000 seeds are too few
    """
    _check_share(power)
    return _fewest(lambda n: equivalence_power(effect, std, n, margin, alpha) >= power)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest sufficient n in [2, MOST_SEEDS] by bisection; None if MOST_SEEDS is not enough."""
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
