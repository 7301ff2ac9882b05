"""Compare Optuna's storage and MLflow with a study's ledger."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.lineage import without_password
from pipeline.tracking import Store, number
from pipeline.tracking.client import cut
from pipeline.tracking.group import Observed
from study.state import ledger
from study.state.history import History, Run, fold
from study.stores import mapping
from study.stores.optuna import STATE
from study.stores.optuna_database import trials

LONGEST = 6000  # characters of a parameter in MLflow


def verify(folder: Path, store: Store, storage_url: str) -> list[str]:
    """Return every disagreement between the ledger in ``folder``, Optuna's storage and MLflow, a line each; [] if they agree.

    For a running study they include what the recorder has not written yet.
    """
    events = ledger.read(folder)
    history = fold(events)
    if history is None:
        return [f"there is no study in {folder}"]
    alive = ledger.held(folder)
    in_optuna = [f"Optuna: {line}" for line in _optuna(history, storage_url)]
    return in_optuna + [f"MLflow: {line}" for line in _mlflow(history, store, mapping.identity(events[0]), alive, folder)]


def _optuna(history: History, url: str) -> Iterator[str]:
    stored = trials(url, history.spec.name)
    if stored is None:
        yield f"there is no study {history.spec.name}"
        return
    expected = {run.trial: run for run in history.trials}
    yield from _missing_and_extra(map(str, expected), [str(trial.number) for trial in stored], "trial")
    for trial in stored:
        run = expected.get(trial.number)
        if run is None:
            continue
        values = run.values if run.state == "COMPLETE" else None
        pairs = {
            "state": (STATE[run.state].name, trial.state.name),
            "values": (values, trial.values),
            "parameters": (run.params, trial.params),
            "intermediate values": (mapping.reported(history, run), trial.intermediate_values),
            "cause": (run.cause, trial.user_attrs.get("cause")),
            "reason": (run.reason, trial.user_attrs.get("reason")),
        }
        yield from _differences(f"trial {run.trial}", pairs)


def _mlflow(history: History, store: Store, name: str, alive: bool, folder: Path) -> Iterator[str]:
    group = Observed.of(store, name)
    if group is None:
        yield f"there is no experiment {store.experiment} in {without_password(store.uri)}"
        return
    if group.parent is None:
        yield f"there is no run of study {history.spec.name}"
        return
    status = mapping.study_status(history, alive)
    yield from _differences("the study", {"status": (status, group.parent.status)})
    members = group.members()
    yield from _missing_and_extra(history.runs, [key for key, _ in members], "run")
    for key, stored in members:
        run = history.runs.get(key)
        if run is not None:
            curve = group.curve(stored.info.run_id, mapping.CURVE)  # a recorder may have made the run since the group was read
            yield from _differences(f"run {key}", _pairs(run, stored, curve, status == "RUNNING"))
    for run in mapping.models(history):
        kept = (folder / "runs" / run.key / "model.json").exists()  # a study from another machine has none
        if kept and run.key in group.children and not group.has_model(group.children[run.key]):
            yield f"run {run.key} has no model"


def _pairs(run: Run, stored: Any, curve: Sequence[tuple[int, float]], running: bool) -> dict[str, tuple[Any, Any]]:
    """Return pairs of the ledger's and MLflow's values of a run, by name."""
    params = {name: cut(value, LONGEST) for name, value in mapping.run_params(run).items()}
    results = {point.name: point.value for point in (*mapping.results(run), *mapping.scores(run))} if run.ended else {}
    tags = mapping.state_tags(run)
    return {
        "status": (mapping.run_status(run, running), stored.info.status),
        "parameters": (params, {name: value for name, value in stored.data.params.items() if name in params}),
        "tags": (tags, {name: stored.data.tags.get(name) for name in tags}),
        "epochs": (
            [(epoch.epoch, number(epoch.validation_accuracy)) for epoch in run.epochs],
            [(step, value) for step, value in curve],
        ),
        "results": (results, {name: stored.data.metrics.get(name) for name in results}),
        "begin": (run.asked, stored.info.start_time),
        "end": (run.ended, stored.info.end_time if run.ended else None),
    }


def _missing_and_extra(expected: Iterable[str], stored: Sequence[str], what: str) -> Iterator[str]:
    wanted, counted = list(expected), Counter(stored)
    yield from (f"{what} {key} is missing" for key in wanted if key not in counted)
    yield from (f"{what} {key} is not in the ledger" for key in counted if key not in wanted)
    yield from (f"{what} {key} occurs {times} times" for key, times in counted.items() if times > 1)


def _differences(what: str, pairs: dict[str, tuple[Any, Any]]) -> Iterator[str]:
    for name, (ours, theirs) in pairs.items():
        if not _same(ours, theirs):
            yield f"{what}: {name} {_short(theirs)}, {_short(ours)} in the ledger"


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9) or (math.isnan(ours) and math.isnan(theirs))
    return bool(ours == theirs)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
