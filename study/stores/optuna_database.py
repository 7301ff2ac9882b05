"""Open Optuna's database, and read from it a study that another machine ran.

Only this module and :mod:`study.stores.optuna` use Optuna's storages; the coordinator works in memory.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy.exc
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from pipeline.lineage import without_password
from pipeline.tracking.store import alone_with, read_only
from study.state import ledger
from study.state.history import fold
from study.state.ledger import Event
from study.stores.mapping import identity

HOLD = 60.0  # seconds for which a lease is valid
ASKED, EPOCHS, PAUSED, OVER = "studyline:asked", "studyline:epochs", "studyline:paused", "studyline:ended"
KEPT = ("opened", "winner", "tested")  # kinds whose latest event is a user attribute of the study in the storage
STAYS = sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.NotSupportedError, sqlalchemy.exc.ProgrammingError
GONE = "Record does not exist."  # Optuna's message for a deleted study or trial
T = TypeVar("T")


def write_ahead(connection: Any, _: object = None) -> None:
    """Switch SQLite to write-ahead logging with occasional syncs: readers do not wait, and commits are cheap.

    A power failure may lose the last commits, not the database; they are written again from the ledger.
    """
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.OperationalError):  # of a connection that only reads, which refuses
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


def connect(url: str) -> RDBStorage:
    """Open Optuna's storage at a URL of :func:`study.stores.addresses.locate_storage`; create it if missing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with alone_with(url, lambda fresh: _open(fresh).engine.dispose()):
        return _open(url)


def _open(url: str, create: bool = True) -> RDBStorage:
    timeout = {"timeout": 20} if url.startswith("sqlite") else {"connect_timeout": 5}
    template = url.replace("{", "{{").replace("}", "}}")  # Optuna takes a URL for a template
    return RDBStorage(template, engine_kwargs={"connect_args": timeout, "pool_pre_ping": True}, skip_table_creation=not create)


def may_pass(error: BaseException | None) -> bool:
    """Return whether a retry may succeed: the storage is unreachable, locked, full or failing, or the study was deleted."""
    while error is not None:
        if isinstance(error, sqlalchemy.exc.DBAPIError):
            return error.connection_invalidated or not isinstance(error, STAYS)
        if isinstance(error, sqlalchemy.exc.TimeoutError) or (isinstance(error, KeyError) and error.args == (GONE,)):
            return True
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            return True
        error = error.__cause__ or error.__context__
    return False


def stranger(lease: Any) -> str | None:
    """Return the machine and process of a valid lease of another machine, else None."""
    if not lease or lease["host"] == socket.gethostname() or time.time() - lease["time"] > HOLD:
        return None
    return f"{lease['host']} (process {lease['pid']})"


def _with_study(url: str, name: str, read: Callable[[RDBStorage, int], T]) -> T | None:
    """Return ``read(storage, study)``, or None if the storage has no study of this name. Writes nothing."""
    address = read_only(url, "studies")
    if address is None:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        storage = _open(address, create=False)
        return read(storage, storage.get_study_id_from_name(name))
    except KeyError:
        return None
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def trials(url: str, name: str) -> list[FrozenTrial] | None:
    """Return all trials of a study in the storage, by number; None if it has no study of this name."""
    return _with_study(url, name, lambda storage, study: storage.get_all_trials(study, deepcopy=False))


def holder(url: str, name: str) -> str | None:
    """Return which other machine holds the study's lease, or None; the clocks of both machines must agree to a minute."""
    return _with_study(url, name, lambda storage, study: stranger(storage.get_study_user_attrs(study).get("coordinator")))


def adopt(url: str, name: str) -> list[Event] | None:
    """Return the first events of a ledger that continues a study in the storage; None if there is no such study of ours.

    Ended trials are complete except for their weights. Paused trials keep their epochs; when promoted they train again up to
    there, with the same numbers. Running trials start over. The winner and its test score are known: the confirmation is
    repeated, as its weights are missing, but test is not read again for the same winner.
    """
    return _with_study(url, name, _events)


def restore(folder: Path, events: list[Event]) -> None:
    """Write the events of :func:`adopt` as the ledger of a study, atomically.

    Raises
    ------
    FileExistsError
        There is a ledger already; it is left unchanged.
    BlockingIOError
        Another process holds it.
    """
    fresh = folder / f".{ledger.NAME}.{os.getpid()}"
    with ledger.Ledger.open(folder):  # excludes another restoring process
        if ledger.read(folder):
            raise FileExistsError(f"{folder / ledger.NAME} exists already; the same command continues it")
        try:
            with fresh.open("wb") as file:
                file.writelines(json.dumps(event, allow_nan=False).encode() + b"\n" for event in events)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(folder / ledger.NAME)
        finally:
            fresh.unlink(missing_ok=True)


def identity_problem(url: str, folder: Path) -> str | None:
    """Return why the storage cannot record the study in ``folder`` and the remedy, in one line; None if it can.

    Takes a few queries for any size of study. Returns None without a ledger; :func:`adopt` makes one.
    """
    events = ledger.read(folder)
    history = fold(events)
    if history is None:
        return None
    name, starts = history.spec.name, {run.trial: run.asked for run in history.trials}

    def look(storage: RDBStorage, study: int) -> str | None:
        created = storage.get_study_user_attrs(study).get("created")
        if created is not None and identity(json.loads(created)) != identity(events[0]):
            return another(name, url)
        if _trial(storage, study, len(starts)) is not None:
            return (
                f"Optuna's storage at {without_password(url)} has more trials of {name} than {folder / ledger.NAME};"
                f" move {folder} away to continue from the storage, or start another study (--new)"
            )
        # A ledger and a storage that diverged stay so: compare the last trial that both have.
        both = bisect_left(range(len(starts)), True, key=lambda number: _trial(storage, study, number) is None)
        last = _trial(storage, study, both - 1)
        if last is not None and last.system_attrs.get(ASKED, {}).get("asked") != starts[both - 1]:
            return foreign(both - 1, name, url)
        return None

    return _with_study(url, name, look)


def another(name: str, url: str) -> str:
    return f"Optuna's storage holds another study named {name}; {_remedy(name, url)}"


def foreign(trial: int, name: str, url: str) -> str:
    return (
        f"trial {trial} of {name} in Optuna's storage is not the one of this ledger: the study also ran from another folder,"
        f" or another program adds trials to it; {_remedy(name, url)}"
    )


def _remedy(name: str, url: str) -> str:
    command = f"optuna delete-study --study-name {name} --storage {without_password(url)}"
    return f"start a study of another name (--new or --name), or delete the one in the storage: {command}"


def _trial(storage: RDBStorage, study: int, number: int) -> FrozenTrial | None:
    """Return the trial of this number; None if the storage has none."""
    try:
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study, number))
    except KeyError:
        return None


def _events(storage: RDBStorage, study: int) -> list[Event] | None:
    attrs = storage.get_study_user_attrs(study)
    if "created" not in attrs:
        return None
    events: list[Event] = [json.loads(attrs["created"]), *(json.loads(attrs[name]) for name in KEPT if name in attrs)]
    for trial in storage.get_all_trials(study, deepcopy=False):
        events += _events_of(trial)
    return sorted(events, key=lambda event: event["time"])


def _events_of(trial: FrozenTrial) -> list[Event]:
    run, start = str(trial.number), dict(trial.system_attrs[ASKED])
    asked = start.pop("asked")
    distributions = {name: optuna.distributions.distribution_to_json(item) for name, item in trial.distributions.items()}
    whole = {"phase": "search", "trial": trial.number, "params": trial.params, "distributions": distributions, **start}
    events: list[Event] = [{"kind": "asked", "time": asked, "run": run, **whole}]
    columns = dict(trial.system_attrs.get(EPOCHS, {}))
    times = columns.pop("time", [])
    for index, when in enumerate(times):
        epoch = {name: column[index] for name, column in columns.items()}
        events.append({"kind": "epoch", "time": when, "run": run, "epoch": epoch})
    over, last = trial.system_attrs.get(OVER), times[-1] if times else asked
    if over:
        ending = {name: trial.user_attrs.get(name) for name in ("cause", "reason")}
        events.append({"kind": "ended", "run": run, "state": trial.state.name, "values": trial.values, **ending, **over})
    elif paused := trial.system_attrs.get(PAUSED):
        events.append({"kind": "paused", "time": last, "run": run, **paused})
    return events
