"""A small project with studies in it, driven through the command line in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from study.state.history import History, fold
from study.state.ledger import STUDIES, Event, read, tail

CLI = "from study.cli.main import main; main()"
FAULTY = (
    """\
import faults
from study.engine import session
from study.workers.local import Local
from study.workers.slots import slots
session.make_executor = lambda params: Local(slots(params.study, params.train), work=faults.as_planned)
"""
    + CLI
)  # the same, with workers that fail as planned
SPACE = {
    "description": "small networks",
    "parameters": {
        "model.dense": {"repeat": {"low": 1, "high": 2}, "each": {"out": {"low": 8, "high": 64}}},
        "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    },
}
PARAMS: dict[str, Any] = {
    "data": {"limit": 300},
    "model": {"dense": [{"out": 16}]},
    "train": {"epochs": 3, "batch_size": 32},
    "study": {"space": "space.yaml", "trials": 6, "pruner": "none", "finalists": {"top": 0}, "workers": 2},
}
PATIENCE = 120.0  # seconds until something that never happens is a failure


class Project:
    """``environ`` is what the commands see; ``sections`` replace keys of :data:`PARAMS`."""

    def __init__(self, root: Path, name: str = "mine", **sections: dict[str, Any]) -> None:
        self.root, self.name = root, name
        self.folder = root / STUDIES / name
        self.write(**sections)
        YAML(typ="safe").dump(SPACE, root / "space.yaml")
        away = ("DVC_ROOT", "MLFLOW_TRACKING_URI", "STUDYLINE_STORAGE")
        self.environ = {key: value for key, value in os.environ.items() if key not in away}
        self.environ["PYTHONPATH"] = str(Path(__file__).parent)
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, **sections: dict[str, Any]) -> None:
        tree = {key: {**PARAMS.get(key, {}), **sections.get(key, {})} for key in PARAMS.keys() | sections.keys()}
        YAML(typ="safe").dump(tree, self.root / "params.yaml")

    def study(self, *arguments: str, code: str = CLI) -> subprocess.CompletedProcess[str]:
        """Run ``study …`` to its end."""
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=self.root, env=self.environ, capture_output=True, text=True, timeout=600)

    def run(self, *arguments: str, code: str = CLI) -> subprocess.CompletedProcess[str]:
        return self.study("run", "--name", self.name, *arguments, code=code)

    def start(self, *arguments: str, code: str = CLI) -> subprocess.Popen[bytes]:
        """Begin ``study run`` and return at once; its output goes to ``log.txt``."""
        return self.begin("run", "--name", self.name, *arguments, code=code)

    def begin(self, *arguments: str, code: str = CLI) -> subprocess.Popen[bytes]:
        """Begin ``study …`` and return at once; its output goes to ``log.txt``."""
        command = [sys.executable, "-c", code, *arguments]
        with (self.root / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.root, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        return (self.root / "log.txt").read_text()[-4000:]

    @property
    def events(self) -> list[Event]:
        return read(self.folder)

    @property
    def history(self) -> History:
        history = fold(self.events)
        assert history is not None, "there is no study"
        return history

    def await_events(self, kind: str, count: int = 1) -> None:
        """Wait until the ledger holds so many events of a kind."""
        deadline, offset, seen = time.monotonic() + PATIENCE, 0, 0
        while time.monotonic() < deadline:
            events, offset = tail(self.folder, offset)
            seen += sum(event["kind"] == kind for event in events)
            if seen >= count:
                return
            assert self.process is None or self.process.poll() is None, f"it ended early\n{self.log}"
            time.sleep(0.005)
        raise AssertionError(f"{seen} of {count} events {kind}\n{self.log}")
