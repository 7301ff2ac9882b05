"""What a study is in MLflow and in Optuna's storage, computed from its history."""

import math
import re

import pytest
from histories import REST

from pipeline import tracking
from study.stores import mapping
from study.stores.mapping import Point

MLFLOW_TAKES = re.compile(r"[/\w.\- :]{1,250}")  # as a name of a parameter, metric or tag


@pytest.fixture
def tale(story):
    """Two trials that ended, one of them in failure, and one that has done two of ten epochs."""
    tale = story({"train": {"epochs": 30}, "study": {"trials": 7, "objectives": ["accuracy"]}})
    tale.record("opened", study={"trials": 7}, host="here", pid=1)
    tale.trial(0, 0.9, model={"dense": [{"out": 8}], "conv": []})
    tale.trial(1, state="FAIL", model={"conv": [{"out": 4, "kernel": 3}]})
    asked = next(event for event in tale.events if event.get("run") == "0")
    searched = {"params": {"train.lr": 0.1, "model.dense": 1, "model.dense[0].out": 8}}
    tale.events.append({**asked, **searched, "run": "2", "trial": 2, "time": 100})
    for number, (loss, accuracy) in enumerate([(0.5, 0.8), (0.7, 0.9), (0.4, 0.7)], 1):
        epoch = {
            "epoch": number,
            "train_loss": loss,
            "train_accuracy": 0.9,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "lr": 0.1,
        }
        tale.events.append({"kind": "epoch", "time": 100 + number, "run": "2", "epoch": {**epoch, "seconds": 2.0}})
    return tale


def test_names_are_such_as_mlflow_takes(tale) -> None:
    history = tale.history
    for run in history.runs.values():
        for name in (*mapping.run_params(run), *mapping.run_tags(history, run)):
            assert MLFLOW_TAKES.fullmatch(name), name
    assert mapping.slug("model.conv[10].pool") == "model.conv.10.pool"


def test_where_the_search_and_the_configuration_use_one_name_the_searched_value_is_shown(tale) -> None:
    params = mapping.run_params(tale.history.runs["2"])
    assert (params["model.dense"], params["model.dense.0.out"], params["train.lr"]) == ("1", "8", "0.1")
    assert params["train.epochs"] == "30"


def test_a_curve_is_what_follows_the_epochs_that_are_written_already(tale) -> None:
    points = mapping.curve(tale.history.runs["2"], after=2)
    assert {(point.time, point.step) for point in points} == {(103, 3)}
    assert Point("validation/loss", 0.4, 103, 3) in points
    assert {point.name for point in points} == {f"train/{n}" for n in ("loss", "accuracy", "lr", "seconds")} | {
        "validation/loss",
        "validation/accuracy",
    }


def test_results_are_those_of_the_epoch_that_is_kept(tale) -> None:
    tale.record("ended", run="2", state="COMPLETE", values=[0.7], cause=None, reason=None, kept_epoch=3, latency=1.5)
    found = {point.name: point.value for point in mapping.results(tale.history.runs["2"])}
    assert found == {
        "seconds": 6.0,
        "epochs": 3.0,
        "latency_ms": 1.5,
        "best/validation_accuracy": 0.7,
        "best/validation_loss": 0.4,
    }


@pytest.mark.parametrize(("value", "written"), [(math.inf, math.nan), (-math.inf, math.nan), (math.nan, math.nan), (1, 1.0)])
def test_a_value_that_no_chart_can_show_is_no_number(value, written) -> None:
    assert tracking.number(value) == pytest.approx(written, nan_ok=True)


def test_a_family_is_told_by_the_convolutions(tale) -> None:
    families = [mapping.run_tags(tale.history, run)["family"] for run in tale.history.runs.values()]
    assert families == ["mlp", "cnn", "mlp"]


def test_a_failure_is_told_with_its_cause_and_a_success_has_none(tale) -> None:
    success, failure, _ = (mapping.state_tags(run) for run in tale.history.runs.values())
    assert (failure["state"], failure["cause"], failure["reason"]) == ("FAIL", "diverged", "loss is nan")
    assert success.keys() == {"state", "kept_epoch"}


@pytest.mark.parametrize(
    ("closed", "alive", "status", "waiting"),
    [
        (None, True, "RUNNING", "RUNNING"),
        (None, False, "KILLED", "SCHEDULED"),
        ("done", False, "FINISHED", "SCHEDULED"),
        ("stopped", True, "KILLED", "SCHEDULED"),
        ("failed", True, "FAILED", "SCHEDULED"),
    ],
)
def test_the_states_of_study_and_runs(tale, closed, alive, status, waiting) -> None:
    if closed:
        tale.record("closed", outcome=closed, reason=None)
    history = tale.history
    assert mapping.study_status(history, alive) == status
    states = [mapping.run_status(run, status == "RUNNING") for run in history.runs.values()]
    assert states == ["FINISHED", "FAILED", waiting]


def test_a_session_after_the_end_makes_the_study_run_again(tale) -> None:
    tale.record("closed", outcome="done", reason=None)
    tale.record("opened", study={"trials": 9}, host="here", pid=2)
    assert mapping.study_status(tale.history) == "RUNNING"
    assert mapping.study_tags(tale.history)["study.trials"] == "9"
    assert "study.trials" not in mapping.study_params(tale.history)  # a parameter cannot change


def test_optuna_gets_about_ten_values_each_as_things_stood(tale) -> None:
    tale.record("paused", run="2", epoch=3, why="rung 3")
    assert mapping.reported(tale.history, tale.history.runs["2"]) == {3: 0.7}
    for number in range(4, 31):
        epoch = {
            "epoch": number,
            **REST,
            "validation_loss": 0.9,
            "validation_accuracy": 0.99,
            "seconds": 1.0,
        }
        tale.events.append({"kind": "epoch", "time": 200, "run": "2", "epoch": epoch})
    assert mapping.reported(tale.history, tale.history.runs["2"]) == dict.fromkeys(range(3, 31, 3), 0.7)


def test_the_note_tells_the_best_trial_until_there_is_a_winner(tale) -> None:
    assert mapping.note(tale.history).startswith("**Best so far: trial 0**, accuracy 0.9;")
    tale.record("winner", trial=0, group="g", finalists=[], summary="trial 0 wins")
    tale.record("closed", outcome="failed", reason="the first 3 trials failed alike")
    note = mapping.note(tale.history)
    assert note.startswith("**trial 0 wins**")
    assert note.endswith("It stopped: the first 3 trials failed alike")


def test_a_study_without_a_complete_trial_says_so(story) -> None:
    assert mapping.note(story().history).startswith("**No trial has completed.**")
    assert mapping.models(story().history) == []


def test_studies_of_one_name_are_told_apart_by_when_and_what(story) -> None:
    one, other = story().events[0], {**story().events[0], "time": 1}
    assert mapping.identity(one) == mapping.identity(dict(one))
    assert mapping.identity(one) != mapping.identity(other)
