"""The run as training sees it: every call appends to a queue on disk and returns; a writer process does the rest.

``import mlflow`` alone takes seconds, and a store may be slow or away; neither may cost training a step.
"""

from __future__ import annotations

import json
import logging
import math
import os
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
from pipeline.tracking.spool import Record, Spool, State
from pipeline.tracking.store import Store, TrackingError, problem

Status = Literal["FINISHED", "FAILED", "KILLED"]

SENT, REFUSED, AWAY = 0, 2, 3  # how a writer ends: all sent; the store does not take the run; the store did not come back
RESTARTS = 5
# For a writer's mlflow: it shall not call home, and leave it to us to try again.
CALM = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
LEFT_OVER = "`python -m pipeline.tracking` sends it, and so does the next run"
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
    """What became of a run; ids are None where nothing was recorded.

    problem : one line where not all has reached the store; it is kept and sent later
    """

    tracking_uri: str | None = None
    run_id: str | None = None
    experiment_id: str | None = None
    model_uri: str | None = None
    problem: str | None = None


class Run:
    """An open run. Used as a context manager it ends FINISHED, on Ctrl-C KILLED, on any other error FAILED."""

    def __init__(self, store: Store, key: str, opening: Record) -> None:
        """Open the run; without its store it records nothing, if it may.

        Raises
        ------
        TrackingError
            The store cannot be reached and is required, or a run of this key is under way.
        """
        self._store = store
        self._spool = Spool.of(store.root, key)
        self._resources = ExitStack()
        self._writer: subprocess.Popen[bytes] | None = None
        self._restarts = RESTARTS
        self._warned = False
        self._recorded: Recorded | None = None
        if why := problem(store):
            self._stop(why)
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
        """Record metrics of one epoch, named like ``train/loss`` so that MLflow groups them. An epoch recorded before stays.

        Raises
        ------
        TrackingError
            The store refuses the run for good, and is required.
        """
        # MLflow stores infinity as 1.8e308, and its charts then show nothing else.
        values = {name: float(value) if math.isfinite(value) else math.nan for name, value in metrics.items()}
        self._put({"kind": "metrics", "step": epoch, "values": values})
        self._look_after_writer()

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record metrics of the run as a whole; at step 0, where MLflow draws bars, run beside run."""
        self.log_epoch(0, metrics)

    def log_artifacts(self, path: Path, folder: str = "") -> None:
        """Record a file, or all files below a folder, as they are now, under ``folder`` of the run's artifacts."""
        if self._writer is not None:
            self._put({"kind": "artifacts", "path": self._spool.keep(path), "folder": folder})

    def log_model(self, folder: Path, example: np.ndarray, epoch: int) -> None:
        """Record the classifier kept in ``folder``, so that ``mlflow models serve`` answers for it. A run has one model.

        example : at least two images, uint8 (n, channels, height, width), shown as its input example
        epoch : after which the weights were as they are; the metrics of that epoch become those of the model
        """
        if len(example) < 2:  # torch.export fixes the batch size for ever where the example has one image
            raise ValueError(f"example must have at least 2 images, got {len(example)}")
        if self._writer is not None:
            self._put({"kind": "model", "path": self._spool.keep(folder), "example": example[:5].tolist(), "epoch": epoch})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._put({"kind": "tags", "tags": dict(tags)})

    def describe(self, markdown: str) -> None:
        """The text shown at the head of the run's page."""
        self.set_tags({"mlflow.note.content": markdown})

    def finish(self, status: Status = "FINISHED") -> Recorded:
        """End the run and wait until all is sent, up to half a minute where the store is away. A second call changes nothing.

        Raises
        ------
        TrackingError
            The store does not take the run, and is required.
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
            # The time is part of the record: MLflow takes a point with the same time, step and value for the same point.
            self._log.append({**record, "time": time.time_ns() // 1_000_000}, sync=False, allow_nan=True)

    def _spawn(self) -> None:
        with (self._spool.folder / "writer.log").open("ab") as out:
            self._writer = subprocess.Popen(
                [sys.executable, "-m", "pipeline.tracking", str(self._spool.folder)],
                stdin=subprocess.PIPE,  # its end tells the writer that we have ended, however that came about
                stdout=out,
                stderr=out,
                env={**os.environ, **CALM},
                process_group=0,  # Ctrl-C is for us; the writer still has our last words to send
            )

    def _look_after_writer(self) -> None:
        """Start a writer that died again, and say once that the store is away."""
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
            log.warning("%s; training goes on, and what it records is sent when the store is back", state.problem)

    def _stop(self, why: str) -> None:
        """Go on without a store, if that is allowed."""
        if self._writer is not None:
            self._close_pipe()
            self._writer.wait()
        self._resources.close()
        self._recorded = Recorded(problem=why)
        if self._store.required:
            raise TrackingError(why)
        log.warning("this run is not recorded: %s", why)

    def _close(self) -> Recorded:
        assert self._writer is not None
        self._look_after_writer()
        if self._recorded:  # refused just now
            return self._recorded
        self._close_pipe()
        while (code := self._writer.wait()) not in (SENT, REFUSED, AWAY) and self._restarts:
            self._restart()
            self._close_pipe()
        state = self._spool.read_state()
        for warning in state.warnings:
            log.warning("%s", warning)
        self._resources.close()
        if code == SENT:
            self._spool.delete()
            return self._as_recorded(state, None)
        why = state.problem or f"the writer of {self._spool.folder} ended with status {code}, see writer.log there"
        why += f"; what is unsent is kept in {self._spool.folder}, {LEFT_OVER}"
        self._recorded = self._as_recorded(state, why)
        if code != AWAY and self._store.required:  # a store that is away gets it later, one that refuses it does not
            raise TrackingError(why)
        log.warning("%s", why)
        return self._recorded

    def _as_recorded(self, state: State, why: str | None) -> Recorded:
        return Recorded(without_password(self._store.uri), state.run_id, state.experiment_id, state.model_uri, why)

    def _restart(self) -> None:
        self._restarts -= 1
        self._close_pipe()
        self._spawn()

    def _close_pipe(self) -> None:
        assert self._writer is not None
        assert self._writer.stdin is not None
        self._writer.stdin.close()


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

    A run of the same key that never ended, because it was killed, is continued; any other becomes a new run.
    Values that are URLs with user and password are recorded without them.

    Parameters
    ----------
    key : names the training, the same when it is started again; letters, digits and ``_.-``, at most 64
    name : shown in MLflow
    params : nested mappings; they become ``train.lr`` and the like
    tags : lineage; ``git_commit`` also fills MLflow's own field
    resumed : the training goes on from a checkpoint; then its run is continued even where MLflow already shows it ended,
        as after a kill between the last record and the end of the stage
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
    """One row of a history, without its epoch, under MLflow's names: ``train_loss`` as ``train/loss``, ``lr`` as ``train/lr``."""
    return {re.sub("^(train|validation)_|^", lambda part: f"{part[1] or 'train'}/", name, count=1): row[name] for name in row}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as ``{"train.lr": "0.001"}``; lists as one value, without the keys left open; no passwords."""
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
