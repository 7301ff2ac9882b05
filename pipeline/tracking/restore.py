"""Continue the run of a trained model, or restore its record from the model's files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from pipeline import artifacts
from pipeline.config import SHAPES_TRAINING
from pipeline.tracking.run import Dataset, Run, epoch_metrics, flatten, tag_text
from pipeline.tracking.spool import Record
from pipeline.tracking.store import Store

LINEAGE = ("config_hash", "data_fingerprint", "git_commit", "git_dirty", "seed", "device", "device_name")


def adopt(store: Store, folder: Path, *, example: np.ndarray, inputs: Sequence[Dataset] = ()) -> Run:
    """Open the run that trained the model in ``folder``, to add to it.

    If the store does not hold that run, e.g. because DVC took the model from its cache, restore it from the files: parameters,
    history, lineage and model, with the tag ``restored_from``.

    folder : with ``run.json``, ``history.csv``, ``model.json`` and ``weights.safetensors``
    example : at least two images, uint8 (n, channels, height, width)
    """
    about = artifacts.read_json(artifacts.verified(folder) / "run.json")
    began = int(datetime.fromisoformat(about["started"]).timestamp() * 1000)
    opening = {
        "mode": "adopt",
        "run_id": about["run_id"],
        "name": about["name"],
        "began": began,
        "params": flatten({section: about["params"][section] for section in SHAPES_TRAINING}),
        "tags": {tag: tag_text(about[tag]) for tag in LINEAGE if tag in about}
        | {"restored_from": about["run_id"] or "files", "studyline.key": about["key"]},
        "inputs": [vars(item) for item in inputs],
        "history": _history(folder / "history.csv", began),
    }
    run = Run(store, f"{about['key']}.evaluate", opening)
    run.log_model(folder, example, about["kept_epoch"])  # does nothing if the run has a model
    return run


def _history(path: Path, began: int) -> list[Record]:
    """Return the epochs of ``history.csv`` as records with the times at which they ended."""
    records = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {column: float(text) for column, text in row.items()}
            began += int(values["seconds"] * 1000)
            step = int(values.pop("epoch"))
            records.append({"kind": "metrics", "step": step, "time": began, "values": epoch_metrics(values)})
    return records
