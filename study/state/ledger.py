"""The ledger of a study: every event on disk before anything follows from it.

One JSON object a line, appended by the coordinator alone. The state of a study is a fold over its ledger; Optuna's storage
and MLflow follow it. So a process may die between any two steps, and a database may be away, without a result being lost
or told twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline import line_log
from pipeline.artifacts import DamagedError
from pipeline.line_log import LineLog

Event = dict[str, Any]

STUDIES = Path("studies")  # below the project's root: one folder a study
NAME = "ledger.jsonl"
UNSYNCED = ("epoch", "started")  # if the machine's power fails these are trained again, to the same numbers


class Ledger:
    """The open ledger of one study. Only its holder appends; anybody may read."""

    def __init__(self, folder: Path, log: LineLog) -> None:
        self.folder = folder
        self._log = log

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Ledger]:
        """Hold the ledger in ``folder``, made if missing; a line that a killed process left half-written is dropped.

        Raises
        ------
        BlockingIOError
            Another process holds it.
        DamagedError
            It is not what was written.
        """
        with ExitStack() as stack:
            try:
                log = stack.enter_context(line_log.opened(folder / NAME))
            except DamagedError as error:
                raise _with_remedy(error, folder) from None
            yield cls(folder, log)

    def append(self, kind: str, **content: Any) -> Event:
        """Write one event; when this returns it is on disk.

        Raises
        ------
        OSError
            The disk is full, say. Then nothing was written, and the same call may be repeated.
        """
        event = {"kind": kind, "time": time.time_ns() // 1_000_000, **content}
        self._log.append(event, sync=kind not in UNSYNCED)
        return event

    def sync(self) -> None:
        """Have on disk what was appended without syncing."""
        self._log.sync()


def read(folder: Path) -> list[Event]:
    """Return the events in a study's folder; none where there is no study. Raises DamagedError as :func:`tail`."""
    return tail(folder, 0)[0]


def tail(folder: Path, offset: int) -> tuple[list[Event], int]:
    """Return the whole events from a byte offset on, and the offset where the next ones will begin.

    Raises
    ------
    DamagedError
        An event is not what was written.
    """
    try:
        return line_log.read(folder / NAME, offset)
    except DamagedError as error:
        raise _with_remedy(error, folder) from None


def held(folder: Path) -> bool:
    """Return whether a living coordinator holds the ledger."""
    return line_log.held(folder / NAME)


def _with_remedy(error: DamagedError, folder: Path) -> DamagedError:
    return DamagedError(
        f"{error}; restore it from a copy, or move {folder} away and give the same command: "
        "a search then goes on from what Optuna's storage has of it"
    )
