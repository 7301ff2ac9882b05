"""A study whose processes are killed again and again loses nothing, doubles nothing, and ends as it should.

25 kills, or as many as the variable STUDYLINE_KILLS says (``make chaos``: 200).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
from projects import CLI, PATIENCE, Project

from pipeline.config import parse
from pipeline.data.dataset import SearchData
from pipeline.training.loop import Training
from study.state.history import ENDED, History
from study.state.ledger import Event, tail

KILLS = int(os.environ.get("STUDYLINE_KILLS", "25"))
VICTIMS = ("worker", "coordinator", "both", "recorder")
SECTIONS = {
    "data": {"limit": 400},
    "train": {"epochs": 9},
    "study": {"pruner": "asha", "finalists": {"top": 2, "seeds": 2}},
}


@pytest.fixture
def project(tmp_path: Path):
    made = Project(tmp_path, **SECTIONS)
    yield made
    made.close()


def next_events(project: Project, offset: int) -> tuple[list[Event], int]:
    """What is new in the ledger; waits for it, or for the end of the process."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        events, reached = tail(project.folder, offset)
        if events or project.process is None or project.process.poll() is not None:
            return events, reached
        time.sleep(0.005)
    raise AssertionError(f"the study stands still\n{project.log}")


def children(project: Project, mark: str) -> list[psutil.Process]:
    """The coordinator's children whose command line holds ``mark``."""
    found = []
    assert project.process is not None
    for child in psutil.Process(project.process.pid).children(recursive=True):
        try:
            if mark in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:  # it has just ended
            continue
    return found


def kill(project: Project, victim: str, chance: random.Random) -> bool:
    """End one or two processes as a power cut would; whether there was one to end."""
    assert project.process is not None
    if victim != "coordinator":
        targets = children(project, "study.stores" if victim == "recorder" else "workers/process.py")
        if not targets:
            return False
        os.kill(chance.choice(targets).pid, signal.SIGKILL)
    if victim in ("coordinator", "both"):
        project.process.kill()
        project.process.wait()
    return True


class Onlooker:
    """Somebody who looks at the study now and then while it is killed: one command at a time, whatever state it meets."""

    LOOKS = ("status mine --verify", "report mine", "status mine", "trace mine/0", "ui --port 5700")

    def __init__(self, project: Project, chance: random.Random) -> None:
        self.project, self.chance = project, chance
        self.looks: Counter[str] = Counter()
        self.log = project.root / "onlooker.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Begin to look, unless the look before goes on; what ``study ui`` serves is closed by the next look."""
        if self.process is not None and self.process.poll() is None:
            self.leave()
            return
        self.check()
        command = self.chance.choice(self.LOOKS)
        self.looks[command] += 1
        arguments = [sys.executable, "-u", "-c", CLI, *command.split()]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(arguments, cwd=self.project.root, env=self.project.environ, stdout=out, stderr=out)

    def leave(self) -> None:
        """End ``study ui`` once it serves; every other command ends by itself."""
        if self.process is not None and "Ctrl-C" in self.log.read_text():
            self.process.send_signal(signal.SIGINT)

    def check(self) -> None:
        """It ended with an answer: there may be disagreement with a store that is behind, or nothing to browse yet."""
        if self.process is not None:
            assert self.process.wait(PATIENCE) in (0, 1, 2), self.log.read_text()
            assert "Traceback" not in self.log.read_text(), self.log.read_text()

    def close(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.process is not None and self.process.poll() is None and time.monotonic() < deadline:
            self.leave()
            time.sleep(0.5)
        self.check()


def test_kills_at_any_moment_lose_no_result_and_double_none(project: Project) -> None:
    chance = random.Random(KILLS)
    kills: Counter[str] = Counter()
    restarts: list[float] = []
    trials, offset = 20, 0
    began, waiting = time.monotonic(), False  # for the first step after a restart
    process = project.start("--trials", str(trials))
    patience = chance.randint(1, 25)  # events until the next kill
    onlooker = Onlooker(project, random.Random(KILLS))  # of its own chance: the kills are the same without it
    while sum(kills.values()) < KILLS:
        events, offset = next_events(project, offset)
        patience -= len(events)
        if waiting and any(event["kind"] == "epoch" for event in events):
            restarts.append(time.monotonic() - began)
            waiting = False
        if process.poll() is not None:  # it came to its end before the next kill: the total is raised
            assert process.returncode == 0, project.log
            trials += 20
        elif patience <= 0:
            victim = chance.choice(VICTIMS)
            kills[victim] += kill(project, victim, chance)
            onlooker.look()
            patience = chance.randint(1, 25)
        if process.poll() is not None:
            began, waiting = time.monotonic(), True
            process = project.start("--trials", str(trials))
    assert process.wait(600) == 0, project.log
    onlooker.close()
    nothing_is_lost_and_nothing_doubled(project, trials)
    assert project.history.deaths >= kills["worker"] // 2  # those that died idle cost nothing
    the_same_numbers_as_an_undisturbed_training(project.history, chance)
    verified = project.study("status", project.name, "--verify")
    assert (verified.returncode, verified.stdout) == (0, "ledger, Optuna and MLflow agree\n"), verified
    restarts.sort()
    told = {
        "kills": kills,
        "looks": onlooker.looks,
        "trials": trials,
        "restarts": len(restarts),
        "worker deaths": project.history.deaths,
    }
    print(f"\nchaos: {json.dumps(told)}")
    if restarts:
        print(f"from restart to the first epoch: median {restarts[len(restarts) // 2]:.1f} s, at most {restarts[-1]:.1f} s")


def nothing_is_lost_and_nothing_doubled(project: Project, trials: int) -> None:
    history = project.history
    assert [run.trial for run in history.trials] == list(range(trials))  # the total is exact
    assert all(run.state in ENDED for run in history.runs.values())  # none is left running
    assert history.winner is not None
    assert history.tested is not None
    ends = Counter(event["run"] for event in project.events if event["kind"] == "ended")
    assert set(ends.values()) == {1}  # none was told twice
    failed = [run for run in history.trials if run.state == "FAIL" and run.cause not in ("diverged", "died")]
    assert not failed, project.log


def the_same_numbers_as_an_undisturbed_training(history: History, chance: random.Random) -> None:
    """Trials that lived through kills end as a training that nobody disturbed."""
    data = SearchData.read(Path(history.lineage.data))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have: sums of more threads round otherwise
    disturbed = [run for run in history.trials if len(run.segments) > 1 and run.state == "COMPLETE"]
    for run in chance.sample(disturbed, min(5, len(disturbed))):
        params = parse({name: run.config.tree[name] for name in ("model", "train")})
        training = Training(params.model, params.train, data, torch.device("cpu"))
        while not training.ended:
            training.run_epoch()
        expected = [(epoch.train_loss, epoch.validation_loss, epoch.validation_accuracy) for epoch in training.history]
        assert [(e.train_loss, e.validation_loss, e.validation_accuracy) for e in run.epochs] == expected
    torch.set_num_threads(threads)
