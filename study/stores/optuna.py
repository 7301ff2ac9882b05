"""Copy a study's ledger to Optuna's database, for Optuna's dashboard and for other machines.

The search does not read it. A recorder finds at its start what was written before, so it may be killed anywhere.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.tracking import number
from study.state.history import ENDED, History, Run
from study.state.ledger import Event
from study.state.objective import OBJECTIVES
from study.state.records import content_of
from study.stores.follower import Chore, line
from study.stores.mapping import identity, reported
from study.stores.optuna_database import ASKED, EPOCHS, KEPT, OVER, PAUSED, another, connect, foreign, may_pass, stranger

RENEW = 20.0  # seconds between two renewals of the lease
LATE = 5_000  # milliseconds; an end written later than this gets its true time
LONGEST = 60_000  # bytes of a text that every database accepts


class LeaseError(RuntimeError):
    """Another machine runs the study now."""


class StorageRefusedError(RuntimeError):
    """The storage refuses the study for good; the message names the remedy."""


class ToOptuna:
    """Writes the updates of a study to Optuna's storage.

    ledger : path of the ledger, recorded in the storage
    """

    def __init__(self, url: str, created: Event, ledger: Path) -> None:
        """Open the study, created if missing.

        Raises StorageRefusedError if the storage holds another study of the same name.
        """
        self.storage = connect(url)
        self._url, self._name = url, created["spec"]["name"]
        self._renewed, self._holds = 0.0, False
        self._study = self._open(created, ledger)
        self._known = {trial.number: trial for trial in self.storage.get_all_trials(self._study, deepcopy=False)}

    def _open(self, created: Event, ledger: Path) -> int:
        spec, name = created["spec"], self._name
        objectives = spec["params"]["study"]["objectives"]
        directions = [StudyDirection.MAXIMIZE if OBJECTIVES[one].more else StudyDirection.MINIMIZE for one in objectives]
        study: int
        try:
            study = self.storage.create_new_study(directions, name)
        except optuna.exceptions.DuplicatedStudyError:
            study = self.storage.get_study_id_from_name(name)
        attrs = self.storage.get_study_user_attrs(study)
        if "created" in attrs and identity(json.loads(attrs["created"])) != identity(created):
            raise StorageRefusedError(another(name, self._url))
        about = {
            "created": json.dumps(created),
            "fingerprint": spec["fingerprint"],
            "space": spec["space"],
            "git_commit": created["lineage"].get("git_commit"),
            "ledger": str(ledger),
        }
        for key, value in about.items():
            if attrs.get(key) != value:
                self.storage.set_study_user_attr(study, key, value)
        self._kept = {key: attrs.get(key) for key in KEPT}
        return study

    def follow(self, history: History, run: Run) -> None:
        """Update one trial of the search; other runs are not recorded. New trials come in order of number.

        Raises StorageRefusedError if the storage has trials that are not in this ledger.
        """
        if run.phase != "search":
            return
        if self._holds:  # there may be a thousand trials to write
            self._hold(history, alive=True)
        known = self._known.get(run.trial)
        if known is None:
            self._begin(history, run)
        elif known.system_attrs.get(ASKED, {}).get("asked") != run.asked:
            raise StorageRefusedError(foreign(run.trial, self._name, self._url))
        elif not known.state.is_finished():
            self._update(history, run, known)

    def _begin(self, history: History, run: Run) -> None:
        """Create the trial. If Optuna refuses it, create a failed trial in its place, so that trial numbers agree."""
        try:
            self._create(run, self._whole(history, run))
        except Exception as error:
            if isinstance(error, StorageRefusedError) or may_pass(error):
                raise
            over = {"time": run.ended or run.asked, "kept_epoch": None, "latency": None}
            refusal = {"cause": "refused", "reason": f"Optuna did not take it: {line(error)}"}
            attrs = {ASKED: _asked(run), OVER: over}
            self._create(run, create_trial(state=TrialState.FAIL, user_attrs=_about(run) | refusal, system_attrs=attrs))
            raise

    def _whole(self, history: History, run: Run) -> FrozenTrial:
        """Return the trial with all its data."""
        return create_trial(
            state=STATE[run.state],
            values=_values(run),
            params=run.params,
            distributions={name: json_to_distribution(text) for name, text in run.distributions.items()},
            user_attrs=_about(run) | _ending(run),
            system_attrs={ASKED: _asked(run)} | _kept(run),
            intermediate_values=reported(history, run),
        )

    def _create(self, run: Run, whole: FrozenTrial) -> None:
        """Create a trial in one transaction."""
        whole.datetime_start = _date(run.asked)
        whole.datetime_complete = _date(run.ended) if run.ended else None
        trial = self.storage.create_new_trial(self._study, whole)
        if self.storage.get_trial_id_from_study_id_trial_number(self._study, run.trial) != trial:
            raise StorageRefusedError(foreign(run.trial, self._name, self._url))
        whole.number, whole._trial_id = run.trial, trial
        self._known[run.trial] = whole

    def _update(self, history: History, run: Run, known: FrozenTrial) -> None:
        """Write what is new; the state last, as an ended trial cannot be changed."""
        trial = known._trial_id
        for step, value in reported(history, run).items():
            if step not in known.intermediate_values:
                self.storage.set_trial_intermediate_value(trial, step, value)
                known.intermediate_values[step] = value
        for name, value in _kept(run).items():
            if known.system_attrs.get(name) != value:
                self.storage.set_trial_system_attr(trial, name, value)
                known.system_attrs[name] = value
        if run.state not in ENDED:
            return
        for name, value in _ending(run).items():
            self.storage.set_trial_user_attr(trial, name, value)
        self.storage.set_trial_state_values(trial, STATE[run.state], _values(run))
        known.state = STATE[run.state]
        if run.ended and time.time() * 1000 - run.ended > LATE:
            with self.storage.engine.begin() as connection:
                row = {"time": _date(run.ended), "trial": trial}
                connection.execute(sqlalchemy.text("UPDATE trials SET datetime_complete = :time WHERE trial_id = :trial"), row)

    @property
    def about(self) -> dict[str, Any]:
        return {}

    def begin(self, history: History) -> None:
        """Do nothing: opening the storage creates the study."""

    def chores(self, history: History, alive: bool) -> Iterator[Chore]:
        """Yield the updates of the study: its settings and winner, and the lease."""
        yield "the winner", lambda: self._keep(history)
        yield "the lease", lambda: self._hold(history, alive)

    def _keep(self, history: History) -> None:
        """Record settings, winner and test, so that another machine can continue without reading test again."""
        opened = next((event for event in reversed(history.sessions) if event["kind"] == "opened"), None)
        whole = opened and opened | {"changes": history.changes, "seeds": history.seeds}
        found = {"winner": history.winner, "tested": history.tested}
        events = {name: {"kind": name, "time": one.time, **content_of(one)} for name, one in found.items() if one}
        for name, event in {"opened": whole, **events}.items():
            text = event and json.dumps(event)
            if text and text != self._kept[name]:
                self.storage.set_study_user_attr(self._study, name, text)
                self._kept[name] = text

    def _hold(self, history: History, alive: bool) -> None:
        """Renew the lease of this machine on the study; release it once the study has ended here.

        Raises LeaseError if another machine runs the study; a retry may succeed.
        """
        if alive and time.monotonic() - self._renewed < RENEW:
            return
        lease = self.storage.get_study_user_attrs(self._study).get("coordinator")
        if alive and (other := stranger(lease)):
            raise LeaseError(f"the study also runs on {other}; stop one of them, as both write to the same storage")
        session = next((event for event in reversed(history.sessions) if event["kind"] == "opened"), {})
        here = {"host": socket.gethostname(), "pid": session.get("pid"), "time": time.time()} if alive else None
        if here or (lease and lease["host"] == socket.gethostname()):
            self.storage.set_study_user_attr(self._study, "coordinator", here)
        self._renewed, self._holds = time.monotonic(), alive

    def close(self) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()


STATE = {
    "RUNNING": TrialState.RUNNING,
    "PAUSED": TrialState.RUNNING,
    "COMPLETE": TrialState.COMPLETE,
    "PRUNED": TrialState.PRUNED,
    "FAIL": TrialState.FAIL,
}


def _asked(run: Run) -> dict[str, Any]:
    """Return the ledger's event of a trial's start, without the fields that Optuna stores itself."""
    names = ("group", "replicate", "seed", "parameters", "multiply_adds", "origin", "asked")
    asked = {"config": run.config.tree} | {name: getattr(run, name) for name in names}
    return asked | ({"problem": run.problem} if run.problem else {})


def _about(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("seed", "group", "replicate", "parameters", "multiply_adds", "origin")}


def _ending(run: Run) -> dict[str, Any]:
    attrs = {name: getattr(run, name) for name in ("cause", "reason", "kept_epoch", "latency")}
    return {name: value for name, value in attrs.items() if value is not None and run.state in ENDED}


def _kept(run: Run) -> dict[str, Any]:
    """Return what another machine needs to continue: the epochs, if the trial is paused or has ended."""
    if run.state == "RUNNING":
        return {}
    rows = [asdict(epoch) for epoch in run.epochs]
    epochs = {name: [row[name] for row in rows] for name, value in (rows[0].items() if rows else ()) if value is not None}
    attrs: dict[str, Any] = {} if len(json.dumps(epochs)) > LONGEST else {EPOCHS: epochs}
    if run.state == "PAUSED":
        return attrs | {PAUSED: {"epoch": len(run.epochs), "why": run.waits}}
    return attrs | {OVER: {"time": run.ended, "kept_epoch": run.kept_epoch, "latency": run.latency}}


def _values(run: Run) -> list[float] | None:
    return [number(value) for value in run.values] if run.values and run.state == "COMPLETE" else None


def _date(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000)  # without a zone, as Optuna's own
