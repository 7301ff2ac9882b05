"""How often the statistics are right, by simulation: ``python -m benchmarks.statistics_simulation``.

Every row is of the functions that the reports call, under a truth that is known. An interval must hold it in 95 % of cases; a
test must not find what is not there in more than 5 %. Accuracies are drawn as small networks have them: 97 %, and from seed to
seed a standard deviation of 0.4 points.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.statistics import (
    Proportion,
    equivalence,
    equivalence_power,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    power,
    prediction_interval,
    seeds_needed,
    trend,
)

REPETITIONS = 10_000
ACCURACY, STD, SEEDS = 0.97, 0.004, 5
Row = tuple[str, str, str, float]  # quantity, truth, expected, found


def main(repetitions: int = REPETITIONS) -> None:
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    rows = [row for part in (coverage, false_positives, families, found_effects) for row in part(rng, repetitions)]
    print(f"# Statistics under a known truth: {repetitions:,} simulations a row, {SEEDS} seeds where no other number is given\n")
    print("| quantity | truth | expected | found | ± |\n|---|---|---:|---:|---:|")
    for quantity, truth, expected, found in rows:
        error = 1.96 * math.sqrt(found * (1 - found) / repetitions)
        print(f"| {quantity} | {truth} | {expected} | {found:.2%} | {error:.2%} |")
    print(f"\n±: 95 % of the simulation's own noise. {time.perf_counter() - start:.0f} s.\n")


def coverage(rng: np.random.Generator, repetitions: int) -> list[Row]:
    """How often the intervals hold the truth."""
    values = rng.normal(ACCURACY, STD, (repetitions, SEEDS + 1))
    means = [mean_interval(row[:SEEDS]) for row in values]
    ranges = [prediction_interval(row[:SEEDS]) for row in values]
    few, many = (known(Proportion.of, rng.binomial(n, 0.99, repetitions), n) for n in (500, 10_000))
    tables = rng.multinomial(10_000, [0.982, 0.006, 0.004, 0.008], repetitions).tolist()
    paired = [mcnemar(*table) for table in tables]
    slopes = [trend(rows) for rows in rng.normal([ACCURACY, ACCURACY - 0.002, ACCURACY - 0.004], STD, (repetitions, SEEDS, 3))]
    return [
        ("Wilson interval of an accuracy", "99 %, 500 images", "95 %", share(few, lambda part: part.low <= 0.99 <= part.high)),
        (
            "Wilson interval of an accuracy",
            "99 %, 10,000 images",
            "95 %",
            share(many, lambda part: part.low <= 0.99 <= part.high),
        ),
        ("t interval of a mean over seeds", "97 %", "95 %", share(means, lambda part: part.low <= ACCURACY <= part.high)),
        (
            "prediction interval of one more seed",
            "the sixth seed",
            "95 %",
            share(list(zip(ranges, values[:, SEEDS], strict=True)), lambda pair: pair[0][0] <= pair[1] <= pair[0][1]),
        ),
        (
            "Newcombe interval of two checkpoints on the same images",
            "0.2 points, 10,000 images",
            "95 %",
            share(paired, lambda part: part.low <= 0.002 <= part.high),
        ),
        ("t interval of a trend", "−0.2 points a level", "95 %", share(slopes, lambda part: part.low <= -0.002 <= part.high)),
    ]


def false_positives(rng: np.random.Generator, repetitions: int) -> list[Row]:
    """How often a test finds what is not there."""
    pairs = rng.normal(ACCURACY, STD, (repetitions, 2, SEEDS))
    coarse = rng.binomial(144, 0.98, (repetitions, 2, 2)) / 144
    tables = rng.multinomial(10_000, [0.982, 0.005, 0.005, 0.008], repetitions).tolist()
    compared = [mcnemar(*table) for table in tables]
    levels = rng.normal(ACCURACY, STD, (repetitions, SEEDS, 4))
    apart = rng.normal([[ACCURACY], [ACCURACY - 0.005]], 0.001, (repetitions, 2, SEEDS))
    return [
        ("paired t test", "no effect", "5 %", significant(paired_difference(*pair).p_value for pair in pairs)),
        (
            "paired t test of rounded values",
            "no effect, 2 seeds, 144 images",
            "≤ 5 %",
            significant(paired_difference(one, two, 1 / 144).p_value for one, two in coarse),
        ),
        (
            "the same, rounding ignored",
            "no effect, 2 seeds, 144 images",
            "too many",
            significant(paired_difference(*pair).p_value for pair in coarse),
        ),
        ("McNemar, mid-p", "no effect, 10,000 images", "5 %", significant(part.p_value for part in compared)),
        ("trend over 4 levels", "no effect", "5 %", significant(trend(rows).p_value for rows in levels)),
        ("equivalence", "apart by its margin", "5 %", significant(equivalence(one, two, 0.005).p_value for one, two in apart)),
    ]


def families(rng: np.random.Generator, repetitions: int) -> list[Row]:
    """How often one of four comparisons with the same leader is a false finding."""
    samples = rng.normal(ACCURACY, STD, (repetitions, 5, SEEDS))
    raw = [[paired_difference(leader, other).p_value for other in others] for leader, *others in samples]
    return [
        ("any of 4 paired t tests", "no effect", "too many", significant(min(p_values) for p_values in raw)),
        ("the same, after Holm", "no effect", "≤ 5 %", significant(min(holm(p_values)) for p_values in raw)),
    ]


def found_effects(rng: np.random.Generator, repetitions: int) -> list[Row]:
    """How often a test finds what is there, against the power that was computed for it."""
    rows: list[Row] = []
    needed = seeds_needed(0.004, STD)
    assert needed is not None
    for n in (3, SEEDS, needed):
        first, second = rng.normal(ACCURACY, STD / math.sqrt(2), (2, repetitions, n))
        tests = (paired_difference(one + 0.004, two).p_value for one, two in zip(first, second, strict=True))
        rows.append(("power of the paired t test", f"0.4 points, {n} seeds", f"{power(0.004, STD, n):.2%}", significant(tests)))
    for n in (3, SEEDS):
        first, second = rng.normal(ACCURACY, 0.003 / math.sqrt(2), (2, repetitions, n))
        tests = (equivalence(one, two, 0.005).p_value for one, two in zip(first, second, strict=True))
        expected = f"{equivalence_power(0, 0.003, n, 0.005):.2%}"
        rows.append(("power of equivalence within 0.5 points", f"no effect, {n} seeds", expected, significant(tests)))
    return rows


def known(make: Callable[[int, int], Any], successes: np.ndarray, n: int) -> list[Any]:
    """One result for each outcome; those that recur are made once."""
    made = {int(count): make(int(count), n) for count in np.unique(successes)}
    return [made[int(count)] for count in successes]


def share(items: Sequence[Any], holds: Callable[[Any], bool]) -> float:
    return sum(map(holds, items)) / len(items)


def significant(p_values: Iterable[float]) -> float:
    """The share below 0.05."""
    return float(np.mean(np.fromiter(p_values, float) < 0.05))


if __name__ == "__main__":
    main()
