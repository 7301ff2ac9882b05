"""What every writer to MLflow does alike: reach a store, tell what passes from what stays wrong, record a dataset, a model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import requests
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModel, LoggedModelStatus
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException, RestException
from mlflow.models import Model, ModelSignature
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.types import Schema, TensorSpec

from pipeline.tracking.store import Store, alone_with, read_only

PASSING_CODES = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class RefusedError(Exception):
    """The store answers, and will not take the run however often we try."""


def is_passing(error: BaseException | None) -> bool:
    """Whether the same request may succeed later: the store is away, locked, full or out of order."""
    # mlflow wraps what went wrong below it, and has one code, INTERNAL_ERROR, for that and for much that stays wrong.
    while error is not None:
        if isinstance(error, RestException) and error.error_code in {"INTERNAL_ERROR", *PASSING_CODES}:
            return True
        if isinstance(error, MlflowException) and error.error_code in PASSING_CODES:
            return True
        if isinstance(error, requests.RequestException | sqlalchemy.exc.DBAPIError):
            return True
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            return True
        error = error.__cause__ or error.__context__
    return False


def connect(uri: str, artifacts: str | None, experiment: str) -> tuple[MlflowClient, str]:
    """A client of the store, and the id of the experiment of this name; store and experiment are made if missing.

    artifacts : file URI of the folder for artifacts; None where a server chooses

    Raises
    ------
    RefusedError
        The experiment was deleted.
    """
    uri = _with_driver(uri)
    mlflow.set_tracking_uri(uri)
    with alone_with(uri, lambda fresh: SqlAlchemyStore(fresh, artifacts).engine.dispose()):
        client = MlflowClient(uri)
        return client, _experiment(client, experiment, artifacts)


def observe(store: Store) -> tuple[MlflowClient, str] | None:
    """A client that only reads, and the id of the store's experiment; None where the store or the experiment does not exist.

    Of a server nothing keeps us from writing but that we do not.
    """
    uri = read_only(_with_driver(store.uri), "experiments")
    if uri is None:
        return None
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(store.experiment)
    return (client, experiment.experiment_id) if experiment else None


def _with_driver(uri: str) -> str:
    """SQLAlchemy takes psycopg2 for PostgreSQL unless told otherwise; where that is not installed, psycopg 3."""
    if uri.startswith("postgresql://") and importlib.util.find_spec("psycopg2") is None:
        return uri.replace("postgresql://", "postgresql+psycopg://", 1)
    return uri


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, f"{artifacts}/{name}" if artifacts else None, EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
            return _experiment(client, name, artifacts)
    if experiment.lifecycle_stage != "active":
        raise RefusedError(
            f"the MLflow experiment {name} was deleted; name another in tracking.experiment,"
            f" or bring it back: mlflow experiments restore -x {experiment.experiment_id}"
        )
    return experiment.experiment_id


def dataset_input(item: dict[str, Any]) -> DatasetInput:
    """A reference to data, without the data; ``item`` has the fields of :class:`pipeline.tracking.Dataset`."""
    n, *image = item["shape"]
    spec = {"features": [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *image]}}]}
    dataset = Dataset(
        name=f"{item['name']} {item['context']}",  # MLflow takes inputs of one name and digest for one input
        digest=item["digest"],
        source_type="local",
        source=json.dumps({"uri": item["source"]}),
        schema=json.dumps({"mlflow_tensorspec": spec}),
        profile=json.dumps({"images": n, "classes": item["n_classes"]}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", item["context"])])


def log_model(client: MlflowClient, run: MlflowRun, folder: Path, example: np.ndarray, epoch: int) -> str:
    """Record the classifier in ``folder`` as an exported program, which needs torch to be loaded and nothing of ours; its URI.

    What a writer that was killed left of another is marked as failed.
    """
    from pipeline.models.classifier import load

    give_up_models(client, run)
    mlflow.set_tracking_uri(client.tracking_uri)  # a queue sent in between may have set another
    mlflow.set_experiment(experiment_id=run.info.experiment_id)  # where models go, whatever the run's own
    classifier = load(folder)
    channels, height, width = classifier.shape
    info = Model.log(
        None,
        mlflow.pytorch,
        run_id=run.info.run_id,
        name="model",
        step=epoch,
        pytorch_model=classifier,
        serialization_format="pt2",
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype("uint8"), (-1, channels, height, width))]),
            Schema([TensorSpec(np.dtype("float32"), (-1, len(classifier.classes)))]),
        ),
        input_example=example,
        # Named, as finding them out costs ten seconds; without "+cpu", which is on no index.
        pip_requirements=[f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in ("mlflow", "torch", "numpy")],
        metadata={"classes": list(classifier.classes), "shape": list(classifier.shape)},
    )
    program = client.get_run(run.info.run_id).data.tags.get("mlflow.source.name", "studyline")
    client.set_logged_model_tags(info.model_id, {"mlflow.source.name": program})
    return str(info.model_uri)


def logged_model(client: MlflowClient, run: MlflowRun) -> str | None:
    """Return the URI of the model of a run, as ``get_run`` gives it; None where it has none that is whole."""
    whole = (model.model_uri for model in _models(client, run) if model.status == LoggedModelStatus.READY)
    return next(whole, None)


def give_up_models(client: MlflowClient, run: MlflowRun) -> None:
    """Mark what a killed writer left of a model as failed. Only who records the run may do so; nothing is deleted."""
    for model in _models(client, run):
        if model.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)


def _models(client: MlflowClient, run: MlflowRun) -> Iterator[LoggedModel]:
    """The models that a run names, without those that somebody has deleted."""
    for output in run.outputs.model_outputs if run.outputs else []:
        try:
            yield client.get_logged_model(output.model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
