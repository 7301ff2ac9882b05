"""Optuna's database: how it is opened, and what another machine finds in it of a study.

Optuna's storages are touched here and in :mod:`study.stores.optuna` alone, never in the coordinator, which works in memory.
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

HOLD = 60.0  # seconds for which a lease counts
ASKED, EPOCHS, PAUSED, OVER = "studyline:asked", "studyline:epochs", "studyline:paused", "studyline:ended"
KEPT = ("opened", "winner", "tested")  # the latest events of these kinds, which the storage keeps as user attributes of the study
STAYS = sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.NotSupportedError, sqlalchemy.exc.ProgrammingError
GONE = "Record does not exist."  # what Optuna says of a study or trial that somebody deleted
T = TypeVar("T")


def write_ahead(connection: Any, _: object = None) -> None:
    """Have SQLite write ahead and sync now and then: readers do not wait, and a commit costs no seek of the disk.

    The last commits before a power failure may be lost, the database not; the ledger has them, and they are written again.
    """
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.OperationalError):  # of a connection that only reads, which refuses
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


def connect(url: str) -> RDBStorage:
    """Optuna's storage at a URL of :func:`study.stores.addresses.locate_storage`, made if missing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with alone_with(url, lambda fresh: _open(fresh).engine.dispose()):
        return _open(url)


def _open(url: str, create: bool = True) -> RDBStorage:
    timeout = {"timeout": 20} if url.startswith("sqlite") else {"connect_timeout": 5}
    template = url.replace("{", "{{").replace("}", "}}")  # which is what Optuna takes an address for
    return RDBStorage(template, engine_kwargs={"connect_args": timeout, "pool_pre_ping": True}, skip_table_creation=not create)


def may_pass(error: BaseException | None) -> bool:
    """Whether the same may succeed later: the storage is away, locked, full or out of order, or is to be begun again."""
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
    """Who holds a fresh lease on another machine."""
    if not lease or lease["host"] == socket.gethostname() or time.time() - lease["time"] > HOLD:
        return None
    return f"{lease['host']} (process {lease['pid']})"


def _with_study(url: str, name: str, read: Callable[[RDBStorage, int], T]) -> T | None:
    """What ``read`` makes of a study; None where the storage has none of this name. Nothing is written."""
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
    """All trials of a study in the storage, by number; None where it has no study of this name."""
    return _with_study(url, name, lambda storage, study: storage.get_all_trials(study, deepcopy=False))


def holder(url: str, name: str) -> str | None:
    """Which other machine runs the study now, by its lease of the last minute; the clocks of both must agree about the time."""
    return _with_study(url, name, lambda storage, study: stranger(storage.get_study_user_attrs(study).get("coordinator")))


def adopt(url: str, name: str) -> list[Event] | None:
    """The events with which a ledger begins that goes on with a study in the storage; None where it holds none of ours.

    Trials that ended are whole, without their weights. Trials that wait at a rung keep their epochs and train again up to there,
    to the same numbers, when they are promoted; those that were running begin anew. The winner is known, and what it scored on
    test: the confirmation is done again, as its weights are not there, but test is not read again for the same winner.
    """
    return _with_study(url, name, _events)


def restore(folder: Path, events: list[Event]) -> None:
    """Write the ledger of a study, given by :func:`adopt`, whole or not at all.

    Raises
    ------
    FileExistsError
        There is a ledger by now; it is left as it is.
    BlockingIOError
        Another process holds it.
    """
    fresh = folder / f".{ledger.NAME}.{os.getpid()}"
    with ledger.Ledger.open(folder):  # who else restores it meets us here
        if ledger.read(folder):
            raise FileExistsError(f"{folder / ledger.NAME} exists by now; the same command goes on with it")
        try:
            with fresh.open("wb") as file:
                file.writelines(json.dumps(event, allow_nan=False).encode() + b"\n" for event in events)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(folder / ledger.NAME)
        finally:
            fresh.unlink(missing_ok=True)


def identity_problem(url: str, folder: Path) -> str | None:
    """Why the storage will not take the study in ``folder``, and what to do, in one line; None where it will.

    A few queries, whatever the study's size. Of a study without a ledger there is nothing to say: :func:`adopt` makes one.
    """
    events = ledger.read(folder)
    history = fold(events)
    if history is None:
        return None
    name, asked = history.spec.name, {run.trial: run.asked for run in history.trials}

    def look(storage: RDBStorage, study: int) -> str | None:
        created = storage.get_study_user_attrs(study).get("created")
        if created is not None and identity(json.loads(created)) != identity(events[0]):
            return another(name, url)
        if _trial(storage, study, len(asked)) is not None:
            return (
                f"Optuna's storage at {without_password(url)} has more trials of {name} than {folder / ledger.NAME};"
                f" move {folder} away, and the study goes on from the storage; or start another study (--new)"
            )
        # Once a ledger and a storage have parted they stay so: the last trial that both have tells.
        both = bisect_left(range(len(asked)), True, key=lambda number: _trial(storage, study, number) is None)
        last = _trial(storage, study, both - 1)
        if last is not None and last.system_attrs.get(ASKED, {}).get("asked") != asked[both - 1]:
            return foreign(both - 1, name, url)
        return None

    return _with_study(url, name, look)


def another(name: str, url: str) -> str:
    return f"Optuna's storage holds another study named {name}; {_remedy(name, url)}"


def foreign(trial: int, name: str, url: str) -> str:
    return (
        f"trial {trial} of {name} in Optuna's storage is not the one of this ledger: the study was run from another folder too,"
        f" or something else adds trials to it; {_remedy(name, url)}"
    )


def _remedy(name: str, url: str) -> str:
    command = f"optuna delete-study --study-name {name} --storage {without_password(url)}"
    return f"start a study of another name (--new or --name), or delete that one from the storage: {command}"


def _trial(storage: RDBStorage, study: int, number: int) -> FrozenTrial | None:
    """None where the storage has no trial of this number."""
    try:
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study, number))
    except KeyError:
        return None


def _events(storage: RDBStorage, study: int) -> list[Event] | None:
    told = storage.get_study_user_attrs(study)
    if "created" not in told:
        return None
    events: list[Event] = [json.loads(told["created"]), *(json.loads(told[name]) for name in KEPT if name in told)]
    for trial in storage.get_all_trials(study, deepcopy=False):
        events += _events_of(trial)
    return sorted(events, key=lambda event: event["time"])


def _events_of(trial: FrozenTrial) -> list[Event]:
    run, told = str(trial.number), dict(trial.system_attrs[ASKED])
    asked = told.pop("asked")
    distributions = {name: optuna.distributions.distribution_to_json(item) for name, item in trial.distributions.items()}
    whole = {"phase": "search", "trial": trial.number, "params": trial.params, "distributions": distributions, **told}
    events: list[Event] = [{"kind": "asked", "time": asked, "run": run, **whole}]
    columns = dict(trial.system_attrs.get(EPOCHS, {}))
    times = columns.pop("time", [])
    for index, when in enumerate(times):
        epoch = {name: column[index] for name, column in columns.items()}
        events.append({"kind": "epoch", "time": when, "run": run, "epoch": epoch})
    over, last = trial.system_attrs.get(OVER), times[-1] if times else asked
    if over:
        ending = {name: trial.user_attrs.get(name) for name in ("cause", "reason")}
        told = {"state": trial.state.name, "values": trial.values, **ending, **over}
        events.append({"kind": "ended", "run": run, **told})
    elif paused := trial.system_attrs.get(PAUSED):
        events.append({"kind": "paused", "time": last, "run": run, **paused})
    return events
