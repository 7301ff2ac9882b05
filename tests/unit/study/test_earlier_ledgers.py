"""A ledger as it was written before epochs had all of today's measures: it opens, and its contents are typed."""

import json
from pathlib import Path

import pytest

from study.engine import finalists
from study.report import tables
from study.report.facts import Facts
from study.report.page import build
from study.space.space import Space
from study.state.history import History, fold
from study.state.objective import OBJECTIVES
from study.state.records import Epoch, Finalist, RunTest, Winner, content_of

EVENTS = [json.loads(line) for line in Path(__file__).with_name("earlier_ledger.jsonl").read_text().splitlines()]


@pytest.fixture
def history() -> History:
    history = fold(EVENTS)
    assert history is not None
    return history


def written(event: dict) -> dict:
    return {name: value for name, value in event.items() if name not in ("kind", "time")}


def test_its_epochs_lack_the_new_measures_and_show_a_dash(history):
    run = history.trials[0]
    epoch = next(event["epoch"] for event in EVENTS if event["kind"] == "epoch" and event["run"] == run.key)
    assert "validation_macro_f1" not in epoch
    assert isinstance(run.epochs[0], Epoch)
    assert {name: getattr(run.epochs[0], name) for name in epoch} == epoch
    assert OBJECTIVES["macro_f1"].shown(run) == "–"
    assert OBJECTIVES["accuracy"].value(run) == run.accuracy
    assert history.spec.params.evaluate.costs is None


def test_its_winner_is_the_one_that_is_judged_today(history):
    event = next(event for event in EVENTS if event["kind"] == "winner")
    assert isinstance(history.winner, Winner)
    assert all(isinstance(item, Finalist) for item in history.winner.finalists)
    assert finalists.judge(history) == history.winner
    assert json.loads(json.dumps(content_of(history.winner))) == {
        name: event[name] for name in event if name not in ("kind", "time")
    }


def test_its_test_results_come_back_as_they_were_written(history):
    event = next(event for event in EVENTS if event["kind"] == "tested")
    assert history.test is not None
    assert json.loads(json.dumps(content_of(history.test))) == {
        name: event[name] for name in event if name not in ("kind", "time")
    }
    score = history.runs["a.s0"].test
    assert isinstance(score, RunTest)
    assert content_of(score) == EVENTS[-1]["test"]


def test_its_report_is_written_with_empty_columns(history):
    space = Space.of("small", history.spec.tree)
    row = tables.leaders(Facts(history, space), lambda run: None).records()[0]
    assert row["macro_f1"] is row["expected_cost"] is None
    tree = build(history, space=space, pages=lambda run: None, now=0).tree
    assert tree["winner"]["trial"] == history.winner.trial
    assert tree["tested"]["first"]["n"] == 2000


def test_what_a_later_version_adds_is_left_out(history):
    later = [
        {**event, "epoch": {**event["epoch"], "validation_mood": 1.0}} if event["kind"] == "epoch" else event for event in EVENTS
    ]
    assert fold(later).runs == history.runs
