"""Ablations on real workers: each row once on each seed, kills included, recorded in MLflow, reported."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from projects import Project
from ruamel.yaml import YAML

from study.state.history import History, fold
from study.state.ledger import read

FILE = {
    "description": "width and learning rate",
    "base": {"params": "params.yaml"},
    "seeds": 2,
    "factors": {
        "train.lr": {
            "values": [0.0001, 0.01],
            "hypothesis": "ten epochs need large steps",
            "claim": "train.lr: 0.01 beats 0.0001",
        },
        "width": {"bundles": {"wide": {"model.dense": [{"out": 64}]}}},
    },
}


@pytest.fixture
def project(tmp_path: Path):
    made = Project(tmp_path, "ablate-mine", train={"epochs": 4, "batch_size": 32, "lr": 0.01})
    YAML(typ="safe").dump(FILE, tmp_path / "mine.yaml")
    yield made
    made.close()


def history(project: Project) -> History:
    found = fold(read(project.folder))
    assert found is not None
    return found


def test_an_ablation_trains_each_row_once_on_each_seed_and_judges_its_hypothesis(project) -> None:
    ended = project.study("ablate", "mine.yaml")
    assert ended.returncode == 0, ended.stderr
    runs = history(project).planned
    assert [run.key for run in runs] == [f"{row}.s{index}" for index in (0, 1) for row in rows(project)]
    assert all(run.state == "COMPLETE" and run.test is None for run in runs)
    assert {(run.replicate, run.seed) for run in runs} == {(0, 0), (1, 1)}
    assert len({run.group for run in runs}) == 3
    page = (project.root / "reports/ablations/mine/index.html").read_text()
    assert "ten epochs need large steps" in page
    assert "train.lr: 0.01 beats 0.0001" in page
    kept = [event["folder"] for event in project.events if event["kind"] == "artifacts"]
    assert kept == ["report"]  # in MLflow, with the run of the ablation
    assert len(list(project.root.glob("mlartifacts/**/report/index.html"))) == 1
    verified = project.study("status", "ablate-mine", "--verify")
    assert (verified.returncode, verified.stdout) == (0, "ledger, Optuna and MLflow agree\n"), verified


def rows(project: Project) -> list[str]:
    return list(dict.fromkeys(run.origin for run in history(project).planned))


def test_the_same_command_trains_nothing_again_more_seeds_add_to_it_and_other_rows_are_refused(project) -> None:
    assert project.study("ablate", "mine.yaml").returncode == 0
    events = len(read(project.folder))
    assert project.study("ablate", "mine.yaml").returncode == 0
    assert {event["kind"] for event in read(project.folder)[events:]} == {"opened", "closed"}
    assert project.study("ablate", "mine.yaml", "--seeds", "3").returncode == 0
    assert sorted({run.replicate for run in history(project).planned}) == [0, 1, 2]
    project.write(train={"epochs": 2, "batch_size": 32, "lr": 0.01})
    refused = project.study("ablate", "mine.yaml")
    assert refused.returncode == 2
    assert "base.s0: train.epochs: 4 in the study, 2 asked for" in refused.stderr


def test_a_killed_ablation_goes_on_and_every_training_is_there_once(project) -> None:
    process = project.begin("ablate", "mine.yaml", "--seeds", "4")
    project.await_events("ended", 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ended = project.study("ablate", "mine.yaml", "--seeds", "4")
    assert ended.returncode == 0, ended.stderr
    runs = history(project).planned
    assert len(runs) == 12
    assert all(run.state == "COMPLETE" for run in runs)
    ends = [event["run"] for event in read(project.folder) if event["kind"] == "ended"]
    assert sorted(ends) == sorted({run.key for run in runs})


def test_rows_that_diverge_are_a_result_not_the_end_of_the_ablation(project) -> None:
    tree = {**FILE, "factors": {"train.lr": {"values": [1e30, 1e35]}}, "set": {"train.lr": 1e38, "train.optimizer": "sgd"}}
    YAML(typ="safe").dump(tree, project.root / "mine.yaml")
    ended = project.study("ablate", "mine.yaml")
    assert ended.returncode == 0, ended.stderr  # divergence is a result
    assert {(run.state, run.cause) for run in history(project).planned} == {("FAIL", "diverged")}


def test_a_row_is_traced_shown_and_listed_like_a_trial(project) -> None:
    assert project.study("ablate", "mine.yaml").returncode == 0
    traced = project.study("trace", "ablate-mine/width-wide.s1")
    assert traced.returncode == 0, traced.stderr
    assert "seed 1 of row width-wide" in traced.stdout
    assert history(project).runs["width-wide.s1"].fingerprint in traced.stdout
    assert "width-wide" in project.study("status", "ablate-mine").stdout
    assert "6/6" in project.study("list").stdout
    refused = project.study("report", "ablate-mine")
    assert refused.returncode == 2
    assert "its own command writes the report" in refused.stderr
