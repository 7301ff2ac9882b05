"""How far a figure measured on few images can be from the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

CONFIDENCE = 0.95  # of every interval that is printed


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
