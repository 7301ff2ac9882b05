"""The ledger of a study: every event on disk before anything follows from it.

One JSON object a line, appended by the coordinator alone. The state of a study is a fold over its ledger; Optuna's storage
and MLflow follow it. So a process may die between any two steps, and a database may be away, without a result being lost
or told twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

Event = dict[str, Any]

STUDIES = Path("studies")  # below the project's root: one folder a study
NAME = "ledger.jsonl"
TRIES = 10
UNSYNCED = ("epoch", "started")  # if the machine's power fails these are trained again, to the same numbers


class Ledger:
    """The open ledger of one study. Only its holder appends; anybody may read."""

    def __init__(self, folder: Path, file: FileIO) -> None:
        self.folder = folder
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Ledger]:
        """Hold the ledger in ``folder``, made if missing; a line that a killed process left half-written is dropped.

        Raises
        ------
        BlockingIOError
            Another process holds it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with FileIO(folder / NAME, "a+") as file:
            _lock(file)
            file.seek(0)
            file.truncate(file.readall().rfind(b"\n") + 1)
            yield cls(folder, file)

    def append(self, kind: str, **content: Any) -> Event:
        """Write one event; when this returns it is on disk.

        Raises
        ------
        OSError
            The disk is full, say. Then nothing was written, and the same call may be repeated.
        """
        event = {"kind": kind, "time": time.time_ns() // 1_000_000, **content}
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
            if kind not in UNSYNCED:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise
        return event

    def sync(self) -> None:
        """Have on disk what was appended without syncing."""
        os.fsync(self._file.fileno())


def _lock(file: FileIO) -> None:
    """Hold the file; a reader that only asks whether it is held does so for an instant, which is waited for."""
    for _ in range(TRIES):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read(folder: Path) -> list[Event]:
    """The events in a study's folder; none where there is no study."""
    return tail(folder, 0)[0]


def tail(folder: Path, offset: int) -> tuple[list[Event], int]:
    """The whole events from a byte offset on, and the offset where the next ones will begin."""
    try:
        with (folder / NAME).open("rb") as file:
            file.seek(offset)
            lines = file.read()
    except FileNotFoundError:
        return [], offset
    end = lines.rfind(b"\n") + 1
    return [json.loads(line) for line in lines[:end].splitlines()], offset + end


def held(folder: Path) -> bool:
    """Whether a living coordinator holds the ledger."""
    try:
        with (folder / NAME).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
