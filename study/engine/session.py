"""What is open while a study, or a plan, is worked on: its ledger, workers, recorder and view; Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import lineage, tracking
from pipeline.config import Params, to_tree
from pipeline.tracking import TrackingError
from study.engine.coordinator import Limits, Outcome
from study.engine.live import make_view
from study.engine.request import seconds
from study.state.errors import StudyError
from study.state.history import History, fold
from study.state.journal import STOP, Journal
from study.state.ledger import Ledger, read
from study.stores.addresses import STORES, locate_storage, read_stores, storage_problem
from study.stores.supervisor import Recorder
from study.workers.protocol import Executor
from study.workers.slots import slots


@dataclass(frozen=True)
class Session:
    """What is open while a study, or a plan, is worked on."""

    journal: Journal
    executor: Executor
    recorder: Recorder
    limits: Limits


@dataclass(frozen=True)
class Result:
    """How a session ended.

    problems : what is not recorded yet
    page : of the report, None where none was written
    """

    history: History
    outcome: Outcome
    reason: str | None
    problems: list[str]
    page: Path | None = None


def end(session: Session, outcome: Outcome, reason: str | None, report: Callable[[History], Path | None]) -> Result:
    """Close a session, write the report, which MLflow gets with its folder where it says anything new, and await the recorder."""
    journal, history = session.journal, session.journal.history
    session.executor.close()
    journal.record("closed", outcome=outcome, reason=reason)
    page, problems = None, []
    try:
        page = report(history)
        if page is not None and (not history.artifacts or history.artifacts[-1]["time"] < history.latest):
            journal.record("artifacts", path=str(page.parent), folder="report")
    except OSError as error:
        problems = [f"the report was not written: {error}; the same command tries again"]
    return Result(history, outcome, reason, problems + session.recorder.finish(), page)


def begin(
    stack: ExitStack,
    folder: Path,
    params: Params,
    created: Callable[[], Mapping[str, Any]],
    opened: Mapping[str, Any],
    stores: tuple[tracking.Store, str],
) -> Session:
    """Hold the ledger, make it if there is none, start the workers and the recorder; ``stack`` ends them all.

    created : content of the event that makes the study; opened : of the session's, besides what every one has

    Raises
    ------
    StudyError
        Another process works on it.
    """
    allowed = seconds(params.study.timeout) if params.study.timeout else None
    try:
        ledger = stack.enter_context(Ledger.open(folder))
    except BlockingIOError:
        raise StudyError(running(folder.name)) from None
    if fold(read(folder)) is None:
        ledger.append("created", **lineage.without_passwords(dict(created())))
    history = fold(read(folder))
    assert history is not None
    (folder / STOP).unlink(missing_ok=True)
    executor = make_executor(params)  # first: its workers import torch while we get ready
    stack.callback(executor.close)
    history.apply(ledger.append("opened", **lineage.without_passwords(_opening(params, executor) | dict(opened))))
    limits = Limits(params.study.trials, None if allowed is None else time.monotonic() + allowed)
    recorder = stack.enter_context(Recorder(folder, *stores))
    interrupted = stack.enter_context(_interruptible())
    view = stack.enter_context(make_view(history, [slot.name for slot in executor.slots]))
    journal = Journal(ledger, history, view, interrupted, recorder.look_after)
    return Session(journal, executor, recorder, limits)


def make_executor(params: Params) -> Executor:
    """The executor that the configuration names, its workers starting.

    Raises
    ------
    ConfigError
        Ray is not installed, its cluster does not answer, or there is no such device.
    """
    study, train = params.study, params.train
    if study.engine == "ray":
        from study.workers.ray import Ray  # an extra: not everybody has it

        return Ray(None, study.workers, study.per_gpu, threads=train.threads, device=train.device)
    from study.workers.local import Local

    return Local(slots(study, train), threads=train.threads)


def places(
    params: Params, folder: Path, changes: Mapping[str, Any], root: Path, environ: Mapping[str, str]
) -> tuple[tracking.Store, str]:
    """Where MLflow and Optuna record, if both answer. A study that has used a server stays with it, unless told otherwise."""
    store = tracking.locate(params.tracking, environ)
    url = locate_storage(params.study, environ, root)
    if (folder / STORES).exists():
        before, url_before = read_stores(folder)
        if "study.storage" not in changes and not url_before.startswith("sqlite:"):
            url = url_before
        if "tracking.uri" not in changes and before.database is None:
            store = before
    for why in (tracking.problem(store) if store.required else None, storage_problem(url)):
        if why:
            raise TrackingError(why)
    return store, url


def _opening(params: Params, executor: Executor) -> dict[str, Any]:
    return {
        "trials": params.study.trials,
        "study": to_tree(params.study),
        "workers": [slot.name for slot in executor.slots],
        "engine": params.study.engine,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(["study", *sys.argv[1:]]),
    }


def running(name: str) -> str:
    return f"{name} is running already; look at it with `study status {name} --watch`, or stop it with `study stop {name}`"


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, or the process was asked to end; a second time ends it at once."""
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
