"""What a study writes and shows: events, files of its runs, the view. Where the disk is full it waits, and loses nothing."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pipeline import artifacts
from study.state.history import History, Run
from study.state.ledger import Event, Ledger

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
CHECKPOINT = "checkpoint.safetensors"
STOP = "stop"  # a file of this name in the study's folder asks whoever works on it to stop


class View(Protocol):
    """What people see of a running study."""

    def update(self, history: History, event: Event) -> None: ...

    def say(self, text: str) -> None: ...

    def tick(self, history: History, problems: list[str]) -> None: ...


class Journal:
    """Keeps the ledger, the history that is read off it, and what people see in step.

    interrupted : whether Ctrl-C was pressed
    problems : lines to show: stores that are away
    """

    def __init__(
        self,
        ledger: Ledger,
        history: History,
        view: View,
        interrupted: Callable[[], bool],
        problems: Callable[[], list[str]],
    ) -> None:
        self.ledger, self.history, self.view = ledger, history, view
        self._interrupted, self._problems = interrupted, problems
        self._unseen = False  # nobody looks any more
        self._disk: str | None = None  # what cannot be written at present

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.ledger.folder

    def stop_asked(self) -> bool:
        """By Ctrl-C, by the end of the process being asked for, or by ``study stop``."""
        return self._interrupted() or (self.folder / STOP).exists()

    def record(self, kind: str, **content: Any) -> None:
        """Write an event, take it in, and show it."""
        event = self._durably("the ledger", partial(self.ledger.append, kind, **content))
        self.history.apply(event)
        self._show(lambda: self.view.update(self.history, event))

    def say(self, text: str) -> None:
        """Tell what begins now, where no event does."""
        self._show(lambda: self.view.say(text))

    def tick(self) -> None:
        """Draw what people see anew, as time passes."""
        self._show(lambda: self.view.tick(self.history, self._shown_problems()))

    def _show(self, draw: Callable[[], None]) -> None:
        """A terminal that is gone, or a pipe that nobody reads any more, ends no study."""
        if not self._unseen:
            try:
                draw()
            except (OSError, SystemExit):  # with which rich answers a broken pipe
                self._unseen = True

    def keep(self, run: Run, files: Mapping[str, bytes]) -> None:
        """Put files, by name, into the folder of a run, each as a whole."""
        if CHECKPOINT in files:  # after a power failure no checkpoint may be ahead of the ledger
            self._durably("the ledger", self.ledger.sync)
        for name, content in files.items():
            self._durably(name, partial(artifacts.write_bytes, self.folder_of(run) / name, content))

    def folder_of(self, run: Run) -> Path:
        """Where its files are."""
        return self.folder / "runs" / run.key

    def _durably(self, what: str, write: Callable[[], Any]) -> Any:
        """Write, again and again while the disk is full: workers train on meanwhile, and wait when they have to."""
        while True:
            try:
                result = write()
            except OSError as error:
                if error.errno not in FULL or self._interrupted():
                    raise
                self._disk = f"{what} cannot be written: {error.strerror}; make room, and the study goes on"
                self.tick()
                time.sleep(1.0)
            else:
                self._disk = None
                return result

    def _shown_problems(self) -> list[str]:
        return [*([self._disk] if self._disk else []), *self._problems()]
