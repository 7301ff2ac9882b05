"""Proportions of images: intervals, and tests of two on different or on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from pipeline.evaluation.statistics.levels import CONFIDENCE


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
        """Return the proportion of ``successes`` in ``n``. Raises ValueError unless 0 <= successes <= n and n >= 1."""
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
    """The difference of two proportions of independent images.

    value : first minus second, in [-1, 1]
    low, high : 95 % hybrid score interval, Newcombe 1998 (Stat. Med. 17, 873, method 10)
    p_value : Fisher's exact test, two-sided
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
class McNemar:
    """The difference of two checkpoints' accuracies on the same images.

    value : first minus second, in [-1, 1]
    low, high : 95 % hybrid score interval for paired proportions, Newcombe 1998 (Stat. Med. 17, 2635, method 10)
    p_value : mid-p McNemar test, two-sided, in (0, 1]; its error rate is close to the nominal 5 %, rarely above
    only_first, only_second : images that only one of them gets right; the test uses nothing else
    n : images, >= 1
    """

    value: float
    low: float
    high: float
    p_value: float
    only_first: int
    only_second: int
    n: int


def mcnemar(both_right: int, only_first: int, only_second: int, both_wrong: int) -> McNemar:
    """Compare two checkpoints on the same images. Raises ValueError for a count below 0, or no image.

    Source: McNemar 1947 (Psychometrika 12, 153); Fagerland, Lydersen & Laake 2013 (BMC Med. Res. Methodol. 13:91, "The McNemar
    mid-p test"): the observed count has half its weight. Test and interval are two approximations; near 0.05 they can disagree.

    both_right, only_first, only_second, both_wrong : images, >= 0 each, >= 1 together
    """
    counts = (both_right, only_first, only_second, both_wrong)
    n = sum(counts)
    if min(counts) < 0 or n < 1:
        raise ValueError(f"a comparison on the same images needs counts >= 0 and an image at least, got {counts}")
    apart = only_first + only_second
    tail = float(stats.binom.cdf(min(only_first, only_second), apart, 0.5))
    observed = float(stats.binom.pmf(only_first, apart, 0.5))
    if apart == 0:
        p_value = 1.0  # no discordant image; the formula would give 0.5
    elif only_first == only_second:
        p_value = 1 - observed / 2
    else:
        p_value = 2 * tail - observed
    value = (only_first - only_second) / n
    return McNemar(value, *_paired_interval(*counts), p_value, only_first, only_second, n)


def _paired_interval(both_right: int, only_first: int, only_second: int, both_wrong: int) -> tuple[float, float]:
    """Return the interval of the difference from the two Wilson intervals and their correlation phi."""
    n = both_right + only_first + only_second + both_wrong
    first, second = Proportion.of(both_right + only_first, n), Proportion.of(both_right + only_second, n)
    association = float(both_right * both_wrong - only_first * only_second)
    if association > 0:  # the continuity correction of method 10
        association = max(association - n / 2, 0)
    margins = math.sqrt(first.successes * (n - first.successes)) * math.sqrt(second.successes * (n - second.successes))
    phi = association / margins if margins else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))

    value = (only_first - only_second) / n
    low = value - reach(first.value - first.low, second.high - second.value)
    return low, value + reach(first.high - first.value, second.value - second.low)
