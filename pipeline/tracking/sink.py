"""Write the records of one queue to an MLflow store.

A record may arrive twice, after a kill or a lost answer; the second time it changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.default_context import DefaultRunContext
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH, MAX_TAG_VAL_LENGTH

from pipeline.tracking.client import connect, cut, dataset_input, log_model, logged_model
from pipeline.tracking.spool import Record, Spool, State

KEY, QUEUE, RESTORED = "studyline.key", "studyline.queue", "restored_from"
ENDED = ("FINISHED", "FAILED")


class Sink:
    """One run in its store."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.run: MlflowRun | None = None
        self.model_uri: str | None = None
        self.warnings: list[str] = []
        self._seen: dict[tuple[str, int], Metric] = {}  # the latest point of each metric and step
        self._revises = False  # whether a new value replaces a recorded one
        self._judged: str | None = None  # the model of an evaluation's metrics
        self._monitor: SystemMetricsMonitor | None = None

    @property
    def state(self) -> State:
        info = self.run.info if self.run else None
        return State(
            run_id=info.run_id if info else None,
            experiment_id=info.experiment_id if info else None,
            model_uri=self.model_uri,
            warnings=tuple(self.warnings),
        )

    @property
    def _run_id(self) -> str:
        assert self.run is not None
        return self.run.info.run_id

    def send(self, records: Sequence[Record]) -> None:
        """Write one record, or several records of metrics in one batch.

        Raises
        ------
        Exception
            As raised by mlflow; :func:`is_passing` tells whether a retry can help.
        """
        kind, record = records[0]["kind"], records[0]
        if kind == "metrics":
            self._metrics(records, self._revises)
        elif kind == "open":
            self._open(record)
        elif kind == "tags":
            self._tags(record["tags"])
        elif kind == "artifacts":
            self._artifacts(self.spool.folder / record["path"], record["folder"])
        elif kind == "model":
            self._model(self.spool.folder / record["path"], np.array(record["example"], np.uint8), record["epoch"])
        else:
            self._finish(record["status"], record["time"])

    def end_abandoned(self) -> None:
        """Mark a run whose process died as killed."""
        if self.run is not None:
            self._finish("KILLED", None)

    def _open(self, record: Record) -> None:
        self._client, experiment_id = connect(record["uri"], record["artifacts"], record["experiment"])
        self.run = self._find(record, experiment_id)
        if self.run is None:
            tags = {name: value for name, value in record["tags"].items() if name in (KEY, RESTORED)}
            began = record.get("began", record["time"])
            self.run = self._client.create_run(experiment_id, began, {**tags, QUEUE: record["id"]}, record["name"])
        points = [point for name in self.run.data.metrics for point in self._client.get_metric_history(self._run_id, name)]
        self._seen = {(point.key, point.step): point for point in sorted(points, key=lambda point: point.timestamp)}
        self.model_uri = logged_model(self._client, self.run)
        if record["mode"] == "adopt" and self.model_uri:
            self._judged = self.model_uri.removeprefix("models:/")
        if record["mode"] == "start" or RESTORED in self.run.data.tags:
            self._describe(record)
            self._metrics(record.get("history", []))
        self._revises = record["mode"] == "adopt"
        over = () if record.get("resumed") else ENDED
        if record["mode"] == "start" and self.run.info.status not in ("RUNNING", *over):
            self._client.update_run(self._run_id, status="RUNNING")
        if record.get("system_metrics") and self._monitor is None:
            uri = self._client.tracking_uri
            self._monitor = SystemMetricsMonitor(self._run_id, resume_logging=bool(self._seen), tracking_uri=uri)
            self._monitor.start()

    def _find(self, record: Record, experiment_id: str) -> MlflowRun | None:
        """Return the run opened by this queue before, else the one it names, else the last of its key that it may continue."""
        if own := self._search(experiment_id, f"tags.`{QUEUE}` = '{record['id']}'"):
            return own
        if record.get("run_id"):
            try:
                run = self._client.get_run(record["run_id"])
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            else:
                if run.info.lifecycle_stage == "active":
                    return run
        former = self._search(experiment_id, f"tags.`{KEY}` = '{record['tags'][KEY]}'")
        if former and record["mode"] == "start":
            if former.info.status in ENDED and not record.get("resumed"):
                return None
            self._client.set_tag(former.info.run_id, QUEUE, record["id"])
        return former

    def _search(self, experiment_id: str, text: str) -> MlflowRun | None:
        runs = self._client.search_runs([experiment_id], text, max_results=1, order_by=["attributes.start_time DESC"])
        return self._client.get_run(runs[0].info.run_id) if runs else None  # only get_run includes the outputs

    def _describe(self, record: Record) -> None:
        assert self.run is not None
        known = self.run.data.params
        params = [Param(name, cut(value, MAX_PARAM_VAL_LENGTH)) for name, value in record["params"].items() if name not in known]
        for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self._run_id, params=params[start : start + MAX_PARAMS_TAGS_PER_BATCH])
        tags = dict(record["tags"])
        tags |= {"mlflow.user": DefaultRunContext().tags()["mlflow.user"]}
        if "program" in record:
            tags |= {"mlflow.source.name": record["program"], "mlflow.source.type": "LOCAL"}
        if "git_commit" in tags:
            tags["mlflow.source.git.commit"] = tags["git_commit"]
        self._tags(tags)
        self._client.log_inputs(self._run_id, [dataset_input(item) for item in record["inputs"]])

    def _tags(self, tags: dict[str, str]) -> None:
        self._client.log_batch(
            self._run_id, tags=[RunTag(name, cut(str(value), MAX_TAG_VAL_LENGTH)) for name, value in tags.items()]
        )

    def _metrics(self, records: Sequence[Record], revise: bool = False) -> None:
        """Record metrics. The first value of a repeated epoch stays, unless an evaluation may ``revise`` it."""
        fresh: dict[tuple[str, int], Metric] = {}
        for record in records:
            for name, value in record["values"].items():
                point = Metric(name, value, record["time"], record["step"], model_id=self._judged)
                known = fresh.get((name, point.step)) or self._seen.get((name, point.step))
                if known is None or (revise and _differs(point, known)):
                    fresh[name, point.step] = point
        metrics = list(fresh.values())
        for start in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + MAX_METRICS_PER_BATCH])
        self._seen |= fresh

    def _artifacts(self, path: Path, folder: str) -> None:
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), folder or None)
        else:
            self._client.log_artifact(self._run_id, str(path), folder or None)

    def _model(self, folder: Path, example: np.ndarray, epoch: int) -> None:
        """Record the classifier, once per run."""
        if self.model_uri is None:
            assert self.run is not None
            self.model_uri = log_model(self._client, self.run, folder, example, epoch)

    def _finish(self, status: str, time: int | None) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        if self._client.get_run(self._run_id).info.status not in ENDED:
            self._client.set_terminated(self._run_id, status, time)


def _differs(point: Metric, known: Metric) -> bool:
    """Return whether a point has another value and a later time; a repeated record has not."""
    same = point.value == known.value or (math.isnan(point.value) and math.isnan(known.value))
    return not same and point.timestamp > known.timestamp
