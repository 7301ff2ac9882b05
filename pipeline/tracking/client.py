"""Shared by all writers to MLflow: connect to a store, classify errors, record datasets and models."""

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
    """The store answers and refuses the run for good."""


def is_passing(error: BaseException | None) -> bool:
    """Return whether the same request may succeed later: the store is unreachable, locked, full or failing."""
    # mlflow wraps the causes; its code INTERNAL_ERROR covers both temporary and lasting errors.
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
    """Return a client of the store and the id of the experiment; create both if missing.

    artifacts : file URI of the folder for artifacts; None: the server chooses

    Raises RefusedError if the experiment was deleted.
    """
    uri = _with_driver(uri)
    mlflow.set_tracking_uri(uri)
    with alone_with(uri, lambda fresh: SqlAlchemyStore(fresh, artifacts).engine.dispose()):
        client = MlflowClient(uri)
        return client, _experiment(client, experiment, artifacts)


def observe(store: Store) -> tuple[MlflowClient, str] | None:
    """Return a read-only client and the id of the store's experiment; None if the store or the experiment does not exist.

    A client of a server could write.
    """
    uri = read_only(_with_driver(store.uri), "experiments")
    if uri is None:
        return None
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(store.experiment)
    return (client, experiment.experiment_id) if experiment else None


def _with_driver(uri: str) -> str:
    """Return a PostgreSQL URI with the driver psycopg 3 if psycopg2, SQLAlchemy's default, is not installed."""
    if uri.startswith("postgresql://") and importlib.util.find_spec("psycopg2") is None:
        return uri.replace("postgresql://", "postgresql+psycopg://", 1)
    return uri


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, f"{artifacts}/{name}" if artifacts else None, EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # unless another process was faster
                raise
            return _experiment(client, name, artifacts)
    if experiment.lifecycle_stage != "active":
        raise RefusedError(
            f"the MLflow experiment {name} was deleted; choose another tracking.experiment,"
            f" or restore it: mlflow experiments restore -x {experiment.experiment_id}"
        )
    return experiment.experiment_id


def dataset_input(item: dict[str, Any]) -> DatasetInput:
    """Return MLflow's reference to a data set; ``item`` has the fields of :class:`pipeline.tracking.Dataset`."""
    n, *image = item["shape"]
    spec = {"features": [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *image]}}]}
    dataset = Dataset(
        name=f"{item['name']} {item['context']}",  # MLflow merges inputs of equal name and digest
        digest=item["digest"],
        source_type="local",
        source=json.dumps({"uri": item["source"]}),
        schema=json.dumps({"mlflow_tensorspec": spec}),
        profile=json.dumps({"images": n, "classes": item["n_classes"]}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", item["context"])])


def log_model(client: MlflowClient, run: MlflowRun, folder: Path, example: np.ndarray, epoch: int) -> str:
    """Record the classifier in ``folder`` as an exported program, which loads with torch alone; return its URI.

    Marks the unfinished models of a killed writer as failed.
    """
    from pipeline.models.classifier import load

    give_up_models(client, run)
    mlflow.set_tracking_uri(client.tracking_uri)  # another queue may have changed it
    mlflow.set_experiment(experiment_id=run.info.experiment_id)  # models go there, whatever the run's own experiment
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
        # Inferring them takes ten seconds; "+cpu" is not on package indexes.
        pip_requirements=[f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in ("mlflow", "torch", "numpy")],
        metadata={"classes": list(classifier.classes), "shape": list(classifier.shape)},
    )
    program = client.get_run(run.info.run_id).data.tags.get("mlflow.source.name", "studyline")
    client.set_logged_model_tags(info.model_id, {"mlflow.source.name": program})
    return str(info.model_uri)


def logged_model(client: MlflowClient, run: MlflowRun) -> str | None:
    """Return the URI of a run's complete model, or None; ``run`` comes from ``get_run``."""
    whole = (model.model_uri for model in _models(client, run) if model.status == LoggedModelStatus.READY)
    return next(whole, None)


def give_up_models(client: MlflowClient, run: MlflowRun) -> None:
    """Mark the unfinished models of a killed writer as failed; call it only from the recorder of the run."""
    for model in _models(client, run):
        if model.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)


def _models(client: MlflowClient, run: MlflowRun) -> Iterator[LoggedModel]:
    """Yield the models of a run that were not deleted."""
    for output in run.outputs.model_outputs if run.outputs else []:
        try:
            yield client.get_logged_model(output.model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
