"""The runs of one study in MLflow: a parent and its children, identified by tags.

Writing the same data twice changes nothing, as long as points keep their times. So there is no queue here: a caller may start
over at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking.context.default_context import DefaultRunContext
from mlflow.utils.validation import (
    MAX_ENTITIES_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from pipeline.tracking.client import connect, cut, dataset_input, log_model, logged_model, observe
from pipeline.tracking.run import Dataset
from pipeline.tracking.store import Store

GROUP, MEMBER, PARENT = "studyline.study", "studyline.run", "mlflow.parentRunId"
ENDED = ("FINISHED", "FAILED", "KILLED")
AT_ONCE = 1000  # runs per page of a search

Point = tuple[str, float, int, int]  # name, value, milliseconds since 1970, step


@dataclass
class Known:
    """A run in the store.

    status : RUNNING, SCHEDULED, FINISHED, FAILED or KILLED
    place : URI of its artifacts
    """

    run_id: str
    status: str
    place: str


class Observed:
    """The runs of one study, read only.

    parent : None until created; children : by their names within the study
    """

    def __init__(self, client: MlflowClient, experiment_id: str, name: str) -> None:
        """Find the runs of the study in the store.

        name : of the study, unique

        Raises
        ------
        Exception
            As raised by mlflow; :func:`pipeline.tracking.client.is_passing` tells whether a retry can help.
        """
        self._client, self.experiment_id, self._name = client, experiment_id, name
        self.parent: Known | None = None
        self.children: dict[str, Known] = {}
        for run in self.search(f"tags.`{GROUP}` = '{name}'"):
            known = Known(run.info.run_id, run.info.status, run.info.artifact_uri)
            if MEMBER in run.data.tags:
                self.children.setdefault(run.data.tags[MEMBER], known)
            else:
                self.parent = known

    @classmethod
    def of(cls, store: Store, name: str) -> Self | None:
        """Return the runs of a study in a store; None if the store or its experiment does not exist. Writes nothing."""
        observed = observe(store)
        return cls(*observed, name) if observed else None

    def search(self, text: str) -> Iterable[MlflowRun]:
        """Yield all runs of the experiment that match a filter, the earliest first."""
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                text,
                max_results=AT_ONCE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def members(self) -> list[tuple[str, MlflowRun]]:
        """Return the children in the store now, with their names within the study; duplicates are included."""
        runs = self.search(f"tags.`{GROUP}` = '{self._name}'")
        return [(run.data.tags[MEMBER], run) for run in runs if MEMBER in run.data.tags]

    def get(self, known: Known) -> MlflowRun:
        return self._client.get_run(known.run_id)

    def curve(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return the steps and values of one metric, in order of steps."""
        return sorted((point.step, point.value) for point in self._client.get_metric_history(run_id, metric))

    def has_model(self, known: Known) -> bool:
        return logged_model(self._client, self.get(known)) is not None


class Group(Observed):
    """The runs of one study, to read and write."""

    def __init__(self, store: Store, name: str) -> None:
        """Connect to the store, created if missing, and find the study's runs. Raises as :class:`Observed`."""
        super().__init__(*connect(store.uri, store.artifacts, store.experiment), name)
        self._user = DefaultRunContext().tags()["mlflow.user"]

    def begin(self, member: str | None, title: str, start: int, tags: Mapping[str, str]) -> Known:
        """Create the parent (``member`` None) or a child.

        start : milliseconds since 1970
        """
        own = {GROUP: self._name, "mlflow.user": self._user} | {
            name: cut(text, MAX_TAG_VAL_LENGTH) for name, text in tags.items()
        }
        if member is not None:
            assert self.parent is not None
            own |= {MEMBER: member, PARENT: self.parent.run_id}
        run = self._client.create_run(self.experiment_id, start, own, title)
        known = Known(run.info.run_id, "RUNNING", run.info.artifact_uri)
        if member is None:
            self.parent = known
        else:
            self.children[member] = known
        return known

    def log(
        self,
        known: Known,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write points, parameters and tags of one run, in one request if they fit."""
        metrics = [Metric(name, value, time, step) for name, value, time, step in points]
        texts = [Param(name, cut(text, MAX_PARAM_VAL_LENGTH)) for name, text in (params or {}).items()]
        labels = [RunTag(name, cut(text, MAX_TAG_VAL_LENGTH)) for name, text in (tags or {}).items()]
        while metrics or texts or labels:
            some, texts = texts[:MAX_PARAMS_TAGS_PER_BATCH], texts[MAX_PARAMS_TAGS_PER_BATCH:]
            other, labels = labels[:MAX_PARAMS_TAGS_PER_BATCH], labels[MAX_PARAMS_TAGS_PER_BATCH:]
            room = MAX_ENTITIES_PER_BATCH - len(some) - len(other)
            self._client.log_batch(known.run_id, metrics[:room], some, other)
            metrics = metrics[room:]

    def inputs(self, known: Known, datasets: Sequence[Dataset]) -> None:
        self._client.log_inputs(known.run_id, [dataset_input(vars(item)) for item in datasets])

    def set_status(self, known: Known, status: str, end: int) -> None:
        """Set the status of a run.

        end : milliseconds since 1970, for a final status
        """
        if known.status == status:
            return
        if status in ENDED:
            self._client.set_terminated(known.run_id, status, end)
        else:
            self._client.update_run(known.run_id, status=status)
        known.status = status

    def log_files(self, known: Known, path: Path, folder: str) -> None:
        """Record a file, or all files below a folder, under ``folder`` of the run's artifacts."""
        place = get_artifact_repository(known.place, tracking_uri=self._client.tracking_uri)  # saves a request
        if path.is_dir():
            place.log_artifacts(str(path), folder or None)
        else:
            place.log_artifact(str(path), folder or None)

    def log_model(self, known: Known, folder: Path, example: np.ndarray, epoch: int) -> None:
        """Record the classifier in ``folder`` as an MLflow model, unless the run has one."""
        run = self._client.get_run(known.run_id)
        if logged_model(self._client, run) is None:
            log_model(self._client, run, folder, example, epoch)
