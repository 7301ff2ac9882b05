import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.statistics import Proportion, difference


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
