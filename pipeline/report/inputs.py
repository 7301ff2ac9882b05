"""Everything that the page is made of, read from the files that the other stages wrote."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import artifacts
from pipeline.data.dataset import DatasetInfo
from pipeline.verdict import Verdict


@dataclass(frozen=True)
class FileRecord:
    """One file behind the page: what identifies it."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        return cls(path.as_posix(), path.stat().st_size, artifacts.sha256(path))


@dataclass(frozen=True)
class Inputs:
    """The written results of one run, as plain data and arrays.

    history : one row per epoch, numbers by column name; None where a value is not finite
    source, run, metrics, checks : content of the JSON files, as in docs/architecture.md
    gallery : uint8 images (m, channels, height, width) by name: right, wrong, samples
    figures : SVG text and CSV text, by name of the figure
    files : the files of the model and of the evaluation
    """

    source: dict[str, Any]
    dataset: DatasetInfo
    run: dict[str, Any]
    history: list[dict[str, float | None]]
    metrics: dict[str, Any]
    verdicts: list[Verdict]
    checks: dict[str, Any]
    gallery: dict[str, np.ndarray]
    figures: dict[str, tuple[str, str]]
    files: tuple[FileRecord, ...]

    @classmethod
    def read(cls, raw: Path, search: Path, checks: Path, model: Path, evaluation: Path) -> Inputs:
        for folder in (raw, search, model, evaluation):
            artifacts.verified(folder)
        with np.load(evaluation / "gallery.npz") as gallery:
            return cls(
                source=_public(raw / "source.json"),
                dataset=DatasetInfo.read(search),
                run=_public(model / "run.json") | _tracked(evaluation / "tracked.json"),
                history=_history(model / "history.csv"),
                metrics=artifacts.read_json(evaluation / "metrics.json"),
                verdicts=[Verdict(**verdict) for verdict in artifacts.read_json(evaluation / "verdicts.json")],
                checks=artifacts.read_sealed(checks),
                gallery=dict(gallery),
                figures={
                    path.stem: (path.read_text(), path.with_suffix(".csv").read_text())
                    for path in sorted((evaluation / "figures").glob("*.svg"))
                },
                files=tuple(FileRecord.of(path) for path in _behind(model, evaluation)),
            )


def _public(path: Path) -> Any:
    """A JSON file without the names and passwords that addresses in it may carry: the page is made to be shown around."""
    return json.loads(re.sub(r'(\w://)[^/@\s"]+@', r"\1", path.read_text()))


def _tracked(path: Path) -> dict[str, Any]:
    """Where the run is in MLflow now: where DVC restored the model from its cache, not where ``run.json`` says."""
    tracked = _public(path)
    del tracked["problem"]
    return tracked if tracked["run_id"] else {}


def _history(path: Path) -> list[dict[str, float | None]]:
    with path.open(newline="") as file:
        return [{name: _finite(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _finite(text: str) -> float | None:
    value = float(text) if text else np.nan
    return value if np.isfinite(value) else None


def _behind(model: Path, evaluation: Path) -> list[Path]:
    return [path for folder in (model, evaluation) for path in sorted(folder.iterdir()) if path.is_file()]
