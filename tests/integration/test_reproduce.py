"""A published table, cut short: trained, scored on test once, drawn and reported; stopped in the middle and gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest
from pages import Page
from projects import PATIENCE, Project

from pipeline import artifacts

CUT = ("reproduce", "001", "--quick", "--data-limit", "300")
ROWS = ["exp1", "exp1-bn", "exp2", "exp2-bn"]
SHOWN = {"learning", "confusion", "per_class", "roc", "filters", "responses", "embeddings", "layers"}


@pytest.fixture
def project(tmp_path: Path, shared_data: Path):
    made = Project(tmp_path, "reproduce-001-quick-limit300")
    made.environ["STUDYLINE_MIRROR"] = str(shared_data)
    yield made
    made.close()


def openings(project: Project) -> list[dict[str, object]]:
    return [json.loads(line) for line in (project.root / artifacts.TEST_OPENINGS).read_text().splitlines()]


def test_a_table_is_trained_scored_once_and_reported_with_a_page_of_each_row(project) -> None:
    ended = project.study(*CUT)
    assert ended.returncode == 0, ended.stderr
    runs = project.history.planned
    assert [run.key for run in runs] == [f"{row}.s0" for row in ROWS]
    assert [run.parameters for run in runs] == [4470, 4526, 4368, 4424]
    assert all(run.test and run.test.n == 300 for run in runs)
    assert len(openings(project)) == 2  # of ten digits, and of four merged classes
    report = project.root / "reports/reproduction-quick-limit300"
    assert "300 images, 3 epochs instead of all, 10" in Page((report / "index.html").read_text()).text
    table = pd.read_csv(report / "table.csv")
    assert set(table["verdict"]) == {"not comparable"}
    for row in ROWS:
        page = Page((report / "001" / row / "index.html").read_text())
        assert {f"figure-{name}" for name in SHOWN} <= set(page.attributes("id"))
    verified = project.study("status", project.name, "--verify")
    assert (verified.returncode, verified.stdout) == (0, "ledger, Optuna and MLflow agree\n"), verified
    events = len(project.events)
    assert project.study(*CUT).returncode == 0
    assert {event["kind"] for event in project.events[events:]} == {"opened", "closed"}
    assert len(openings(project)) == 2


def test_stopped_while_its_networks_are_scored_it_goes_on_with_those_that_are_left(project) -> None:
    process = project.begin(*CUT, "--seeds", "3")
    project.await_events("scored")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0, project.log
    assert "all is kept, the same command goes on" in project.log
    scored = [event["run"] for event in project.events if event["kind"] == "scored"]
    assert 1 <= len(scored) < 12
    ended = project.study(*CUT, "--seeds", "3")
    assert ended.returncode == 0, ended.stderr
    scored = [event["run"] for event in project.events if event["kind"] == "scored"]
    assert sorted(scored) == sorted(f"{row}.s{seed}" for row in ROWS for seed in range(3))


def test_a_scorer_that_is_killed_costs_one_line_and_the_same_command_goes_on(project) -> None:
    process = project.begin(*CUT, "--seeds", "3")
    project.await_events("scored")
    for child in psutil.Process(process.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    assert process.wait(PATIENCE) == 1, project.log
    assert "error: a process that scores networks was killed" in project.log
    assert "Traceback" not in project.log
    assert project.study(*CUT, "--seeds", "3").returncode == 0
    scored = [event["run"] for event in project.events if event["kind"] == "scored"]
    assert sorted(scored) == sorted(f"{row}.s{seed}" for row in ROWS for seed in range(3))
