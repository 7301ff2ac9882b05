import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation.statistics import holm, mean_interval, paired_difference, prediction_interval

# Student 1908, Biometrika 6, 20: hours of sleep gained with two drugs, ten patients
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Darwin 1876, as analysed by Fisher 1935, The Design of Experiments, section 17: eighths of an inch, fifteen pairs
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
NOTHING = [0] * 15

accuracies = st.floats(0, 1).map(lambda value: round(value, 4))
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=10)


def test_students_sleep_data_give_the_published_test() -> None:
    # as in the documentation of R's t.test: t = -4.0621, p = 0.002833, interval -2.4598858 to -0.7001142
    assert astuple(paired_difference(SLEEP_1, SLEEP_2)) == pytest.approx(
        (-1.58, -2.4598858, -0.7001142, 0.00283289, 10, 1.2299955), rel=1e-6
    )
    assert astuple(mean_interval(SLEEP_2)) == pytest.approx((2.33, 0.8976775, 3.7623225, 10, 2.0022487), rel=1e-6)


def test_darwins_maize_gives_fishers_p_value() -> None:
    assert paired_difference(MAIZE, NOTHING).p_value == pytest.approx(0.0497, abs=5e-5)


def test_a_prediction_interval_has_the_published_width() -> None:
    # Hahn & Meeker 1991, table A.13: factors of the standard deviation for one further value
    for n, factor in ((5, 3.04), (10, 2.37), (20, 2.14)):
        values = np.random.default_rng(n).normal(size=n)
        low, high = prediction_interval(list(values))
        assert (high - low) / 2 / values.std(ddof=1) == pytest.approx(factor, abs=6e-3)


def test_holms_correction_of_four_p_values_worked_by_hand() -> None:
    # smallest times 4, next times 3, times 2, times 1, never less than the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(0.98, 0.004, (2000, 6))
    means = [mean_interval(list(row[:5])) for row in samples]
    covered = np.mean([part.low <= 0.98 <= part.high for part in means])
    predicted = np.mean([low <= row[5] <= high for row in samples for low, high in [prediction_interval(list(row[:5]))]])
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors of 2,000
    assert predicted == pytest.approx(0.95, abs=0.015)


def test_equal_settings_are_told_apart_no_more_often_than_they_may_be() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(0.97, 0.01, (2000, 2, 5))
    found = np.mean([paired_difference(list(one), list(two)).p_value < 0.05 for one, two in samples])
    assert found == pytest.approx(0.05, abs=0.015)


def test_accuracies_on_few_images_do_not_make_a_difference_of_nothing() -> None:
    # 2 seeds, 144 images: both differences are often the same single image, which alone would give p = 0
    rng = np.random.default_rng(2)
    samples = rng.binomial(144, 0.98, (4000, 2, 2)) / 144
    naive = np.mean([paired_difference(list(one), list(two)).p_value < 0.05 for one, two in samples])
    aware = np.mean([paired_difference(list(one), list(two), 1 / 144).p_value < 0.05 for one, two in samples])
    assert naive > 0.07
    assert aware < 0.05


def test_one_true_difference_in_a_family_costs_no_false_ones() -> None:
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(1000):
        leader, *others = rng.normal(0.97, 0.01, (5, 5))
        corrected = holm([paired_difference(list(leader), list(other)).p_value for other in others])
        false += min(corrected) < 0.05
    assert false / 1000 < 0.05 + 0.021


def test_values_that_all_agree_have_no_width_but_that_of_their_rounding() -> None:
    part = mean_interval([0.1 + 0.2, 0.3, 0.3])
    assert (part.value, part.low, part.high, part.std) == pytest.approx((0.3,) * 3 + (0.0,))
    assert part.low <= part.value <= part.high
    known = mean_interval([0.99] * 5, resolution=0.01)
    assert (known.low, known.high) == pytest.approx((0.98642, 0.99358), abs=1e-5)
    assert prediction_interval([0.5, 0.5]) == (0.5, 0.5)


def test_differences_that_all_agree_are_certain_and_those_of_nothing_are_none() -> None:
    assert astuple(paired_difference([0.3, 0.7], [0.3, 0.7])) == (0, 0, 0, 1, 2, 0)
    # 0.3 - 0.1 and 0.9 - 0.7 differ in the last bit
    assert astuple(paired_difference([0.3, 0.9], [0.1, 0.7])) == pytest.approx((0.2, 0.2, 0.2, 0.0, 2, 0.0))


@given(pairs)
def test_there_is_no_nan_and_the_interval_agrees_with_the_test(values: list[tuple[float, float]]) -> None:
    first, second = zip(*values, strict=True)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.low <= there.value <= there.high
    assert 0 <= there.p_value <= 1
    assert (there.p_value < 0.05) == (not there.low <= 0 <= there.high)
    assert (there.value, there.low, there.p_value) == pytest.approx((-back.value, -back.high, back.p_value))
    part, (low, high) = mean_interval(first), prediction_interval(first)
    assert low <= part.low <= part.value <= part.high <= high


@given(pairs.filter(lambda values: np.std([one - two for one, two in values]) > 1e-3))
def test_p_values_are_those_of_scipy(values: list[tuple[float, float]]) -> None:
    first, second = zip(*values, strict=True)
    assert paired_difference(first, second).p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-6)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_a_corrected_p_value_keeps_its_rank_and_lies_between_its_own_and_bonferronis(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for own, after in zip(p_values, corrected, strict=True):
        assert own <= after <= min(1.0, own * len(p_values)) + 1e-12 or after == 1.0
    assert np.argsort(p_values, kind="stable").tolist() == sorted(
        range(len(p_values)), key=lambda i: (corrected[i], p_values[i], i)
    )


@pytest.mark.parametrize("values", [[], [0.5], [0.5, math.nan], [math.inf, 0.0]])
def test_what_has_no_interval_is_refused(values: list[float]) -> None:
    for call in (mean_interval, prediction_interval, lambda given: paired_difference(given, given)):
        with pytest.raises(ValueError, match="an interval needs at least 2 values, all finite"):
            call(values)


def test_pairs_must_be_pairs_and_p_values_probabilities() -> None:
    with pytest.raises(ValueError, match="as many values on either side, got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got \[1.5\]"):
        holm([1.5])
