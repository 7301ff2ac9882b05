"""Follow a study's ledger and update one store, in a thread of the recorder; retry while the store is unreachable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event as Signal
from typing import Any, Protocol

from pipeline.lineage import without_password
from study.state import ledger
from study.state.history import History, Run, fold
from study.state.ledger import Event

INTERVAL = 2.0  # seconds between two reads of the ledger, or two tries
PATIENCE = 30.0  # seconds that an ended study waits for an unreachable store
Chore = tuple[str, Callable[[], None]]  # description and action
log = logging.getLogger(__name__)


class Store(Protocol):
    """A copy of the ledger: Optuna's storage or MLflow. Each call may be repeated."""

    @property
    def about(self) -> dict[str, Any]:
        """Further entries of the state file."""

    def begin(self, history: History) -> None:
        """Prepare the store; called once, before anything else."""

    def follow(self, history: History, run: Run) -> None:
        """Update one run; runs come in the order of the ledger."""

    def chores(self, history: History, alive: bool) -> Iterable[Chore]:
        """Yield the updates of the study as a whole; ``alive``: its coordinator is running."""

    def close(self) -> None:
        """Close connections."""


@dataclass(frozen=True)
class Progress:
    """The progress of a follower.

    offset : in bytes; the ledger up to here is in the store
    left : number of runs to update
    problem : why nothing can be sent now, or None
    final : whether a retry is useless
    warnings : refused and omitted updates, a line each
    """

    offset: int = 0
    left: int = 0
    problem: str | None = None
    final: bool = False
    warnings: tuple[str, ...] = ()


class Follower:
    """Keeps one store up to date until the coordinator has ended and everything is sent.

    connect : opens the store, given the event of the study's creation
    ended : set when the coordinator has ended
    report : receives each change of progress, with the store's ``about``
    judge : classifies an error as ``passing``, ``final``, or of one update only (``one``)
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[Event], Store],
        judge: Callable[[Exception], str],
        ended: Signal,
        report: Callable[[Progress, dict[str, Any]], None],
        patience: float = PATIENCE,
    ) -> None:
        self._folder, self._connect, self._judge, self._ended, self._report = folder, connect, judge, ended, report
        self._patience = patience
        self._events: list[Event] = []  # the study's creation, once read
        self._history: History | None = None
        self._store: Store | None = None
        self._read = 0
        self._sessions = 0  # started before this follower
        self._left: dict[str, None] = {}  # keys of runs, in the order of the ledger
        self.progress = Progress()

    def run(self) -> None:
        """Follow until the coordinator has ended and everything is sent, or the store stays unreachable for too long."""
        last = time.monotonic()
        while True:
            ended, before = self._ended.is_set(), self.progress
            self._attempt(alive=not ended)
            if self.progress.final or (ended and (self.done or self._superseded)):
                break
            if not ended or (self.progress.offset, self.progress.left) != (before.offset, before.left):
                last = time.monotonic()
            if ended and time.monotonic() - last > self._patience:
                break
            if ended:
                time.sleep(INTERVAL / 4)
            else:
                self._ended.wait(INTERVAL)
        if self._store is not None:
            self._store.close()

    @property
    def done(self) -> bool:
        size = (self._folder / ledger.NAME).stat().st_size
        return self.progress.problem is None and not self._left and self.progress.offset == size

    @property
    def _superseded(self) -> bool:
        """Whether another session, with its own recorder, has started."""
        return self._history is not None and _sessions(self._history) > self._sessions

    def _attempt(self, alive: bool) -> None:
        try:
            self._take_in()
            if self._history is not None and (alive or not self._superseded):
                self._send(self._history, alive)
            self._note(offset=self._read, left=0, problem=None)
        except Exception as error:
            verdict = self._judge(error)
            log.warning("", exc_info=error)
            self._note(left=len(self._left), problem=line(error), final=verdict == "final")
            if self._store is not None:
                self._store.close()
                self._store = None

    def _take_in(self) -> None:
        events, self._read = ledger.tail(self._folder, self._read)
        if self._history is None:
            self._history = fold(events)
            self._events = events[:1]
            self._sessions = _sessions(self._history) if self._history else 0
        else:
            for event in events:
                self._history.apply(event)
        self._left |= {event["run"]: None for event in events if "run" in event}

    def _send(self, history: History, alive: bool) -> None:
        if self._store is None:
            self._store = self._connect(self._events[0])
            self._store.begin(history)
            self._left = dict.fromkeys(history.runs)
        noted = time.monotonic()
        for key in [key for key in history.runs if key in self._left]:
            self._one(f"run {key}", partial(self._store.follow, history, history.runs[key]))
            del self._left[key]
            if time.monotonic() - noted > 1:
                noted = time.monotonic()
                self._note(left=len(self._left), problem=None)
        for what, do in self._store.chores(history, alive):
            self._one(what, do)

    def _one(self, what: str, send: Callable[[], None]) -> None:
        """Send one update; add a warning if the store refuses it for good."""
        try:
            send()
        except Exception as error:
            if self._judge(error) != "one":
                raise
            log.warning("%s", what, exc_info=error)
            warning = f"it did not take {what}: {line(error)}"
            if warning not in self.progress.warnings:
                self._note(warnings=(*self.progress.warnings, warning))

    def _note(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)
        self._report(self.progress, self._store.about if self._store else {})


def _sessions(history: History) -> int:
    return sum(event["kind"] == "opened" for event in history.sessions)


def line(error: Exception) -> str:
    """Return the innermost cause of an error in one line, without passwords."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # Optuna's own message has no reason
    return without_password((str(error).strip() or type(error).__name__).splitlines()[0][:300])
