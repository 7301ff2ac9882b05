"""Copy a study's ledger to MLflow: a parent run, and a child run per training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import artifacts
from pipeline.data.dataset import SearchData
from pipeline.lineage import without_password
from pipeline.tracking import Store
from pipeline.tracking.client import is_passing
from pipeline.tracking.group import ENDED, Group, Known
from study.state.history import ENDED as OVER
from study.state.history import History, Run
from study.state.ledger import Event
from study.stores import mapping
from study.stores.follower import Chore

IDS = "mlflow.json"  # in the study's folder: the MLflow ids of its runs
SENT = "studyline.artifacts"  # tag of the parent: time of its latest artifacts
EVERY = 2.0  # seconds between two writes of the ids
WEIGHTS = ("model.json", "weights.safetensors")
FOLDER = "classifier"  # of a run's artifacts; "model" is MLflow's own
EXAMPLES = 5  # images in a model's input example


class ToMlflow:
    """Writes the updates of a study to MLflow; finds there what earlier recorders wrote."""

    def __init__(self, store: Store, created: Event, folder: Path) -> None:
        """Open the study's runs. Raises as :class:`pipeline.tracking.group.Group`."""
        self._store, self._folder = store, folder
        self._group = Group(store, mapping.identity(created))
        self._epochs: dict[str, int] = {}  # number of recorded epochs of each described child
        self._tags: dict[str, str] = {}  # of the parent, as last written
        self._models: set[str] = set()
        self._scored: set[str] = set()
        self._written = -EVERY
        self._artifacts = 0
        if parent := self._group.parent:
            self._artifacts = int(self._group.get(parent).data.tags.get(SENT, 0))

    @property
    def about(self) -> dict[str, Any]:
        """The study's run and page, for the state file."""
        parent = self._group.parent
        run_id = parent.run_id if parent else None
        return {
            "parent": run_id,
            "experiment_id": self._group.experiment_id,
            "page": self._store.page(self._group.experiment_id, run_id) if self._store.uri.startswith("http") else None,
        }

    @property
    def _parent(self) -> Known:
        assert self._group.parent is not None
        return self._group.parent

    def begin(self, history: History) -> None:
        """Complete the parent run, before any child."""
        tags = mapping.study_tags(history)
        parent = self._group.parent or self._group.begin(None, history.spec.name, history.created, tags)
        self._group.log(parent, params=mapping.study_params(history))
        self._group.inputs(parent, mapping.study_inputs(history))

    def follow(self, history: History, run: Run) -> None:
        """Update the child of one run."""
        known = self._group.children.get(run.key)
        if known and known.status in ENDED:
            return
        over, tags = run.state in OVER, mapping.state_tags(run)
        if known is None:
            tags |= mapping.run_tags(history, run)
            known = self._group.begin(run.key, mapping.run_name(run), run.asked, tags)
            tags = {}
        elif run.key not in self._epochs:  # another recorder's; an epoch trained again since then has another time
            recorded = len({step for step, _ in self._group.curve(known.run_id, mapping.CURVE)})
            self._group.log(known, params=mapping.run_params(run))
            self._epochs[run.key] = recorded
        params = None if run.key in self._epochs else mapping.run_params(run)
        points = mapping.curve(run, self._epochs.get(run.key, 0)) + (mapping.results(run) if over else [])
        self._group.log(known, points, params, tags)
        self._epochs[run.key] = max(len(run.epochs), self._epochs.get(run.key, 0))
        if over:
            self._end(run, known)
        self.write_ids()

    def _end(self, run: Run, known: Known) -> None:
        """Record the weights, then end the run, so that ended runs in MLflow are complete."""
        for name in WEIGHTS:
            path = self._folder / "runs" / run.key / name
            if path.exists():  # a run may have no weights
                self._group.log_files(known, path, FOLDER)
        self._group.set_status(known, mapping.STATUS[run.state], run.ended or 0)

    def chores(self, history: History, alive: bool) -> Iterator[Chore]:
        """Yield the updates of the parent, and the models and scores of ended runs."""
        status = mapping.study_status(history, alive)
        yield "the study's tags", lambda: self._describe(history)
        yield "the state of runs under way", lambda: self._mark(history, status == "RUNNING")
        for run in mapping.models(history):
            if run.key not in self._models:
                yield f"the model of run {run.key}", partial(self._log_model, history, run)
        for run in history.planned:
            if run.test is not None and run.key not in self._scored:
                yield f"the test scores of run {run.key}", partial(self._log_scores, run)
        yield "the study's files", lambda: self._log_artifacts(history)
        yield "the study's end", lambda: self._end_study(history, status)

    def _describe(self, history: History) -> None:
        tags = mapping.study_tags(history) | {"mlflow.note.content": mapping.note(history)}
        if tags != self._tags:
            self._group.log(self._parent, tags=tags)
            self._tags = tags

    def _mark(self, history: History, running: bool) -> None:
        for run in history.runs.values():
            known = self._group.children.get(run.key)
            if run.state not in OVER and known is not None:
                self._group.set_status(known, mapping.run_status(run, running), 0)

    def _end_study(self, history: History, status: str) -> None:
        if status in ENDED and self._parent.status != status:
            self._group.log(self._parent, mapping.study_points(history))
        self._group.set_status(self._parent, status, mapping.study_end(history))
        self.write_ids(now=status in ENDED)

    def _log_model(self, history: History, run: Run) -> None:
        """Record the model of a run, with one try: an export that fails now always fails."""
        data, folder = Path(history.lineage.data), self._folder / "runs" / run.key
        try:
            if (data / "dataset.json").exists() and all((folder / name).exists() for name in WEIGHTS):
                example = SearchData.read(data).validation.images[:EXAMPLES]
                self._group.log_model(self._group.children[run.key], folder, example, run.kept_epoch or 0)
        except Exception as error:
            if not is_passing(error):
                self._models.add(run.key)
            raise
        self._models.add(run.key)

    def _log_scores(self, run: Run) -> None:
        self._group.log(self._group.children[run.key], mapping.scores(run))
        self._scored.add(run.key)

    def _log_artifacts(self, history: History) -> None:
        latest = {(event["path"], event["folder"]): event for event in history.artifacts}
        for event in latest.values():
            path = self._folder.parents[1] / event["path"]  # absolute, or from the project's root
            if event["time"] > self._artifacts and path.exists():
                self._group.log_files(self._parent, path, event["folder"])
                self._group.log(self._parent, tags={SENT: str(event["time"])})
                self._artifacts = event["time"]

    def write_ids(self, now: bool = False) -> None:
        """Write the MLflow ids of the runs beside the ledger, at most every 2 seconds unless ``now``."""
        if not now and time.monotonic() - self._written < EVERY:
            return
        parent, runs = self._group.parent, {key: known.run_id for key, known in self._group.children.items()}
        ids = {
            "tracking_uri": without_password(self._store.uri),
            "experiment_id": self._group.experiment_id,
            "parent": parent.run_id if parent else None,
            "runs": runs,
        }
        path = self._folder / IDS
        if not path.exists() or artifacts.read_sealed(path) != ids:
            artifacts.write_sealed(path, ids)
        self._written = time.monotonic()

    def close(self) -> None:
        """Do nothing: no connection is held open."""
