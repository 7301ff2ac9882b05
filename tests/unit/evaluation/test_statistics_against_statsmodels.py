"""Our statistics give the numbers of statsmodels; those of scipy where statsmodels has none."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from pipeline.evaluation.statistics import (
    Proportion,
    difference,
    equivalence,
    equivalence_power,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    power,
    prediction_interval,
    seeds_needed,
)

accuracies = st.floats(0, 1).map(lambda value: round(value, 4))
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=10).filter(
    lambda values: np.std([one - two for one, two in values]) > 1e-3
)
shares = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SLEEP = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
MORE_SLEEP = list(zip(*SLEEP, strict=True))


def same(value: object) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def check_wilson(successes: int, n: int) -> None:
    part = Proportion.of(successes, n)
    assert (part.low, part.high) == same(proportion_confint(successes, n, method="wilson"))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (81, 263), (9_912, 10_000), (1, 1)])
def test_wilson_intervals(successes: int, n: int) -> None:
    check_wilson(successes, n)


@given(shares)
def test_wilson_intervals_of_any_share(share: tuple[int, int]) -> None:
    check_wilson(*share)


def check_newcombe(one: tuple[int, int], other: tuple[int, int]) -> None:
    part = difference(Proportion.of(*one), Proportion.of(*other))
    assert (part.low, part.high) == same(confint_proportions_2indep(*one, *other, method="newcomb", compare="diff"))


@pytest.mark.parametrize(("one", "other"), [((56, 70), (48, 80)), ((9, 10), (3, 10)), ((5, 56), (0, 29))])
def test_newcombes_intervals_of_independent_shares(one: tuple[int, int], other: tuple[int, int]) -> None:
    check_newcombe(one, other)


@given(shares, shares)
def test_newcombes_intervals_of_any_independent_shares(one: tuple[int, int], other: tuple[int, int]) -> None:
    check_newcombe(one, other)


def check_mcnemar(only_first: int, only_second: int) -> None:
    """statsmodels has the exact test; the mid-p test counts half of what was observed."""
    exact = float(contingency_tables.mcnemar([[5, only_first], [only_second, 7]], exact=True).pvalue)
    observed = float(stats.binom.pmf(only_first, only_first + only_second, 0.5))
    mid = exact - (observed / 2 if only_first == only_second else observed)
    assert mcnemar(5, only_first, only_second, 7).p_value == same(mid)


@pytest.mark.parametrize(("only_first", "only_second"), [(1, 7), (6, 16), (5, 0), (4, 4), (1, 0), (300, 241)])
def test_mcnemars_mid_p_values(only_first: int, only_second: int) -> None:
    check_mcnemar(only_first, only_second)


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_mcnemars_mid_p_values_of_any_counts(only_first: int, only_second: int) -> None:
    assume(only_first + only_second)  # by definition 1 without any
    check_mcnemar(only_first, only_second)


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.6, 0.7], [0.05], [0.0, 1.0, 0.0]])
def test_holms_correction(p_values: list[float]) -> None:
    assert holm(p_values) == same(multipletests(p_values, method="holm")[1].tolist())


@settings(max_examples=25)  # statsmodels collects garbage at each call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_of_any_p_values(p_values: list[float]) -> None:
    assert holm(p_values) == same(multipletests(p_values, method="holm")[1].tolist())


def check_paired(values: list[tuple[float, float]]) -> None:
    first, second = np.array(values).T
    part, oracle = paired_difference(first, second), DescrStatsW(first - second)
    assert part.p_value == same(oracle.ttest_mean(0)[1])
    assert part.p_value == same(stats.ttest_rel(first, second).pvalue)
    assert (part.value, part.low, part.high, part.std) == same(
        (oracle.mean, *oracle.tconfint_mean(), (first - second).std(ddof=1))
    )


def test_the_paired_t_test() -> None:
    check_paired(MORE_SLEEP)


@given(pairs)
def test_the_paired_t_test_of_any_pairs(values: list[tuple[float, float]]) -> None:
    check_paired(values)


@given(pairs)
def test_intervals_of_a_mean_and_of_one_further_value(values: list[tuple[float, float]]) -> None:
    first = [one - two for one, two in values]
    oracle, part = DescrStatsW(first), mean_interval(first)
    assert (part.low, part.high) == same(oracle.tconfint_mean())
    width = stats.t.ppf(0.975, len(first) - 1) * math.sqrt(oracle.std_mean**2 + np.var(first, ddof=1))
    assert prediction_interval(first) == same((oracle.mean - width, oracle.mean + width))


def check_equivalence(values: list[tuple[float, float]], margin: float) -> None:
    first, second = np.array(values).T
    part = equivalence(first, second, margin)
    assert part.p_value == same(ttost_paired(first, second, -margin, margin)[0])
    assert (part.low, part.high) == same(DescrStatsW(first - second).tconfint_mean(alpha=0.1))
    differences = first - second if part.value > 0 else second - first
    beyond = DescrStatsW(differences).ttest_mean(margin, "larger")
    assert part.p_beyond == same(min(1.0, 2 * beyond[1]))


@pytest.mark.parametrize("margin", [0.5, 1.58, 3.0])
def test_two_one_sided_tests(margin: float) -> None:
    check_equivalence(MORE_SLEEP, margin)


@given(pairs, st.floats(1e-4, 0.5))
def test_two_one_sided_tests_of_any_pairs(values: list[tuple[float, float]], margin: float) -> None:
    check_equivalence(values, margin)


@pytest.mark.parametrize(("effect", "n", "alpha"), [(0.2, 60, 0.1), (0.5, 34, 0.05), (1.0, 5, 0.05 / 12), (3.0, 2, 0.05)])
def test_power(effect: float, n: int, alpha: float) -> None:
    assert power(effect, 1, n, alpha) == same(TTestPower().power(effect, n, alpha))


@given(st.floats(0, 10), st.integers(2, 200), st.sampled_from([0.05, 0.05 / 12]))
def test_power_of_any_effect(shift: float, n: int, alpha: float) -> None:
    effect = shift / math.sqrt(n)
    both = TTestPower().power(effect, n, alpha)
    # where there is next to nothing in the tail on the other side, statsmodels makes NaN of it
    expected = TTestPower().power(effect, n, alpha / 2, alternative="larger") if math.isnan(both) else both
    assert power(effect, 1, n, alpha) == same(expected)


@pytest.mark.parametrize(("effect", "share"), [(0.2, 0.8), (0.5, 0.8), (0.8, 0.9), (0.5, 0.95)])
def test_the_fewest_seeds(effect: float, share: float) -> None:
    assert seeds_needed(effect, 1, share) == math.ceil(TTestPower().solve_power(effect, power=share, alpha=0.05))


def chance_of_equivalence(effect: float, n: int, margin: float, alpha: float) -> float:
    """The integral over the estimated standard deviation, by adaptive quadrature: statsmodels has no power of paired TOST."""
    bound, root, degrees = stats.t.ppf(1 - alpha, n - 1), math.sqrt(n), n - 1
    norm = math.log(2) + degrees / 2 * math.log(degrees / 2) - special.gammaln(degrees / 2)

    def integrand(ratio: float) -> float:
        inside = special.ndtr((margin - effect) * root - bound * ratio) - special.ndtr(bound * ratio - (margin + effect) * root)
        return float(inside * math.exp(norm + (degrees - 1) * math.log(ratio) - degrees * ratio**2 / 2))

    top, turn, width = min(margin * root / bound, 20), (margin - effect) * root / bound, 1 / math.sqrt(2 * degrees)
    places = {turn + step / bound for step in (-8, -3, 0, 3, 8)} | {1 + step * width for step in (-8, -3, 0, 3, 8)} | {0.01}
    ends = [1e-12, *sorted(place for place in places if 1e-12 < place < top), top]
    return sum(integrate.quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in pairwise(ends) if b - a > 1e-12)


@pytest.mark.parametrize(("effect", "n", "margin"), [(0.0, 5, 2.0), (0.5, 10, 1.0), (1.9, 20, 2.0), (2.0, 5, 2.0), (0.0, 2, 0.1)])
def test_power_of_equivalence(effect: float, n: int, margin: float) -> None:
    assert equivalence_power(effect, 1, n, margin) == same(chance_of_equivalence(effect, n, margin, 0.05))


@given(st.floats(0, 1.2), st.integers(2, 200), st.floats(0.01, 50), st.sampled_from([0.05, 0.05 / 12]))
def test_power_of_equivalence_of_any_effect(share: float, n: int, margin: float, alpha: float) -> None:
    expected = chance_of_equivalence(share * margin, n, margin, alpha)
    assert equivalence_power(share * margin, 1, n, margin, alpha) == same(expected)
