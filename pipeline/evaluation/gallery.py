"""Choose the test images that the report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Gallery:
    """Positions in the test set, int64 arrays.

    right : a random sample of the images classified right
    wrong : the images classified wrong with the highest probability, highest first
    samples : a random sample of all images, ascending
    """

    right: np.ndarray
    wrong: np.ndarray
    samples: np.ndarray


def choose(probs: np.ndarray, labels: np.ndarray, count: int, samples: int, rng: np.random.Generator) -> Gallery:
    """Choose at most ``count`` right and wrong images each, and ``samples`` of all.

    probs : float array of shape (n, n_classes); labels : int array of shape (n,)
    """
    is_right = probs.argmax(1) == labels
    right, wrong = np.flatnonzero(is_right), np.flatnonzero(~is_right)
    return Gallery(
        right=rng.permutation(right)[:count],
        wrong=wrong[np.argsort(-probs.max(1)[wrong], kind="stable")][:count],
        samples=np.sort(rng.permutation(len(labels))[:samples]),
    )


def rows(indices: np.ndarray, probs: np.ndarray, labels: np.ndarray, logits: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Return position, label, prediction and probability of each chosen image; with ``logits`` also all outputs."""
    table = []
    for i in indices:
        row = {
            "index": int(i),
            "label": int(labels[i]),
            "prediction": int(probs[i].argmax()),
            "probability": float(probs[i].max()),
        }
        if logits is not None:
            row |= {"logits": logits[i].tolist(), "probs": probs[i].tolist()}
        table.append(row)
    return table
