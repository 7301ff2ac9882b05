import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation.statistics import Proportion, difference, mcnemar, p_equals, p_text

tables = st.tuples(*[st.integers(0, 100)] * 4).filter(any)


@st.composite
def proportions(draw: st.DrawFn) -> Proportion:
    n = draw(st.integers(1, 20_000))
    return Proportion.of(draw(st.integers(0, n)), n)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_agree_with_the_published_examples(successes: int, n: int, low: float, high: float) -> None:
    part = Proportion.of(successes, n)
    assert (part.low, part.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, 873, table II, method 10
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_intervals_of_a_difference_agree_with_the_published_examples(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    delta = difference(Proportion.of(*first), Proportion.of(*second))
    assert (delta.low, delta.high) == pytest.approx((low, high), abs=5e-5)


def test_the_tea_tasting_lady_gets_fishers_p_value() -> None:
    # Fisher 1935, The Design of Experiments, chapter 2: 3 of 4 cups against 1 of 4; two-sided 34/70
    assert difference(Proportion.of(3, 4), Proportion.of(1, 4)).p_value == pytest.approx(34 / 70)


@given(proportions())
def test_an_interval_holds_its_estimate_and_lies_between_0_and_1(part: Proportion) -> None:
    assert 0 <= part.low <= part.value <= part.high <= 1


@given(proportions(), proportions())
def test_exchanging_two_proportions_changes_nothing_but_the_sign(first: Proportion, second: Proportion) -> None:
    there, back = difference(first, second), difference(second, first)
    assert there.low <= there.value <= there.high
    assert (there.low, there.high, there.p_value) == pytest.approx((-back.high, -back.low, back.p_value))


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_an_impossible_proportion_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"needs 0 <= successes <= n and n >= 1, got {successes} of {n}"):
        Proportion.of(successes, n)


@pytest.mark.parametrize(
    ("table", "mid", "low", "high"),
    [
        # Fagerland, Lydersen & Laake 2013, BMC Med. Res. Methodol. 13:91, tables 1 and 2: mid-p 0.039 and 0.035;
        # intervals of Newcombe's method 10 as in their 2014 paper (Stat. Med. 33, 2850)
        ((1, 1, 7, 12), 0.039, -0.507, -0.026),
        ((59, 6, 16, 80), 0.035, -0.119, -0.005),
        # Altman, Machin, Bryant & Gardner 2000, Statistics with Confidence, table 6.2: interval 0.011 to 0.226
        ((14, 5, 0, 22), 1 / 2**5, 0.011, 0.226),
    ],
)
def test_two_checkpoints_are_compared_as_in_the_published_examples(
    table: tuple[int, int, int, int], mid: float, low: float, high: float
) -> None:
    part = mcnemar(*table)
    assert part.p_value == pytest.approx(mid, abs=5e-4)
    assert (part.low, part.high) == pytest.approx((low, high), abs=5e-4)


@given(tables)
def test_mcnemars_p_values_are_counted_out_over_all_tosses(table: tuple[int, int, int, int]) -> None:
    part = mcnemar(*table)
    apart, distance = part.only_first + part.only_second, abs(part.only_first - part.only_second)
    ways = {k: math.comb(apart, k) for k in range(apart + 1)}
    further = sum(count for k, count in ways.items() if abs(2 * k - apart) > distance)
    as_far = sum(count for k, count in ways.items() if abs(2 * k - apart) == distance)
    assert part.p_value == pytest.approx((further + as_far / 2) / 2**apart if apart else 1)


@given(tables)
def test_exchanging_two_checkpoints_changes_nothing_but_the_sign(table: tuple[int, int, int, int]) -> None:
    both_right, only_first, only_second, both_wrong = table
    there, back = mcnemar(*table), mcnemar(both_right, only_second, only_first, both_wrong)
    assert -1 - 1e-12 <= there.low <= there.value <= there.high <= 1 + 1e-12
    assert 0 < there.p_value <= 1
    assert (there.value, there.low, there.high, there.p_value) == pytest.approx(
        (-back.value, -back.high, -back.low, back.p_value)
    )


@pytest.mark.parametrize("table", [(0, 0, 0, 0), (5, -1, 2, 3)])
def test_a_comparison_without_images_is_refused(table: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="needs counts >= 0 and an image at least, got"):
        mcnemar(*table)


def test_wilson_intervals_cover_as_often_as_they_say() -> None:
    # exact: all outcomes by their probability, averaged over accuracies as networks have them
    n, shares = 200, np.linspace(0.5, 0.99, 99)
    parts = [Proportion.of(successes, n) for successes in range(n + 1)]
    low, high = np.array([[part.low, part.high] for part in parts]).T
    covers = (low <= shares[:, None]) & (shares[:, None] <= high)  # (shares, outcomes)
    coverage = (covers * stats.binom.pmf(np.arange(n + 1), n, shares[:, None])).sum(1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.005)
    assert coverage.min() > 0.9


def test_equal_checkpoints_are_told_apart_no_more_often_than_they_may_be() -> None:
    # exact: all outcomes of 40 images, of which each is gotten right by one alone with the given probability
    n = 40
    p_values = {(b, c): mcnemar(n - b - c, b, c, 0).p_value for b in range(n + 1) for c in range(n + 1 - b)}
    for apart in (0.02, 0.1, 0.3, 0.6):
        false = sum(
            stats.multinomial.pmf([b, c, n - b - c], n, [apart / 2, apart / 2, 1 - apart])
            for (b, c), p_value in p_values.items()
            if p_value < 0.05
        )
        assert false <= 0.05
    assert false > 0.04  # of many images apart nothing is given away


def test_the_interval_of_a_paired_difference_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    parts = [mcnemar(*row) for row in rng.multinomial(1000, [0.93, 0.03, 0.02, 0.02], 1000).tolist()]
    assert np.mean([part.low <= 0.01 <= part.high for part in parts]) == pytest.approx(0.95, abs=0.021)


def test_a_p_value_is_written_with_two_digits_and_never_as_zero() -> None:
    assert [p_text(value) for value in (0.0, 0.00099, 0.0012345, 0.031, 0.5, 1.0)] == [
        "< 0.001", "< 0.001", "0.0012", "0.031", "0.5", "1",
    ]  # fmt: skip
    assert (p_equals(0.0), p_equals(0.031)) == ("p < 0.001", "p = 0.031")
