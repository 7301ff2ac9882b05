"""What the test images say: classes, confusions, calibration, galleries and outputs, ready to be laid out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.report import formats, inline

MOST_CLASSES = 12  # whose outputs stand side by side; of more, only the most probable are shown
MOST_PROBABLE = 6


def per_class(rows: Sequence[Mapping[str, Any]], floor: float) -> list[dict[str, Any]]:
    """Rows of the table, each with its recall and interval as shares of the axis from ``floor`` to 1."""
    return [
        dict(row)
        | ({"bar": {key: (row[name] - floor) / (1 - floor) for key, name in BAR.items()}} if row["recall"] is not None else {})
        for row in rows
    ]


BAR = {"low": "recall_low", "value": "recall", "high": "recall_high"}


def recall_floor(rows: Sequence[Mapping[str, Any]]) -> float:
    """Where the axis of recall begins: the ten per cent below the lowest interval."""
    lows = [row["recall_low"] for row in rows if row["recall"] is not None]
    return min(int(10 * min(lows, default=0.0)) / 10, 0.9)


def confusions(matrix: Sequence[Sequence[int]], classes: Sequence[str], most: int = 3) -> str:
    """The most frequent mistakes as a sentence; empty where there is none."""
    counts = np.array(matrix)
    np.fill_diagonal(counts, 0)
    if not counts.any():
        return "No test image was classified wrongly."
    worst = [place for place in np.argsort(-counts, axis=None, kind="stable")[:most] if counts.flat[place]]
    pairs = (np.unravel_index(place, counts.shape) for place in worst)
    named = [f"{classes[true]} taken for {classes[said]} ({counts[true, said]:,})" for true, said in pairs]
    return f"{counts.sum():,} of {np.sum(matrix):,} test images were classified wrongly, most often {', '.join(named)}."


def calibration(tree: Mapping[str, Any]) -> str:
    """What the calibration numbers say, as sentences."""
    sure, right = formats.percent(tree["mean_confidence"], 1), formats.percent(tree["mean_accuracy"], 1)
    ece, chance = formats.percent(tree["ece"], 2), formats.percent(tree["chance_mean"], 2)
    return (
        f"On average the network gives its prediction a probability of {sure} and is right {right} of the time. "
        f"The expected calibration error is {ece}; perfect probabilities would show {chance} by chance on as many images."
    )


def gallery(
    name: str, images: np.ndarray, rows: Sequence[Mapping[str, Any]], classes: Sequence[str], note: str
) -> dict[str, Any]:
    """Pictures with label, prediction and probability.

    images : uint8 (m, channels, height, width)
    rows : m mappings of index (in the test set), label, prediction, probability
    """
    items = [
        picture(pixels, row, classes)
        | {"prob": row["probability"], "prediction": classes[row["prediction"]], "right": row["label"] == row["prediction"]}
        for pixels, row in zip(images, rows, strict=True)
    ]
    numbers = [("index", "label", "prediction", "probability")]
    numbers += [(row["index"], classes[row["label"]], classes[row["prediction"]], row["probability"]) for row in rows]
    return {"name": name, "title": name.capitalize(), "note": note, "pictures": items, "csv": table_uri(numbers)}


def outputs(images: np.ndarray, rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """Every output for some images; of more than twelve classes the six most probable.

    rows : as for a gallery, with probs and logits, both of length n_classes
    """
    cut = MOST_PROBABLE if len(classes) > MOST_CLASSES else 0
    table = []
    for pixels, row in zip(images, rows, strict=True):
        shown = np.argsort(-np.array(row["probs"]), kind="stable")[:cut] if cut else range(len(classes))
        cells = [
            {"class": classes[k], "prob": row["probs"][k], "logit": row["logits"][k]}
            | {"top": k == row["prediction"], "true": k == row["label"]}
            for k in shown
        ]
        table.append(picture(pixels, row, classes) | {"cells": cells, "right": row["label"] == row["prediction"]})
    numbers: list[Iterable[Any]] = [("index", "label", "output", *classes)]
    for row in rows:
        numbers += [(row["index"], classes[row["label"]], kind, *row[kind]) for kind in ("probs", "logits")]
    return {"cut": cut, "rows": table, "csv": table_uri(numbers)}


def picture(pixels: np.ndarray, row: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """One test image with the words that stand for it."""
    label, said = classes[row["label"]], classes[row["prediction"]]
    alt = f"Test image {row['index']}: {label}, predicted {said} with {formats.percent(row['probability'], 1)}"
    return {"uri": inline.picture(pixels), "width": pixels.shape[2], "height": pixels.shape[1], "alt": alt, "label": label}


def table_uri(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as a CSV file inside a link."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return inline.data_uri(text.getvalue().encode(), "text/csv")


def galleries(rows: Mapping[str, Any], images: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The galleries of wrong and right predictions, as they were chosen by the evaluation; an empty one is left out."""
    wrong, right = len(rows["wrong"]), len(rows["right"])
    notes = {
        "wrong": f"True class → prediction, and its probability: {wrong} of the mistakes, the most confident first.",
        "right": f"{right} drawn at random from the images classified correctly.",
    }
    return [gallery(name, images[name], rows[name], classes, note) for name, note in notes.items() if rows[name]]
