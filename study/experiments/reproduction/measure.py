"""What a training came to in a figure, how far that can be trusted, and what it says of a reported one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.evaluation.statistics import Proportion, difference, mean_interval, prediction_interval
from study.experiments.reproduction.figure import Figure, interval, kind_of
from study.state.history import Run

# MNIST as published (LeCun, Cortes & Burges 1998), which all sources use
TEST = 10_000  # images
SHAPE = (1, 28, 28)  # of one, (channels, height, width)
CLASSES = 10
Word = Literal["reproduced", "better", "worse", "not comparable"]
WORDS: tuple[Word, ...] = ("reproduced", "better", "worse", "not comparable")
SCORES = {  # figures of the test images → their names in Run.test
    "test_accuracy": "accuracy",
    "test_recall_weighted": "recall_weighted",
    "test_f1_weighted": "f1_weighted",
    "test_loss": "log_loss",
    "first_test_accuracy": "first_accuracy",
    "before_training_test_accuracy": "initial_accuracy",
}


@dataclass(frozen=True)
class Ours:
    """Our values of one figure.

    values : one a seed, in the order of the seeds; value : their mean
    low, high, ends : 95 % interval: t of the mean; of a single share Wilson's over its images; None where there is none
    prediction : where a single training lies in 95 % of cases; None with one seed
    """

    values: tuple[float, ...]
    value: float
    low: float | None
    high: float | None
    prediction: tuple[float, float] | None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def ends(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


def value(run: Run, name: str) -> float | None:
    """Return a training's figure; None where it was not measured. Figures of epochs are of the last, or the first."""
    if name in SCORES:
        result = getattr(run.test, SCORES[name], None)
    elif name == "epochs_run":
        result = len(run.epochs)
    else:
        result = getattr(run.epochs[0 if name.startswith("first_") else -1], name.removeprefix("first_"), None)
    return None if result is None else float(result)


def ours(name: str, values: Sequence[float], images: int | None) -> Ours:
    """Return the mean of our values and how far it can be trusted.

    values : at least one; images : that a share is of, None where that is unknown
    """
    kind = kind_of(name)
    top = 1.0 if kind == "share" else float("inf")
    if len(values) > 1:
        resolution = 1.0 if kind == "count" else 1 / images if kind == "share" and images else 0.0
        mean, (low, high) = mean_interval(values, resolution), prediction_interval(values, resolution)
        prediction = (max(low, 0.0), min(high, top))
        return Ours(tuple(values), mean.value, max(mean.low, 0.0), min(mean.high, top), prediction)
    if kind == "share" and images:
        share = Proportion.of(round(values[0] * images), images)
        return Ours(tuple(values), values[0], share.low, share.high, None)
    return Ours(tuple(values), values[0], None, None, None)


def compare(name: str, reported: Figure, mine: Ours, images: int | None) -> tuple[Word, str]:
    """Return the verdict on one figure, and its basis.

    The reported figure stands for all that would be printed like it, ± half a unit of its last digit. With several seeds it is
    reproduced where that overlaps the prediction interval of a single training, as the source's is one. With one seed there is
    no such interval: then chance is that of the images alone, Newcombe's interval of the difference of two shares.
    """
    low, high = reported.value - reported.half_unit, reported.value + reported.half_unit
    if mine.prediction is not None:
        ends = interval(name, reported, mine.prediction)
        basis = f"a single training lies within {ends} (95 %, from {mine.n} seeds)"
        inside = mine.prediction[0] <= high and low <= mine.prediction[1]
    elif kind_of(name) == "share" and images:
        nearest = min(max(mine.value, low), high)
        delta = difference(*(Proportion.of(_successes(share, images), images) for share in (mine.value, nearest)))
        basis = f"1 seed: chance of the {images:,} images only"
        inside = delta.low <= 0 <= delta.high
    else:
        return "not comparable", "one seed, which does not tell how far another would differ"
    if inside:
        return "reproduced", basis
    if kind_of(name) == "count":
        return "not comparable", "it differs by more than chance, but neither more nor less of it is better"
    more = mine.value > reported.value
    return "better" if more == (kind_of(name) == "share") else "worse", basis


def _successes(share: float, images: int) -> int:
    return min(max(round(share * images), 0), images)
