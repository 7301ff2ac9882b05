"""A store that follows a study's ledger, in a thread of the recorder's process: tried again while it is away."""

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

INTERVAL = 2.0  # seconds from one look at the ledger to the next, and from one try to the next
PATIENCE = 30.0  # seconds that a study which has ended waits for a store that is away
Chore = tuple[str, Callable[[], None]]  # what it is, in words, and how it is done
log = logging.getLogger(__name__)


class Store(Protocol):
    """What follows: Optuna's storage or MLflow. Everything may be asked of it twice."""

    @property
    def about(self) -> dict[str, Any]:
        """What the state file tells of it besides."""

    def begin(self, history: History) -> None:
        """Called once, before anything else."""

    def follow(self, history: History, run: Run) -> None:
        """Bring one run to where it is; runs come in the order in which they were asked for."""

    def chores(self, history: History, alive: bool) -> Iterable[Chore]:
        """What is to be done for the study as a whole; alive : whether its coordinator lives."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class Progress:
    """How far a follower has come.

    offset : in bytes of the ledger; all before it is in the store
    left : runs that are not yet as the ledger has them
    problem : why nothing is sent at present; None if all is well
    final : whether trying again is of no use
    warnings : what the store did not take and was left out, a line each
    """

    offset: int = 0
    left: int = 0
    problem: str | None = None
    final: bool = False
    warnings: tuple[str, ...] = ()


class Follower:
    """Keeps one store up to date until the coordinator has ended and all is sent.

    connect : reaches the store, given the event of the study's creation
    ended : set when the coordinator has ended
    tell : is told of all progress
    judge : of an error, whether it is ``passing``, ``final``, or concerns one run only (``one``)
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[Event], Store],
        judge: Callable[[Exception], str],
        ended: Signal,
        tell: Callable[[Progress, dict[str, Any]], None],
        patience: float = PATIENCE,
    ) -> None:
        self._folder, self._connect, self._judge, self._ended, self._tell = folder, connect, judge, ended, tell
        self._patience = patience
        self._events: list[Event] = []  # before the study was created: none
        self._history: History | None = None
        self._store: Store | None = None
        self._read = 0
        self._sessions = 0  # that had begun when we did
        self._left: dict[str, None] = {}  # keys of runs, in the order of the ledger
        self.progress = Progress()

    def run(self) -> None:
        """Follow. Returns when the coordinator has ended and all is sent, or the store has been away for too long then."""
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
        """Whether another session has begun, which has a recorder too."""
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
        told = time.monotonic()
        for key in [key for key in history.runs if key in self._left]:
            self._one(f"run {key}", partial(self._store.follow, history, history.runs[key]))
            del self._left[key]
            if time.monotonic() - told > 1:
                told = time.monotonic()
                self._note(left=len(self._left), problem=None)
        for what, do in self._store.chores(history, alive):
            self._one(what, do)

    def _one(self, what: str, send: Callable[[], None]) -> None:
        """Send; what the store refuses for good is left out, and told."""
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
        self._tell(self.progress, self._store.about if self._store else {})


def _sessions(history: History) -> int:
    return sum(event["kind"] == "opened" for event in history.sessions)


def line(error: Exception) -> str:
    """An error in one line, without passwords."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # Optuna says only that something went wrong
    return without_password((str(error).strip() or type(error).__name__).splitlines()[0][:300])
