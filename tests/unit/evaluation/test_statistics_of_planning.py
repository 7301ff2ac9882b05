"""Power: how many seeds a question takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from pipeline.evaluation.statistics import MOST_SEEDS, equivalence_power, power, seeds_for_equivalence, seeds_needed

effects = st.floats(0, 20)
numbers = st.integers(2, 100)


@pytest.mark.parametrize(
    ("effect", "asked", "n"),
    # the usual table of matched pairs, two-sided 5 % (G*Power 3, "difference between two dependent means")
    [(0.2, 0.8, 199), (0.5, 0.8, 34), (0.8, 0.8, 15), (0.5, 0.95, 54)],
)
def test_effects_of_usual_size_take_the_usual_numbers(effect: float, asked: float, n: int) -> None:
    assert seeds_needed(effect, 1, asked) == n
    assert power(effect, 1, n) >= asked > power(effect, 1, n - 1)


def test_the_power_of_a_worked_example_is_the_published_one() -> None:
    # example of pwr.t.test in R's package pwr, after Cohen 1988: d = 0.2, n = 60, 10 %, one sample
    assert power(0.2, 1, 60, alpha=0.1) == pytest.approx(0.4555818, abs=5e-8)


@settings(max_examples=25)
@given(effects, numbers, st.sampled_from([0.05, 0.05 / 12]))
def test_power_is_the_integral_over_the_estimate_of_the_deviation(effect: float, n: int, alpha: float) -> None:
    bound, shift, degrees = stats.t.ppf(1 - alpha / 2, n - 1), effect * n**0.5, n - 1

    def given_deviation(ratio: float) -> float:
        found = stats.norm.sf(bound * ratio - shift) + stats.norm.cdf(-bound * ratio - shift)
        return float(found * stats.chi.pdf(ratio * degrees**0.5, degrees) * degrees**0.5)

    whole = integrate.quad(given_deviation, 0, 12, points=[min(shift / bound, 11), 1], limit=200)[0]
    assert power(effect, 1, n, alpha) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize(("effect", "n"), [(0.0, 5), (0.8, 5), (1.5, 3), (0.5, 20)])
def test_power_is_how_often_the_test_finds_the_effect(effect: float, n: int) -> None:
    samples = np.random.default_rng(n).normal(effect, 1, (20_000, n))
    statistic = samples.mean(1) / samples.std(1, ddof=1) * n**0.5
    found = np.mean(np.abs(statistic) > stats.t.ppf(0.975, n - 1))
    assert power(effect, 1, n) == pytest.approx(found, abs=0.011)  # three standard errors of 20,000


@pytest.mark.parametrize(("effect", "n"), [(0.0, 3), (0.0, 10), (0.5, 10), (1.9, 20), (2.0, 5)])
def test_power_of_equivalence_is_how_often_the_two_tests_show_it(effect: float, n: int) -> None:
    samples = np.random.default_rng(n).normal(effect, 1, (20_000, n))
    reach = stats.t.ppf(0.95, n - 1) * samples.std(1, ddof=1) / n**0.5
    shown = np.mean(np.abs(samples.mean(1)) + reach < 2)
    assert equivalence_power(effect, 1, n, 2) == pytest.approx(shown, abs=0.011)
    assert equivalence_power(-effect, 1, n, 2) == pytest.approx(equivalence_power(effect, 1, n, 2))


@settings(max_examples=50)
@given(st.floats(0, 0.01), st.floats(1e-5, 0.02))
def test_the_seeds_needed_are_the_fewest(effect: float, std: float) -> None:
    n = seeds_needed(effect, std)
    if n is None:
        assert effect == 0 or power(effect, std, MOST_SEEDS) < 0.8
    else:
        assert power(effect, std, n) >= 0.8
        assert n == 2 or power(effect, std, n - 1) < 0.8
    same = seeds_for_equivalence(effect, std, 0.005)
    if same is None:
        assert equivalence_power(effect, std, MOST_SEEDS, 0.005) < 0.8
    else:
        assert equivalence_power(effect, std, same, 0.005) >= 0.8
        assert same == 2 or equivalence_power(effect, std, same - 1, 0.005) < 0.8


def test_nothing_is_never_found_and_certainty_at_once() -> None:
    assert seeds_needed(0, 1) is None
    assert seeds_needed(0, 0) is None
    assert seeds_needed(0.001, 0) == 2
    assert seeds_needed(1e-9, 1) is None
    assert (power(0, 1, 5), power(1e-30, 1, 5), power(0, 0, 5), power(-1, 0, 2), power(1e200, 1, 2)) == (0.05, 0.05, 0, 1, 1)
    assert seeds_for_equivalence(0.004, 0, 0.005) == 2
    assert seeds_for_equivalence(0.005, 1, 0.005) is None
    assert seeds_for_equivalence(0.006, 0, 0.005) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power(1, -1, 5), r"needs std >= 0, n >= 2 and alpha in \(0, 1\), got std -1, n 5, alpha 0.05"),
        (lambda: power(1, 1, 1), "n 1"),
        (lambda: power(1, 1, 5, alpha=1), "alpha 1"),
        (lambda: seeds_needed(1, 1, power=1), r"power must be in \(0, 1\), got 1"),
        (lambda: seeds_needed(1, float("nan")), "got std nan"),
        (lambda: seeds_for_equivalence(1, 1, 0), "a margin must be > 0, got 0"),
    ],
)
def test_what_cannot_be_planned_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
