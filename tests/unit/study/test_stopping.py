"""Asynchronous successive halving."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.engine.halving import next_stop, promotable, rungs
from study.state.history import Run
from study.state.objective import OBJECTIVES
from study.state.records import Epoch, RunConfig

ACCURACY = OBJECTIVES["accuracy"]


def run(trial: int, accuracies: list[float], state: str = "PAUSED", epochs: int = 9, keep: str = "best") -> Run:
    history = [
        Epoch(n, train_loss=0.0, train_accuracy=0.0, validation_loss=1 - value, validation_accuracy=value, lr=0.1, seconds=1.0)
        for n, value in enumerate(accuracies, 1)
    ]
    config = {"model": {}, "train": {"epochs": epochs, "keep": keep}}
    made = Run(str(trial), "search", trial, {}, {}, RunConfig(config), str(trial), 0, 0, 1, 1, "sampler", 0, state=state)  # type: ignore[arg-type]
    made.epochs = history
    made.waits = f"rung {len(accuracies)}" if state == "PAUSED" else None
    return made


@pytest.mark.parametrize(
    ("epochs", "first", "reduction", "ladder"),
    [
        (30, 1, 3, (1, 3, 10, 30)),
        (12, 1, 3, (1, 4, 12)),
        (10, 1, 3, (1, 3, 10)),
        (10, 2, 3, (3, 10)),
        (27, 1, 3, (1, 3, 9, 27)),
        (16, 1, 2, (1, 2, 4, 8, 16)),
        (1, 1, 3, (1,)),
        (5, 5, 3, (5,)),
    ],
)
def test_rungs_divide_the_epochs_again_and_again(epochs, first, reduction, ladder) -> None:
    assert rungs(epochs, first, reduction) == ladder


@given(st.integers(1, 500), st.integers(1, 20), st.integers(2, 6))
def test_rungs_ascend_to_the_full_training_and_begin_no_earlier_than_asked(epochs, first, reduction) -> None:
    ladder = rungs(epochs, first, reduction)
    assert ladder[-1] == epochs
    assert list(ladder) == sorted(set(ladder))
    assert all(rung >= min(first, epochs) for rung in ladder)


def test_a_trial_stops_at_the_next_rung_or_at_its_own_end() -> None:
    ladder = (1, 3, 9)
    assert next_stop(run(0, [], "RUNNING"), ladder) == 1
    assert next_stop(run(0, [0.5]), ladder) == 3
    assert next_stop(run(0, [0.5] * 3), ladder) == 9
    assert next_stop(run(0, [0.5], epochs=2), ladder) == 2


def test_a_trial_that_was_killed_after_a_rungs_last_epoch_is_still_compared_there() -> None:
    killed = run(0, [0.5, 0.6, 0.7])
    killed.waits = "interrupted"
    assert next_stop(killed, (1, 3, 9)) == 3
    killed.waits = "rung 3"
    assert next_stop(killed, (1, 3, 9)) == 9


def test_one_in_three_goes_on_and_it_is_the_best() -> None:
    trials = [run(0, [0.5]), run(1, [0.9]), run(2, [0.7])]
    chosen = promotable(trials, (1, 3, 9), 3, ACCURACY)
    assert chosen is not None
    assert chosen.trial == 1


def test_nobody_goes_on_before_there_are_enough_to_compare() -> None:
    assert promotable([run(0, [0.5]), run(1, [0.9])], (1, 3, 9), 3, ACCURACY) is None


def test_a_promoted_trial_keeps_its_place_at_the_rung_it_left() -> None:
    trials = [run(0, [0.5]), run(1, [0.9], "RUNNING"), run(2, [0.7])]
    assert promotable(trials, (1, 3, 9), 3, ACCURACY) is None  # the one place is taken by the best
    more = [*trials, run(3, [0.1]), run(4, [0.2]), run(5, [0.3])]
    chosen = promotable(more, (1, 3, 9), 3, ACCURACY)
    assert chosen is not None
    assert chosen.trial == 2


def test_the_highest_rung_goes_first() -> None:
    trials = [run(n, [0.5, 0.5, 0.5 + n / 100]) for n in range(3)] + [run(9, [0.99])]
    chosen = promotable(trials, (1, 3, 9), 3, ACCURACY)
    assert chosen is not None
    assert chosen.trial == 2


def test_what_counts_is_the_value_as_it_stood_at_the_rung() -> None:
    late = run(0, [0.1, 0.99, 0.99], "COMPLETE")  # was the worst at the first rung
    trials = [late, run(1, [0.5]), run(2, [0.4])]
    chosen = promotable(trials, (1, 3, 9), 3, ACCURACY)
    assert chosen is not None
    assert chosen.trial == 1


def test_failed_trials_are_never_promoted_and_the_loss_counts_downwards() -> None:
    trials = [run(0, [0.9], "FAIL"), run(1, [0.5]), run(2, [0.4])]
    assert promotable(trials, (1, 3, 9), 3, ACCURACY) is None
    trials = [run(0, [0.3]), run(1, [0.5]), run(2, [0.4])]
    chosen = promotable(trials, (1, 3, 9), 3, OBJECTIVES["loss"])
    assert chosen is not None
    assert chosen.trial == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(2, 5))
def test_no_more_than_one_in_reduction_is_ever_promoted(values, reduction) -> None:
    trials = [run(n, [value]) for n, value in enumerate(values)]
    promoted = 0
    while (chosen := promotable(trials, (1, 3, 9), reduction, ACCURACY)) is not None:
        chosen.state, promoted = "RUNNING", promoted + 1
    assert promoted == len(values) // reduction
