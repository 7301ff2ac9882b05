"""One call of ``study run``: create the study or go on with it, search, confirm, read test once, report."""

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

from pipeline import artifacts, lineage, tracking
from pipeline.config import Params, parse, to_tree
from pipeline.data.dataset import open_test
from pipeline.tracking import TrackingError
from study import finalists, stopping
from study.coordinator import STOP, Coordinator, Limits, Outcome
from study.data import Arrays, arrays
from study.definition import Request, changed, kept, known_points, lineage_of, name_of, read_tree, refusal, seconds
from study.errors import StudyError, UsageError
from study.executors import Executor
from study.executors.slots import Growth, slots
from study.history import History, fold
from study.ledger import STUDIES, Event, Ledger, held, read
from study.pages import write_report
from study.proposals import Proposer
from study.recorder import STORES, Recorder, locate_storage, read_stores, storage_problem
from study.space import Space
from study.space.checks import most_epochs
from study.spec import Spec, differences
from study.view import make_view


@dataclass(frozen=True)
class Result:
    """How a session ended.

    report : the page that was written; problems : what is not recorded yet
    """

    history: History
    outcome: Outcome
    reason: str | None
    report: Path | None
    problems: list[str]


def run(request: Request, root: Path, environ: Mapping[str, str]) -> Result:
    """Run a study to its end, or until it is interrupted.

    Raises
    ------
    ConfigError, SpaceError, UsageError, StudyError, DataError, ArchitectureError, TrackingError
        Before anything starts.
    """
    base = read_tree(root / "params.yaml")
    name = name_of(request, base, root)
    folder = root / STUDIES / name
    if held(folder):
        raise StudyError(_running(name))
    asked = parse(changed(base, request.changes))
    history = fold(read(folder))
    found = None if history or request.new else _found(name, asked, root, environ)
    history = fold(found) if found else history
    changes = {**(history.changes if history else {}), **request.changes}
    params = parse(changed(base, changes))
    place = arrays(params.data, root, params.data.mirror or environ.get("STUDYLINE_MIRROR") or None)
    space = Space.load(params.study.space)
    spec = Spec(name, params.study.space, space.tree, params, place.info.fingerprint)
    seeds = [point for origin in request.seed_from for point in known_points(origin, root, space)]
    if history is None:
        space.check(params, place.info.shape, len(place.info.classes))
    elif different := differences(history.spec, spec, space.paths):
        raise UsageError(refusal(name, different))
    store, url = _places(params, folder, request, root, environ)
    if found:
        from study.storage import restore

        restore(folder, found)
        print(f"{name} is not in {STUDIES} but in the storage; it goes on from there")
    if history is None or not url.startswith("sqlite:"):
        _refuse_strangers(url, folder)
    allowed = seconds(params.study.timeout) if params.study.timeout else None
    with ExitStack() as stack:
        try:
            ledger = stack.enter_context(Ledger.open(folder))
        except BlockingIOError:
            raise StudyError(_running(name)) from None
        if history is None:
            about = lineage_of(place, root)
            ledger.append("created", **lineage.without_passwords({"spec": spec.to_tree(), "lineage": about}))
        history = fold(read(folder))
        assert history is not None
        (folder / STOP).unlink(missing_ok=True)
        executor = make_executor(params)  # first: its workers import torch while we get ready
        stack.callback(executor.close)
        opening = _opening(params, executor) | {"changes": kept(changes), "seeds": seeds}
        history.apply(ledger.append("opened", **lineage.without_passwords(opening)))
        deadline = None if allowed is None else time.monotonic() + allowed
        limits = Limits(params.study.trials, deadline)
        recorder = stack.enter_context(Recorder(folder, store, url))
        return _session(stack, ledger, history, space, place, executor, recorder, limits, root)


def _found(name: str, params: Params, root: Path, environ: Mapping[str, str]) -> list[Event] | None:
    """The events of a study that the storage knows and this machine does not."""
    url = locate_storage(params.study, environ, root)
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists():
        return None
    from study.storage import adopt  # SQLAlchemy takes its time, and mostly there is a ledger

    if why := storage_problem(url):
        raise TrackingError(why)
    return adopt(url, name)


def _refuse_strangers(url: str, folder: Path) -> None:
    """Raise where another machine runs this study, or where the storage holds another study of its name."""
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists():
        return
    from study.storage import holder, identity_problem

    if elsewhere := holder(url, folder.name):
        raise StudyError(f"{folder.name} runs on {elsewhere}; stop it there, or wait a minute if that machine is gone")
    if why := identity_problem(url, folder):
        raise UsageError(why)


def _session(
    stack: ExitStack,
    ledger: Ledger,
    history: History,
    space: Space,
    place: Arrays,
    executor: Executor,
    recorder: Recorder,
    limits: Limits,
    root: Path,
) -> Result:
    study = history.spec.study
    interrupted = stack.enter_context(_interruptible())
    proposer = Proposer(history.spec, space, history)
    for seed in history.seeds:
        if all(run.params != seed["params"] for run in history.trials):
            proposer.enqueue(seed["params"], seed["origin"])
    ladder = stopping.rungs(most_epochs(space, history.spec.params.train.epochs), study.first_rung, study.reduction)
    view = stack.enter_context(make_view(history, [slot.name for slot in executor.slots]))
    coordinator = Coordinator(
        ledger, history, proposer, executor, place.search, limits, ladder, view, interrupted, recorder.look_after
    )
    outcome, reason = coordinator.search()
    if outcome == "done" and study.finalists.top:
        outcome, why = coordinator.confirm()
        reason = why or reason
        if outcome == "done" and history.winner and not history.test:
            read_test(coordinator, place, root)
    executor.close()
    coordinator.record("closed", outcome=outcome, reason=reason)
    page, problems = None, []
    if outcome == "done":
        try:
            page = write_report(history, space, root)
            coordinator.record("artifacts", path=str(page.parent), folder="report")
        except OSError as error:
            problems = [f"the report was not written: {error}; `study report {history.spec.name}` tries again"]
    return Result(history, outcome, reason, page, problems + recorder.finish())


def read_test(coordinator: Coordinator, place: Arrays, root: Path) -> None:
    """Open test, once for this winner, and write down what its trainings score there."""
    history = coordinator.history
    assert history.winner is not None
    reader = f"study {history.spec.name}, winner {history.winner['trial']}"
    test, openings = open_test(place.test, root / artifacts.TEST_OPENINGS, history.spec.fingerprint, reader)
    coordinator.record("tested", **finalists.test_read(history, coordinator.ledger.folder, test, openings))


def make_executor(params: Params) -> Executor:
    """The executor that the configuration names, its workers starting.

    Raises
    ------
    ConfigError
        Ray is not installed, its cluster does not answer, or there is no such device.
    """
    study, train = params.study, params.train
    if study.engine == "ray":
        from study.executors.ray import Ray  # an extra: not everybody has it

        return Ray(None, study.workers, study.per_gpu, threads=train.threads, device=train.device)
    from study.executors.local import Local

    places = slots(study, train)
    grows = study.per_gpu == "auto" and study.workers == "auto" and places[0].device == "cuda"
    return Local(places, threads=train.threads, growth=Growth() if grows else None)


def _places(params: Params, folder: Path, request: Request, root: Path, environ: Mapping[str, str]) -> tuple[tracking.Store, str]:
    """Where MLflow and Optuna record, if both answer. A study that has used a server stays with it, unless told otherwise."""
    store = tracking.locate(params.tracking, environ)
    url = locate_storage(params.study, environ, root)
    if (folder / STORES).exists():
        before, url_before = read_stores(folder)
        if "study.storage" not in request.changes and not url_before.startswith("sqlite:"):
            url = url_before
        if "tracking.uri" not in request.changes and before.database is None:
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


def _running(name: str) -> str:
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
