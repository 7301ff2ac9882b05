"""Going on with the run of a trained model, wherever its record is, or writing that record anew from the model's files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import artifacts
from pipeline.config import SHAPES_TRAINING
from pipeline.tracking.run import Dataset, Run, epoch_metrics, flatten
from pipeline.tracking.spool import Record
from pipeline.tracking.store import Store

LINEAGE = ("config_hash", "data_fingerprint", "git_commit", "git_dirty", "seed", "device", "device_name")


def adopt(store: Store, folder: Path, *, example: np.ndarray, inputs: Sequence[Dataset] = ()) -> Run:
    """Open the run that trained the model in ``folder``, to add to it.

    Where the store does not hold that run, as when DVC brought the model from its cache, a run is made
    whole from the files: parameters, history, lineage and model; its tag ``restored_from`` says so.

    Parameters
    ----------
    folder : with ``run.json``, ``history.csv``, ``model.json`` and ``weights.safetensors``
    example : at least two images, uint8 (n, channels, height, width)
    """
    told = artifacts.read_json(artifacts.verified(folder) / "run.json")
    began = int(datetime.fromisoformat(told["started"]).timestamp() * 1000)
    opening = {
        "mode": "adopt",
        "run_id": told["run_id"],
        "name": told["name"],
        "began": began,
        "params": flatten({section: told["params"][section] for section in SHAPES_TRAINING}),
        "tags": {tag: _text(told[tag]) for tag in LINEAGE if tag in told}
        | {"restored_from": told["run_id"] or "files", "studyline.key": told["key"]},
        "inputs": [vars(item) for item in inputs],
        "history": _history(folder / "history.csv", began),
    }
    run = Run(store, f"{told['key']}.evaluate", opening)
    run.log_model(folder, example, told["kept_epoch"])  # nothing happens where the run has it
    return run


def _history(path: Path, began: int) -> list[Record]:
    """The epochs of ``history.csv`` as records, at the times at which they ended."""
    records = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {column: float(text) for column, text in row.items()}
            began += int(values["seconds"] * 1000)
            step = int(values.pop("epoch"))
            records.append({"kind": "metrics", "step": step, "time": began, "values": epoch_metrics(values)})
    return records


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
