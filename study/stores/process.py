"""The recorder's process: two followers of one ledger, each in a thread, that fail and come back without the other."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event as Signal
from threading import Lock, Thread
from typing import Any

import sqlalchemy
import sqlalchemy.event

from pipeline import artifacts
from pipeline.lineage import without_password
from pipeline.tracking.client import RefusedError, is_passing
from study.state import ledger
from study.state.ledger import Event
from study.stores.addresses import STORES, read_stores
from study.stores.follower import PATIENCE, Follower, Progress
from study.stores.mlflow import ToMlflow
from study.stores.optuna import LeaseError, StorageRefusedError, ToOptuna
from study.stores.optuna_database import may_pass, write_ahead
from study.stores.supervisor import AWAY, CRASHED, SENT, STATE, read_state, unsent

log = logging.getLogger(__name__)


def serve(folder: Path, wait: bool, patience: float = PATIENCE) -> int:
    """Follow the ledger in ``folder`` until our standard input ends, and then until all is sent; how that went.

    wait : for another recorder of this study to end; and for our input to end. Without it what there is now is sent
    patience : seconds for which a store may be away, once our input has ended
    """
    if wait:
        os.nice(10)  # training goes first where cores are few
        _log_to_stderr()
    with _alone(folder, wait) as alone:
        if not alone:
            return AWAY
        ended = Signal()
        followers = _followers(folder, ended, patience)
        threads = [Thread(target=follower.run, daemon=True) for follower in followers]
        for thread in threads:
            thread.start()
        while wait and not select.select([sys.stdin], [], [], 1.0)[0]:
            if not all(thread.is_alive() or follower.progress.final for thread, follower in zip(threads, followers, strict=True)):
                return CRASHED  # a mistake of ours; the coordinator starts another
        ended.set()
        for thread in threads:
            thread.join()
        return SENT if all(follower.done for follower in followers) else AWAY


def send_left_over(root: Path) -> int:
    """Send the backlog of studies that nobody runs; return 1 if any remains."""
    folders = sorted(path.parent for path in (root / ledger.STUDIES).glob(f"*/{STORES}"))
    left = [folder for folder in folders if not ledger.held(folder) and (folder / ledger.NAME).exists()]
    problems = 0
    for folder in left:
        serve(folder, wait=False)
        lines = unsent(folder)
        problems += bool(lines)
        print(f"{folder.name}: {'; '.join(lines) or 'all is sent'}")
    if not left:
        print("nothing is left to send")
    return int(bool(problems))


def _followers(folder: Path, ended: Signal, patience: float) -> list[Follower]:
    if not sqlalchemy.event.contains(sqlalchemy.Engine, "connect", write_ahead):
        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", write_ahead)
    store, url = read_stores(folder)
    tell = _State(folder).teller

    def optuna(created: Event) -> ToOptuna:
        return ToOptuna(url, created, folder / ledger.NAME)

    def mlflow(created: Event) -> ToMlflow:
        return ToMlflow(store, created, folder)

    return [
        Follower(folder, optuna, _of_optuna, ended, tell("optuna"), patience),
        Follower(folder, mlflow, _of_mlflow, ended, tell("mlflow"), patience),
    ]


class _Formatter(logging.Formatter):
    """Writes nothing that holds a password, tracebacks least of all."""

    def format(self, record: logging.LogRecord) -> str:
        return without_password(super().format(record))


def _log_to_stderr() -> None:
    """Our standard error is recorder.log; mlflow, which is imported by now, has told the root logger to keep warnings back."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    sys.excepthook = lambda kind, error, trace: log.critical("", exc_info=(kind, error, trace))
    threading.excepthook = lambda told: log.critical("", exc_info=told.exc_value)


def _of_optuna(error: Exception) -> str:
    if isinstance(error, StorageRefusedError):
        return "final"
    return "passing" if isinstance(error, LeaseError) or may_pass(error) else "one"


def _of_mlflow(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return "final"
    return "passing" if is_passing(error) else "one"


class _State:
    """The state file of a study, which both followers write."""

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / STATE, Lock()
        self._told: dict[str, dict[str, Any]] = read_state(folder)

    def teller(self, name: str) -> Callable[[Progress, dict[str, Any]], None]:
        known = self._told.get(name, {})
        self._told[name] = known | asdict(Progress(offset=known.get("offset", 0))) | {"pid": os.getpid()}
        self._write()

        def tell(progress: Progress, about: dict[str, Any]) -> None:
            with self._lock:
                told = self._told[name] | asdict(progress) | about
                told["warnings"] = list(progress.warnings)
                if told != self._told[name]:
                    self._told[name] = told
                    self._write()

        return tell

    def _write(self) -> None:
        try:
            artifacts.write_sealed(self._path, self._told)
        except OSError as error:  # a full disk, most likely; the stores are what matters
            log.warning("%s: %s", self._path, error)


@contextmanager
def _alone(folder: Path, wait: bool) -> Iterator[bool]:
    """Be the only recorder of a study; yields False, at once, where another is and we do not wait."""
    with ExitStack() as stack:
        try:
            stack.enter_context(artifacts.locked(folder / "recorder", wait=wait))
            alone = True
        except BlockingIOError:
            alone = False
        yield alone
