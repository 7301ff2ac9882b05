"""Record a run: each call appends to a queue on disk and returns; a writer process sends the queue.

``import mlflow`` takes seconds, and a store may be slow or unreachable; neither may delay training.
"""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from pipeline.lineage import without_password
from pipeline.tracking.child import close_input, spawn
from pipeline.tracking.spool import Record, Spool, State
from pipeline.tracking.store import Store, TrackingError, problem

Status = Literal["FINISHED", "FAILED", "KILLED"]

SENT, REFUSED, AWAY = 0, 2, 3  # exit status of a writer: all sent; the store refuses the run; the store is unreachable
RESTARTS = 5
LEFT_OVER = "`python -m pipeline.tracking` sends them, and so does the next run"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """One split that a run reads.

    name : of the data set
    digest : of the data, at most 36 characters
    source : the folder it came from
    shape : of the images, (n, channels, height, width)
    """

    name: str
    context: Literal["training", "validation", "testing"]
    digest: str
    source: str
    shape: tuple[int, ...]
    n_classes: int


@dataclass(frozen=True)
class Recorded:
    """The record of a run; ids are None if nothing was recorded.

    problem : one line if something has not reached the store; it is kept and sent later
    """

    tracking_uri: str | None = None
    run_id: str | None = None
    experiment_id: str | None = None
    model_uri: str | None = None
    problem: str | None = None


class Run:
    """An open run, a context manager: it ends FINISHED, on Ctrl-C KILLED, on any other error FAILED."""

    def __init__(self, store: Store, key: str, opening: Record) -> None:
        """Open the run; if the store is unreachable and not required, it records nothing.

        Raises TrackingError if the store is unreachable and required, or another process records a run of this key.
        """
        self._store = store
        self._spool = Spool.of(store.root, key)
        self._resources = ExitStack()
        self._writer: subprocess.Popen[bytes] | None = None
        self._restarts = RESTARTS
        self._warned = False
        self._recorded: Recorded | None = None
        if reason := problem(store):
            self._stop(reason)
            return
        try:
            self._log = self._resources.enter_context(self._spool.append_to())
        except BlockingIOError:
            raise TrackingError(f"another process is recording the run {key}; wait for it, or end it") from None
        where = {"uri": store.uri, "artifacts": store.artifacts, "experiment": store.experiment}
        known = self._spool.opening(resumed=opening.get("resumed", False))
        self._put({"kind": "open", "id": known or uuid.uuid4().hex[:12], **where, **opening})
        self._spawn()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of one epoch, named like ``train/loss`` so that MLflow groups them; an epoch's first record stays.

        Raises TrackingError if the store refuses the run and is required.
        """
        values = {name: number(value) for name, value in metrics.items()}
        self._put({"kind": "metrics", "step": epoch, "values": values})
        self._look_after_writer()

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record metrics of the run as a whole, at step 0, where MLflow draws bars of several runs."""
        self.log_epoch(0, metrics)

    def log_artifacts(self, path: Path, folder: str = "") -> None:
        """Record a copy of a file, or of all files below a folder, under ``folder`` of the run's artifacts."""
        if self._writer is not None:
            self._put({"kind": "artifacts", "path": self._spool.keep(path), "folder": folder})

    def log_model(self, folder: Path, example: np.ndarray, epoch: int) -> None:
        """Record the classifier in ``folder`` as the run's one model, for ``mlflow models serve``.

        example : at least two images, uint8 (n, channels, height, width), its input example
        epoch : of the weights; the metrics of that epoch become those of the model
        """
        if len(example) < 2:  # with one image torch.export would fix the batch size
            raise ValueError(f"example must have at least 2 images, got {len(example)}")
        if self._writer is not None:
            self._put({"kind": "model", "path": self._spool.keep(folder), "example": example[:5].tolist(), "epoch": epoch})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._put({"kind": "tags", "tags": dict(tags)})

    def describe(self, markdown: str) -> None:
        """Set the description on the run's page."""
        self.set_tags({"mlflow.note.content": markdown})

    def finish(self, status: Status = "FINISHED") -> Recorded:
        """End the run and wait until all is sent, at most 30 s if the store is unreachable; further calls change nothing.

        Raises TrackingError if the store refuses the run and is required.
        """
        if self._recorded is None:
            self._put({"kind": "finish", "status": status})
            self._recorded = self._close()
        return self._recorded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.finish("FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED")
        except TrackingError as refusal:
            if kind is None:
                raise
            log.warning("%s", refusal)  # what ended the training matters more

    def _put(self, record: Record) -> None:
        if self._recorded is None:
            # The time is part of the record: points of equal time, step and value are one point for MLflow.
            self._log.append({**record, "time": time.time_ns() // 1_000_000}, sync=False, allow_nan=True)

    def _spawn(self) -> None:
        self._writer = spawn("pipeline.tracking", self._spool.folder, self._spool.folder / "writer.log")

    def _look_after_writer(self) -> None:
        """Restart a writer that died; warn once if the store is unreachable."""
        if self._writer is None:
            return
        state = self._spool.read_state()
        ended = self._writer.poll()
        if ended == REFUSED:
            self._stop(state.problem or "refused")
        elif ended is not None and self._restarts:
            self._restart()
        elif state.problem and not self._warned:
            self._warned = True
            log.warning("%s; training continues, and its records are sent when the store answers again", state.problem)

    def _stop(self, reason: str) -> None:
        """Continue without a store. Raises TrackingError if it is required."""
        if self._writer is not None:
            close_input(self._writer)
            self._writer.wait()
        self._resources.close()
        self._recorded = Recorded(problem=reason)
        if self._store.required:
            raise TrackingError(reason)
        log.warning("this run is not recorded: %s", reason)

    def _close(self) -> Recorded:
        assert self._writer is not None
        self._look_after_writer()
        if self._recorded:  # just refused
            return self._recorded
        close_input(self._writer)
        while (code := self._writer.wait()) not in (SENT, REFUSED, AWAY) and self._restarts:
            self._restart()
            close_input(self._writer)
        state = self._spool.read_state()
        for warning in state.warnings:
            log.warning("%s", warning)
        self._resources.close()
        if code == SENT:
            self._spool.delete()
            return self._as_recorded(state, None)
        reason = state.problem or f"the writer of {self._spool.folder} ended with status {code}, see writer.log there"
        reason += f"; the unsent records are kept in {self._spool.folder}, {LEFT_OVER}"
        self._recorded = self._as_recorded(state, reason)
        if code != AWAY and self._store.required:  # an unreachable store gets them later, one that refuses them does not
            raise TrackingError(reason)
        log.warning("%s", reason)
        return self._recorded

    def _as_recorded(self, state: State, problem: str | None) -> Recorded:
        return Recorded(without_password(self._store.uri), state.run_id, state.experiment_id, state.model_uri, problem)

    def _restart(self) -> None:
        assert self._writer is not None
        self._restarts -= 1
        close_input(self._writer)
        self._spawn()


def start(
    store: Store,
    *,
    key: str,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    inputs: Sequence[Dataset] = (),
    resumed: bool = False,
) -> Run:
    """Open the run of a training.

    Continues a killed run of the same key, which never ended; otherwise creates a new run. URLs are recorded without user and
    password.

    Parameters
    ----------
    key : identifies the training and stays the same when it is restarted; letters, digits and ``_.-``, at most 64
    name : shown in MLflow
    params : nested mappings; recorded as ``train.lr`` and the like
    tags : lineage; ``git_commit`` also fills MLflow's own field
    resumed : the training resumes from a checkpoint; its run is then continued even if it ended in MLflow, which happens after a
        kill between the last record and the end of the stage
    """
    opening = {
        "name": name,
        "params": flatten(params),
        "tags": {**tags, "studyline.key": key},
        "inputs": [vars(item) for item in inputs],
        "resumed": resumed,
        "system_metrics": store.system_metrics,
        "program": Path(sys.argv[0]).name,
    }
    return Run(store, key, {"mode": "start", **opening})


def epoch_metrics(row: Mapping[str, float]) -> dict[str, float]:
    """Return a history row without its epoch by MLflow's names: ``train_loss`` as ``train/loss``, ``lr`` as ``train/lr``."""
    return {re.sub("^(train|validation)_|^", lambda part: f"{part[1] or 'train'}/", name, count=1): row[name] for name in row}


def number(value: float) -> float:
    """Return a metric for MLflow, NaN for infinity, which it stores as 1.8e308, so that charts show nothing else."""
    return float(value) if math.isfinite(value) else math.nan


def tag_text(value: Any) -> str:
    """Return a value as the text of an MLflow tag."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested mappings as ``{"train.lr": "0.001"}``; a list is one value, without null keys; no passwords."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = without_password(value if isinstance(value, str) else json.dumps(_without_nulls(value)))
    return flat


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list | tuple) else value
