"""An assessment as files, from which the report is made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import artifacts
from pipeline.data.dataset import Split
from pipeline.evaluation import drawing
from pipeline.evaluation.assess import Assessment


def write(assessment: Assessment, test: Split, folder: Path) -> None:
    """Write what docs/architecture.md lists under *evaluate*."""
    artifacts.write_json(folder / "metrics.json", assessment.metrics)
    artifacts.write_json(folder / "verdicts.json", [asdict(verdict) for verdict in assessment.verdicts])
    np.savez(folder / "predictions.npz", probs=assessment.probs, labels=assessment.labels)
    predictions(assessment).to_csv(folder / "predictions.csv", index_label="index", float_format="%.6g")
    chosen = vars(assessment.chosen)
    images = {name: test.images[positions] for name, positions in chosen.items()}
    np.savez_compressed(folder / "gallery.npz", **images, **{f"{name}_index": at for name, at in chosen.items()})
    for item in assessment.drawings:
        drawing.save(item, folder / "figures")


def predictions(assessment: Assessment) -> pd.DataFrame:
    """One row per test image: true and predicted class, and the probability of the prediction."""
    predicted, classes = assessment.probs.argmax(axis=1), np.array(assessment.classes)
    columns = {"true": classes[assessment.labels], "predicted": classes[predicted], "probability": assessment.probs.max(axis=1)}
    return pd.DataFrame(columns)
