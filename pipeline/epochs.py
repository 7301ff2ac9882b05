"""What one epoch comes to: its record, every measure of the validation images, and the rule for which epoch's weights are kept.

A new measure is a field of :class:`Epoch` and a line of :data:`MEASURES`; configuration, studies and reports read it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np

BINS = 15  # of the calibration error


@dataclass(frozen=True)
class Epoch:
    """The numbers of one epoch, and the columns of ``history.csv``.

    train_loss, train_accuracy : running means over the epoch's batches, in training mode
    validation_… : after the epoch, in evaluation mode, fp32, see :data:`MEASURES`; None: written by an earlier version
    lr : of the epoch's last step
    seconds : of wall time, validation included
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    seconds: float
    validation_balanced_accuracy: float | None = None
    validation_macro_f1: float | None = None
    validation_calibration_error: float | None = None
    validation_expected_cost: float | None = None


AnyEpoch = TypeVar("AnyEpoch", bound=Epoch)


@dataclass(frozen=True)
class Outcome:
    """What a network makes of the validation images: all that its measures are computed from.

    loss : mean over the images
    confusion : int64 (n_classes, n_classes), rows true, columns predicted
    gaps : float64 (BINS,), |images right - sum of their highest probabilities| of the images with that probability in each bin
    costs : float64 (n_classes, n_classes), of an image of the row's class that is said to be of the column's
    """

    loss: float
    confusion: np.ndarray
    gaps: np.ndarray
    costs: np.ndarray


@dataclass(frozen=True)
class Measure:
    """One number of the validation images.

    title : as people read it
    of : the number; more : whether more of it is better; share : whether it lies in [0, 1] and is shown in percent
    """

    title: str
    of: Callable[[Outcome], float]
    more: bool = False
    share: bool = False


def _accuracy(outcome: Outcome) -> float:
    return float(np.trace(outcome.confusion) / outcome.confusion.sum())


def _balanced_accuracy(outcome: Outcome) -> float:
    """Return the mean recall of the classes that have images."""
    support = outcome.confusion.sum(1)
    return float((np.diag(outcome.confusion) / np.maximum(support, 1))[support > 0].mean())


def _macro_f1(outcome: Outcome) -> float:
    """Return the mean F1 of the classes that have images; of a class that is never predicted it is 0."""
    support, predicted = outcome.confusion.sum(1), outcome.confusion.sum(0)
    return float((2 * np.diag(outcome.confusion) / np.maximum(support + predicted, 1))[support > 0].mean())


def _calibration_error(outcome: Outcome) -> float:
    """Return the expected calibration error over equal bins (Guo et al. 2017, arXiv:1706.04599, eq. 3)."""
    return float(outcome.gaps.sum() / outcome.confusion.sum())


def _expected_cost(outcome: Outcome) -> float:
    return float((outcome.costs * outcome.confusion).sum() / outcome.confusion.sum())


MEASURES = {  # by name; the field of Epoch is validation_NAME
    "accuracy": Measure("accuracy", _accuracy, more=True, share=True),
    "loss": Measure("loss", lambda outcome: outcome.loss),
    "balanced_accuracy": Measure("balanced accuracy", _balanced_accuracy, more=True, share=True),
    "macro_f1": Measure("macro F1", _macro_f1, more=True, share=True),
    "calibration_error": Measure("calibration error", _calibration_error, share=True),
    "expected_cost": Measure("expected cost", _expected_cost),
}


def measured(outcome: Outcome) -> dict[str, Any]:
    """Return every measure under the name of its field of :class:`Epoch`."""
    return {f"validation_{name}": measure.of(outcome) for name, measure in MEASURES.items()}


def kept(epochs: Iterable[AnyEpoch], keep: str) -> Iterator[AnyEpoch]:
    """Yield after each epoch the one whose weights are kept then.

    keep : ``train.keep``; best, the lowest validation loss, the first of equals; last, the epoch itself
    """
    return accumulate(epochs, lambda best, new: new if keep == "last" or new.validation_loss < best.validation_loss else best)
