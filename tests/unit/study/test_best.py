import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.state.best import BestError, best, front, non_dominated

BOTH = {"study": {"objectives": ["accuracy", "parameters"], "pruner": "none"}}


@pytest.fixture
def two(story):
    """Accuracy against parameters; the front is 0, 1, 3."""
    told = story(BOTH)
    for number, (accuracy, parameters) in enumerate([(0.99, 9000), (0.98, 2000), (0.97, 3000), (0.80, 100)]):
        told.trial(number, accuracy, parameters, parameters=parameters)
    told.trial(4, state="FAIL")
    return told.history


def test_one_objective_decides_by_itself_and_of_equals_the_smaller_network_is_best(story):
    told = story()
    told.trial(0, 0.98, parameters=5000)
    told.trial(1, 0.98, parameters=400)
    told.trial(2, 0.97, parameters=10)
    assert best(told.history).trial == 1
    losses = story({"study": {"objectives": ["loss"]}})
    losses.trial(0, 0.2)
    losses.trial(1, 0.1)
    assert best(losses.history).trial == 1
    assert best(told.history, "parameters<=100").trial == 2


def test_the_front_holds_what_nothing_beats_everywhere(two):
    assert [run.trial for run in front(two)] == [0, 1, 3]


@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        ("accuracy", 0),
        ("parameters", 3),
        ("knee", 1),
        ("parameters<=5000", 1),
        ("parameters <= 3,000", 1),
        ("parameters<=2e2", 3),
        ("accuracy>=0.97", 1),
        ("accuracy>=0.985", 0),
        ("multiply_adds<=10", 0),
    ],
)
def test_a_rule_chooses_between_several_objectives(two, rule, trial):
    assert best(two, rule).trial == trial


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (None, r"several objectives \(accuracy, parameters\) need a rule to choose by: accuracy, parameters, accuracy>=0.98, "),
        ("loss", "rule must be one of accuracy, parameters, .*knee; got loss"),
        ("parameters<5000", "rule must be one of .*; got parameters<5000"),
        ("parameters<=5k", "rule must be one of .*; got parameters<=5k"),
        ("parameters<=50", "no complete trial has parameters <= 50; the nearest has 100"),
        ("accuracy>=0.999", "no complete trial has accuracy >= 0.999; the nearest has 0.99"),
    ],
)
def test_a_rule_that_chooses_nothing_is_one_line(two, rule, message):
    with pytest.raises(BestError, match=message) as error:
        best(two, rule)
    assert "\n" not in str(error.value)


def test_before_a_trial_is_complete_there_is_no_best(story):
    told = story(BOTH)
    told.trial(0, state="FAIL")
    assert front(told.history) == []
    with pytest.raises(BestError, match="tale: no trial is complete yet; see `study status tale`"):
        best(told.history, "knee")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_a_point_is_kept_exactly_if_none_dominates_it(points):
    def dominated(point):
        return any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)

    assert non_dominated(points) == [not dominated(point) for point in points]


def test_a_knee_is_the_same_in_other_units(story):
    rng = np.random.default_rng(0)
    accuracies, sizes = rng.uniform(0.5, 1, 30), rng.integers(10, 1000, 30)
    found = []
    for unit in (1, 1000):
        told = story(BOTH)
        for number, (accuracy, size) in enumerate(zip(accuracies, sizes, strict=True)):
            told.trial(number, accuracy, float(size * unit), parameters=int(size * unit))
        found.append(best(told.history, "knee").trial)
    assert found[0] == found[1]
