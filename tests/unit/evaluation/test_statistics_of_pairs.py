"""Equivalence and trend: paired values beyond the question whether two of them differ."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation.statistics import equivalence, paired_difference, trend

# Potthoff & Roy 1964, Biometrika 51, 313: a distance in the heads of eleven girls at ages 8, 10, 12 and 14, in mm
GIRLS = [
    [21, 20, 21.5, 23],
    [21, 21.5, 24, 25.5],
    [20.5, 24, 24.5, 26],
    [23.5, 24.5, 25, 26.5],
    [21.5, 23, 22.5, 23.5],
    [20, 21, 21, 22.5],
    [21.5, 22.5, 23, 25],
    [23, 23, 23.5, 24],
    [20, 21, 22, 21.5],
    [16.5, 19, 19, 19.5],
    [24.5, 25, 28, 28],
]

accuracies = st.floats(0, 1).map(lambda value: round(value, 4))
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=10)
tables = st.integers(2, 5).flatmap(lambda levels: st.lists(st.lists(accuracies, min_size=levels, max_size=levels), min_size=2))


@given(pairs, st.floats(0.001, 0.5))
def test_equivalence_is_two_one_sided_tests(values: list[tuple[float, float]], margin: float) -> None:
    first, second = np.array(values).T
    assume((first - second).std() > 1e-3)
    above = stats.ttest_1samp(first - second, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(first - second, margin, alternative="less").pvalue
    part = equivalence(first, second, margin)
    assert part.p_value == pytest.approx(max(above, below), abs=1e-9)
    assert (part.p_value < 0.05) == (-margin < part.low and part.high < margin)
    difference = paired_difference(first, second)
    assert (part.p_beyond < 0.05) == (difference.low > margin or difference.high < -margin)


def test_what_agrees_but_for_its_rounding_is_the_same_only_within_a_margin_that_the_rounding_can_show() -> None:
    same = [0.97, 0.98, 0.96]
    assert (equivalence(same, same, 0.005).p_value, equivalence(same, same, 0.005).p_beyond) == (0, 1)
    assert equivalence(same, same, 0.005, resolution=0.01).p_value > 0.05  # a hundred images say nothing of half a point
    assert equivalence(same, same, 0.005, resolution=0.0001).p_value < 0.001
    apart = [value - 0.1 for value in same]
    assert (equivalence(same, apart, 0.005).p_value, equivalence(same, apart, 0.005).p_beyond) == (1, 0)
    assert equivalence(same, apart, 0.1).p_value >= 0.5  # on the margin is not inside


def test_settings_as_far_apart_as_the_margin_pass_for_equal_no_more_often_than_they_may() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal([[0.005], [0]], 0.001, (1500, 2, 5))
    passed = np.mean([equivalence(one, two, 0.005).p_value < 0.05 for one, two in samples])
    assert passed == pytest.approx(0.05, abs=0.017)  # three standard errors of 1,500
    noisy = rng.normal([[0.005], [0]], 0.01, (1500, 2, 5))
    assert np.mean([equivalence(one, two, 0.005).p_value < 0.05 for one, two in noisy]) < 0.05


@pytest.mark.parametrize("margin", [0, -0.1, float("nan")])
def test_a_margin_of_nothing_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="a margin must be > 0, got"):
        equivalence([0.1, 0.2], [0.1, 0.2], margin)


def test_growth_has_the_published_slope() -> None:
    # Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, section 1.4: 0.479545 mm a year; a level is two years
    part = trend(GIRLS)
    slopes = [np.polyfit(range(4), row, 1)[0] for row in GIRLS]
    assert part.value == pytest.approx(2 * 0.479545, abs=2e-6)
    assert part.p_value == pytest.approx(stats.ttest_1samp(slopes, 0).pvalue)
    assert (part.low, part.high) == pytest.approx(tuple(stats.ttest_1samp(slopes, 0).confidence_interval()))


@given(pairs, st.sampled_from([0.0, 0.01]))
def test_over_two_levels_a_trend_is_the_paired_difference(values: list[tuple[float, float]], resolution: float) -> None:
    second, first = zip(*values, strict=True)
    assert astuple(trend(values, resolution=resolution)) == pytest.approx(astuple(paired_difference(first, second, resolution)))


@given(tables)
def test_a_trend_turns_with_its_levels_and_its_interval_agrees_with_its_test(rows: list[list[float]]) -> None:
    there, back = trend(rows), trend([row[::-1] for row in rows])
    assert there.low <= there.value <= there.high
    assert (there.p_value < 0.05) == (not there.low <= 0 <= there.high)
    assert (there.value, there.low, there.p_value) == pytest.approx((-back.value, -back.high, back.p_value), abs=1e-9)


def test_seeds_that_differ_do_not_hide_a_trend_that_each_of_them_has() -> None:
    rows = [[base, base - 0.011, base - 0.019] for base in (0.99, 0.95, 0.91, 0.97)]
    rows[0][1] += 0.002
    assert trend(rows).p_value < 0.001


def test_values_without_a_trend_show_one_no_more_often_than_they_may() -> None:
    rng = np.random.default_rng(1)
    samples = 0.97 + rng.normal(0, 0.02, (1500, 5, 1)) + rng.normal(0, 0.004, (1500, 5, 4))
    assert np.mean([trend(rows).p_value < 0.05 for rows in samples]) == pytest.approx(0.05, abs=0.017)
    coarse = rng.binomial(144, 0.98, (1500, 2, 3)) / 144
    assert np.mean([trend(rows, resolution=1 / 144).p_value < 0.05 for rows in coarse]) < 0.05


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2]], "at least 2 seeds, each with a value at the same 2 or more levels"),
        ([[1], [2]], "at least 2 seeds, each with a value at the same 2 or more levels"),
        ([[1, 2], [1, 2, 3]], "at least 2 seeds, each with a value at the same 2 or more levels"),
        ([[1, float("nan")], [1, 2]], "all finite"),
    ],
)
def test_what_has_no_trend_is_refused(rows: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trend(rows)
