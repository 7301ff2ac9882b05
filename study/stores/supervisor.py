"""Start and supervise the recorder, the process that copies a study's ledger to Optuna's storage and MLflow."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline import artifacts
from pipeline.tracking.child import close_input, spawn
from pipeline.tracking.store import Store
from study.state import ledger
from study.stores.addresses import write_stores

STATE = "state.json"
SENT, AWAY, CRASHED = 0, 3, 1  # exit status of a recorder
RESTARTS = 5  # in finish
RESPITE = 1.0  # seconds between two starts
STARTING = 90.0  # seconds for a process to start: on a busy machine importing mlflow takes that long
LATER = "`python -m study.stores` sends what is missing, and so does the next `study run` of this study"


class Recorder:
    """The recorder of a running study. If it fails, nothing is lost: the ledger has everything."""

    def __init__(self, folder: Path, store: Store, storage_url: str) -> None:
        """Write the addresses of the stores; entering the context starts the process. folder : of the study"""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._finished: list[str] | None = None
        write_stores(folder, store, storage_url)

    def __enter__(self) -> Self:
        self._spawn()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the pipe of an unfinished recorder; after an error its process sends the rest by itself."""
        if self._finished is None and self._process is not None:
            close_input(self._process)

    def look_after(self) -> list[str]:
        """Restart the process if it died; return its present problems, a line each."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None and time.monotonic() - self._started > RESPITE:
            close_input(self._process)
            self._spawn()
        problems = [state["problem"] for state in read_state(self._folder).values() if state.get("problem")]
        crashed = [f"the recorder ended with status {code}, see {self._folder / 'recorder.log'}"] if code else []
        return problems + crashed

    def finish(self, patience: float = 30.0) -> list[str]:
        """End the process when everything is sent; return what is unsent and how it gets sent later, a line each.

        patience : seconds to wait without progress, once the process has started
        """
        if self._finished is None:
            assert self._process is not None
            self._finished = self._wait(patience)
        return self._finished

    def _wait(self, patience: float) -> list[str]:
        assert self._process is not None
        close_input(self._process)
        restarts, last, seen = RESTARTS, time.monotonic(), read_state(self._folder)
        while (code := self._process.poll()) != SENT:
            if (state := read_state(self._folder)) != seen:
                last, seen = time.monotonic(), state
            begun = any(progress.get("pid") == self._process.pid for progress in state.values())
            if code not in (None, AWAY) and restarts:
                restarts, last = restarts - 1, time.monotonic()
                self._spawn()
                close_input(self._process)
            elif code is not None or time.monotonic() - last > (patience if begun else max(patience, STARTING)):
                break
            time.sleep(0.05)
        return unsent(self._folder)

    def _spawn(self) -> None:
        self._started = time.monotonic()
        self._process = spawn("study.stores", self._folder, self._folder / "recorder.log")


def read_state(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the progress of the followers ``optuna`` and ``mlflow`` by name; empty before they start.

    Each is a :class:`study.stores.follower.Progress` as plain data, with the ``pid`` of the recorder that wrote it.
    """
    path = folder / STATE
    return artifacts.read_sealed(path) if path.exists() else {}


def unsent(folder: Path) -> list[str]:
    """Return what is missing from a study's stores, a line each."""
    state, lines = read_state(folder), []
    size = (folder / ledger.NAME).stat().st_size
    for name, title in (("optuna", "Optuna's storage"), ("mlflow", "MLflow")):
        progress = state.get(name, {})
        lines += [f"{title}: {warning}" for warning in progress.get("warnings", ())]
        if progress.get("problem") and progress.get("final"):
            lines.append(f"{title} does not take the study: {progress['problem']}")
        elif progress.get("problem"):
            lines.append(f"{title} lacks part of the study: {progress['problem']}; {LATER}")
        elif progress.get("offset", 0) < size:
            lines.append(f"{title} lacks part of the study, see {folder / 'recorder.log'}; {LATER}")
    return lines
