"""Calibration: compare stated probabilities with the share of right predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.metrics import null_if_nan


@dataclass(frozen=True)
class Reliability:
    """The arrays of a reliability diagram and the expected calibration error (ECE).

    edges : float64 (bins + 1,), from 0 to 1
    counts : int64 (bins,), images whose highest probability lies in (edges[i], edges[i + 1]]
    confidence, accuracy : float64 (bins,), mean highest probability and share of right predictions; NaN in an empty bin
    ece : expected calibration error, in [0, 1]: |accuracy - confidence| averaged over the images
    chance_mean, chance_high : mean and 99.9th percentile of the ECE of a perfectly calibrated model with the same confidences on
        as many images
    mean_confidence, mean_accuracy : over all images; their difference is over-confidence
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float
    chance_mean: float
    chance_high: float
    mean_confidence: float
    mean_accuracy: float

    def to_tree(self) -> dict[str, Any]:
        """Return plain data for JSON; the means of an empty bin are null."""
        tree = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()}
        for name in ("confidence", "accuracy"):
            tree[name] = [null_if_nan(value) for value in tree[name]]
        return tree


def reliability(
    probs: np.ndarray, labels: np.ndarray, bins: int, rng: np.random.Generator, replicates: int = 1000
) -> Reliability:
    """Compare the highest probability of each image with the share of right predictions.

    Source: Guo et al. 2017 (arXiv:1706.04599), eq. 3, equal bins. With few images even perfect probabilities have an ECE above 0;
    its distribution is estimated by drawing "right" with the stated probability, ``replicates`` times (consistency resampling,
    Bröcker & Smith 2007, Weather and Forecasting 22, 651).

    probs : float array of shape (n, n_classes), rows summing to 1
    labels : int array of shape (n,)
    """
    confidence = probs.max(1).astype(np.float64)
    right = probs.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts, claimed, hits = (np.bincount(place, weights, bins) for weights in (None, confidence, right))
    with np.errstate(invalid="ignore"):
        means, shares = claimed / counts, hits / counts
    drawn = np.array([_ece(rng.random(len(right)) < confidence, claimed, place) for _ in range(replicates)])
    return Reliability(
        edges=edges,
        counts=counts,
        confidence=means,
        accuracy=shares,
        ece=_ece(right, claimed, place),
        chance_mean=float(drawn.mean()),
        chance_high=float(np.quantile(drawn, 0.999)),
        mean_confidence=float(confidence.mean()),
        mean_accuracy=float(right.mean()),
    )


def _ece(right: np.ndarray, claimed: np.ndarray, place: np.ndarray) -> float:
    """Return the sum over bins of |images right - sum of confidences|, per image."""
    return float(np.abs(np.bincount(place, right, len(claimed)) - claimed).sum() / len(right))
