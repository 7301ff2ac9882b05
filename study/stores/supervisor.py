"""The recorder: a process that brings Optuna's storage and MLflow to where a study's ledger is, off the training path."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline import artifacts
from pipeline.tracking.run import CALM
from pipeline.tracking.store import Store
from study.state import ledger
from study.stores.addresses import write_stores

STATE = "state.json"
SENT, AWAY, CRASHED = 0, 3, 1  # how a recorder ends
RESTARTS = 5  # in finish
RESPITE = 1.0  # seconds between two starts
STARTING = 90.0  # seconds for which a process may show no sign of life: importing mlflow takes that long where all is busy
LATER = "`python -m study.stores` sends what is missing, and so does the next `study run` of this study"


class Recorder:
    """The recorder of a study under way. Whatever becomes of it, nothing is lost: the ledger has it."""

    def __init__(self, folder: Path, store: Store, storage_url: str) -> None:
        """folder : of the study, with its ledger; nothing is started before the ``with``"""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._finished: list[str] | None = None
        write_stores(folder, store, storage_url)

    def __enter__(self) -> Self:
        self._spawn()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """After an error nobody waits: the process sends the rest by itself."""
        if self._finished is None and self._process is not None:
            self._close_pipe()

    def look_after(self) -> list[str]:
        """Start the process again if it died; what keeps it from its stores now, a line each."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None and time.monotonic() - self._started > RESPITE:
            self._close_pipe()
            self._spawn()
        problems = [state["problem"] for state in read_state(self._folder).values() if state.get("problem")]
        crashed = [f"the recorder ended with status {code}, see {self._folder / 'recorder.log'}"] if code else []
        return problems + crashed

    def finish(self, patience: float = 30.0) -> list[str]:
        """End the process when all is sent; what is not, and how it gets sent later.

        patience : seconds to wait without any progress, once the process has begun
        """
        if self._finished is None:
            assert self._process is not None
            self._finished = self._wait(patience)
        return self._finished

    def _wait(self, patience: float) -> list[str]:
        assert self._process is not None
        self._close_pipe()
        restarts, last, seen = RESTARTS, time.monotonic(), read_state(self._folder)
        while (code := self._process.poll()) != SENT:
            if (state := read_state(self._folder)) != seen:
                last, seen = time.monotonic(), state
            begun = any(told.get("pid") == self._process.pid for told in state.values())
            if code not in (None, AWAY) and restarts:
                restarts, last = restarts - 1, time.monotonic()
                self._spawn()
                self._close_pipe()
            elif code is not None or time.monotonic() - last > (patience if begun else max(patience, STARTING)):
                break
            time.sleep(0.05)
        return unsent(self._folder)

    def _spawn(self) -> None:
        self._started = time.monotonic()
        log = os.open(self._folder / "recorder.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(log, "ab") as out:
            os.fchmod(log, 0o600)  # of one that an earlier version made too
            self._process = subprocess.Popen(
                [sys.executable, "-m", "study.stores", str(self._folder)],
                stdin=subprocess.PIPE,  # its end tells the recorder that we have ended, however that came about
                stdout=out,
                stderr=out,
                env={**os.environ, **CALM},
                process_group=0,  # Ctrl-C is for us; the recorder still has our last words to send
            )

    def _close_pipe(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()


def read_state(folder: Path) -> dict[str, dict[str, Any]]:
    """How far each follower has come, by its name, ``optuna`` and ``mlflow``; none where none has begun.

    Each is a :class:`study.stores.follower.Progress` as plain data, with the ``pid`` of the recorder that wrote it.
    """
    path = folder / STATE
    return artifacts.read_sealed(path) if path.exists() else {}


def unsent(folder: Path) -> list[str]:
    """What of a study is not in its stores, a line each."""
    state, lines = read_state(folder), []
    size = (folder / ledger.NAME).stat().st_size
    for name, shown in (("optuna", "Optuna's storage"), ("mlflow", "MLflow")):
        told = state.get(name, {})
        lines += [f"{shown}: {warning}" for warning in told.get("warnings", ())]
        if told.get("problem") and told.get("final"):
            lines.append(f"{shown} does not take the study: {told['problem']}")
        elif told.get("problem"):
            lines.append(f"{shown} lacks part of the study: {told['problem']}; {LATER}")
        elif told.get("offset", 0) < size:
            lines.append(f"{shown} lacks part of the study, see {folder / 'recorder.log'}; {LATER}")
    return lines
