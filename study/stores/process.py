"""The recorder's process: two followers of one ledger in threads, which fail and recover independently."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable
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
    """Follow the ledger in ``folder`` until standard input ends and everything is sent; return the exit status.

    wait : for another recorder of this study and for the end of standard input; else send the present events only
    patience : seconds to wait for an unreachable store after standard input has ended
    """
    if wait:
        os.nice(10)  # training has priority if cores are few
        _log_to_stderr()
    with artifacts.sole(folder / "recorder", wait) as alone:
        if not alone:
            return AWAY
        ended = Signal()
        followers = _followers(folder, ended, patience)
        threads = [Thread(target=follower.run, daemon=True) for follower in followers]
        for thread in threads:
            thread.start()
        while wait and not select.select([sys.stdin], [], [], 1.0)[0]:
            if not all(thread.is_alive() or follower.progress.final for thread, follower in zip(threads, followers, strict=True)):
                return CRASHED  # a bug of ours; the coordinator starts another recorder
        ended.set()
        for thread in threads:
            thread.join()
        return SENT if all(follower.done for follower in followers) else AWAY


def send_left_over(root: Path) -> int:
    """Send the backlog of inactive studies; return 1 if any remains."""
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
    reporter = _State(folder).reporter

    def optuna(created: Event) -> ToOptuna:
        return ToOptuna(url, created, folder / ledger.NAME)

    def mlflow(created: Event) -> ToMlflow:
        return ToMlflow(store, created, folder)

    return [
        Follower(folder, optuna, _judge_optuna, ended, reporter("optuna"), patience),
        Follower(folder, mlflow, _judge_mlflow, ended, reporter("mlflow"), patience),
    ]


class _Formatter(logging.Formatter):
    """Removes passwords from all messages, including tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return without_password(super().format(record))


def _log_to_stderr() -> None:
    """Log to standard error, which is recorder.log, from level WARNING on; mlflow has raised the root logger's level."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    sys.excepthook = lambda kind, error, trace: log.critical("", exc_info=(kind, error, trace))
    threading.excepthook = lambda args: log.critical("", exc_info=args.exc_value)


def _judge_optuna(error: Exception) -> str:
    if isinstance(error, StorageRefusedError):
        return "final"
    return "passing" if isinstance(error, LeaseError) or may_pass(error) else "one"


def _judge_mlflow(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return "final"
    return "passing" if is_passing(error) else "one"


class _State:
    """The state file of a study, written by both followers."""

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / STATE, Lock()
        self._states: dict[str, dict[str, Any]] = read_state(folder)

    def reporter(self, name: str) -> Callable[[Progress, dict[str, Any]], None]:
        known = self._states.get(name, {})
        self._states[name] = known | asdict(Progress(offset=known.get("offset", 0))) | {"pid": os.getpid()}
        self._write()

        def report(progress: Progress, about: dict[str, Any]) -> None:
            with self._lock:
                state = self._states[name] | asdict(progress) | about
                state["warnings"] = list(progress.warnings)
                if state != self._states[name]:
                    self._states[name] = state
                    self._write()

        return report

    def _write(self) -> None:
        try:
            artifacts.write_sealed(self._path, self._states)
        except OSError as error:  # probably a full disk; the stores matter more
            log.warning("%s: %s", self._path, error)
