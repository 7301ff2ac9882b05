"""Compute all metrics of the test report from probabilities and labels; undefined numbers are NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn import metrics as sk

from pipeline.evaluation.statistics import Proportion


@dataclass(frozen=True)
class PerClass:
    """One value per class, arrays of shape (n_classes,).

    precision : share of the predictions that are right; NaN for a class never predicted
    recall, recall_low, recall_high : share of the class's images predicted right, 95 % Wilson; NaN without images of the class
    f1 : harmonic mean of both; NaN for a class without images and predictions
    support, predicted : int64, images of the class, predictions of the class
    """

    precision: np.ndarray
    recall: np.ndarray
    recall_low: np.ndarray
    recall_high: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class Curve:
    """A curve over all thresholds, one class against the rest.

    x, y : float64 arrays of shape (m,), in [0, 1]; ROC: false and true positive rate; PR: recall and precision
    area : in [0, 1]; ROC: trapezoids; PR: average precision, the sum of precision times step in recall.
        NaN, with empty arrays, where the class or the rest has no image
    """

    x: np.ndarray
    y: np.ndarray
    area: float

    def thin(self, points: int = 300) -> Curve:
        """Return a curve of at most ``points`` points, spread evenly along its length, with both ends and the same area."""
        if len(self.x) <= points:
            return self
        length = np.concatenate(([0.0], np.cumsum(np.hypot(np.diff(self.x), np.diff(self.y)))))
        keep = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)))
        return Curve(self.x[keep], self.y[keep], self.area)


@dataclass(frozen=True)
class Metrics:
    """All metrics of one set of probabilities and labels.

    confusion : int64 array of shape (n_classes, n_classes), rows true, columns predicted
    macro, weighted : precision, recall and F1 averaged over the classes with images, evenly or weighted by images;
        a class never predicted counts with precision 0
    balanced_accuracy : the macro recall
    log_loss : nats per image, >= 0
    roc, pr : one curve per class
    roc_auc, average_precision : mean of the defined areas; NaN if there are none
    """

    classes: tuple[str, ...]
    accuracy: Proportion
    balanced_accuracy: float
    log_loss: float
    per_class: PerClass
    macro: dict[str, float]
    weighted: dict[str, float]
    confusion: np.ndarray
    roc: tuple[Curve, ...]
    pr: tuple[Curve, ...]
    roc_auc: float
    average_precision: float

    def to_tree(self) -> dict[str, Any]:
        """Return plain data for JSON, without the curves; undefined numbers are null, with the reason under ``undefined``."""
        return {
            "accuracy": asdict(self.accuracy),
            "balanced_accuracy": self.balanced_accuracy,
            "log_loss": self.log_loss,
            "roc_auc": null_if_nan(self.roc_auc),
            "average_precision": null_if_nan(self.average_precision),
            "macro": self.macro,
            "weighted": self.weighted,
            "per_class": [self._row(label) for label in range(len(self.classes))],
            "confusion": self.confusion.tolist(),
        }

    def _row(self, label: int) -> dict[str, Any]:
        values = {name: array[label].item() for name, array in vars(self.per_class).items()}
        values |= {"roc_auc": self.roc[label].area, "average_precision": self.pr[label].area}
        row: dict[str, Any] = {"class": self.classes[label]} | {name: null_if_nan(value) for name, value in values.items()}
        unseen = "no test image is of this class" if not values["support"] else "every test image is of this class"
        never = "the class is never predicted"
        row["undefined"] = {name: never if name == "precision" else unseen for name, value in row.items() if value is None}
        return row


def null_if_nan(value: float) -> float | None:
    """Return the value, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def score(probs: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Metrics:
    """Compute all metrics; the prediction is the class with the highest probability, the first in case of ties.

    Raises ValueError for a probability that is not finite.

    probs : float array of shape (n, n_classes), n >= 1, n_classes >= 2, rows summing to 1
    labels : int array of shape (n,), in [0, n_classes)
    """
    if not np.isfinite(probs).all():
        raise ValueError(f"probs must be finite, got {(~np.isfinite(probs).all(1)).sum()} of {len(probs)} rows that are not")
    every = np.arange(len(classes))
    probs = probs.astype(np.float64)
    probs /= probs.sum(1, keepdims=True)  # float32 rows sum to 1 only up to 1e-7; scikit-learn warns of this
    predictions = probs.argmax(1)
    confusion = sk.confusion_matrix(labels, predictions, labels=every)
    averages = _averages(labels, predictions, every[confusion.sum(1) > 0])
    roc = tuple(_roc(labels == label, probs[:, label]) for label in every)
    pr = tuple(_precision_recall(labels == label, probs[:, label]) for label in every)
    return Metrics(
        classes=tuple(classes),
        accuracy=Proportion.of(int(np.trace(confusion)), len(labels)),
        balanced_accuracy=averages["macro"]["recall"],
        log_loss=float(sk.log_loss(labels, probs, labels=every)),
        per_class=_per_class(labels, predictions, confusion),
        macro=averages["macro"],
        weighted=averages["weighted"],
        confusion=confusion,
        roc=roc,
        pr=pr,
        roc_auc=_mean_area(roc),
        average_precision=_mean_area(pr),
    )


def _per_class(labels: np.ndarray, predictions: np.ndarray, confusion: np.ndarray) -> PerClass:
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        labels, predictions, labels=np.arange(len(confusion)), zero_division=np.nan
    )
    hits = np.diag(confusion)
    intervals = [Proportion.of(k, n) if n else None for k, n in zip(hits, support, strict=True)]
    return PerClass(
        precision=precision,
        recall=recall,
        recall_low=np.array([part.low if part else np.nan for part in intervals]),
        recall_high=np.array([part.high if part else np.nan for part in intervals]),
        f1=f1,
        support=support.astype(np.int64),
        predicted=confusion.sum(0),
    )


def _averages(labels: np.ndarray, predictions: np.ndarray, seen: np.ndarray) -> dict[str, dict[str, float]]:
    result = {}
    for average in ("macro", "weighted"):
        values = sk.precision_recall_fscore_support(labels, predictions, labels=seen, average=average, zero_division=0)
        result[average] = {name: float(value) for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True)}
    return result


def _roc(positive: np.ndarray, scores: np.ndarray) -> Curve:
    if positive.all() or not positive.any():
        return Curve(np.empty(0), np.empty(0), math.nan)
    x, y, _ = sk.roc_curve(positive, scores)
    return Curve(x, y, float(sk.auc(x, y)))


def _precision_recall(positive: np.ndarray, scores: np.ndarray) -> Curve:
    if positive.all() or not positive.any():
        return Curve(np.empty(0), np.empty(0), math.nan)
    precision, recall, _ = sk.precision_recall_curve(positive, scores, drop_intermediate=True)
    return Curve(recall, precision, float(sk.average_precision_score(positive, scores)))


def _mean_area(curves: Sequence[Curve]) -> float:
    areas = [curve.area for curve in curves if not math.isnan(curve.area)]
    return float(np.mean(areas)) if areas else math.nan
