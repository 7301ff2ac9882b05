"""The failure of source 004, recreated on purpose: a test set whose labels are read wrongly, and who notices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from pipeline.data.dataset import SearchData, Split
from pipeline.evaluation import calibration, health, inspection, metrics
from pipeline.evaluation.metrics import Metrics
from pipeline.evaluation.statistics import Proportion
from pipeline.models.classifier import Classifier
from pipeline.verdict import Verdict
from study.state.history import Run

BINS, SEED = 15, 0  # of the calibration's diagram


def break_labels(test: Split, classes: Sequence[int]) -> Split:
    """Return the same images with the labels of some classes exchanged in a circle, and without the last image.

    Parameters
    ----------
    classes : labels; each is read as the next one, the last as the first

    Raises
    ------
    ValueError
        Fewer than two different classes, which leave nothing to exchange, or one that has no image.
    """
    kept = np.asarray(test.labels[:-1])
    missing = sorted(set(classes) - set(kept.tolist()))
    if len(set(classes)) < max(2, len(classes)) or missing:
        raise ValueError(
            f"the labels to break must be at least 2, each named once, that have images; got {tuple(classes)}, without images: "
            f"{missing or 'none'}"
        )
    labels = kept.copy()
    for right, wrong in zip(classes, (*classes[1:], classes[0]), strict=True):
        labels[kept == right] = wrong
    return Split(test.images[:-1], labels)


@dataclass(frozen=True)
class Reading:
    """One way to read the test images, and the verdicts on the network that was scored on it.

    recall : per class, in [0, 1]; None for a class without images
    confusion : rows true, as read; columns predicted
    verdicts : all health verdicts on the network
    lost, gap : those on classes that are not recognised, and on the distance to validation; None: no alarm
    """

    accuracy: Proportion
    recall: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    verdicts: tuple[Verdict, ...]
    lost: Verdict | None
    gap: Verdict | None


@dataclass(frozen=True)
class Demonstration:
    """A trained network scored on the test images as they are, and as a broken test pipeline would read them.

    network : key of the training; dataset : its name
    broken_labels : which labels were exchanged
    """

    network: str
    dataset: str
    classes: tuple[str, ...]
    broken_labels: tuple[int, ...]
    validation: Proportion
    whole: Reading
    broken: Reading

    @property
    def broken_names(self) -> list[str]:
        return [self.classes[label] for label in self.broken_labels]

    @property
    def exchanged(self) -> str:
        """The broken labels and what each is read as: ``0 as 4, 4 as 7, 7 as 0``."""
        names = self.broken_names
        return ", ".join(f"{right} as {wrong}" for right, wrong in zip(names, (*names[1:], names[0]), strict=True))

    @property
    def caught(self) -> bool:
        """Whether the broken reading is called bad for its classes and for its gap."""
        return all(alarm is not None and alarm.level == "bad" for alarm in (self.broken.lost, self.broken.gap))

    @property
    def false_alarm(self) -> bool:
        """Whether the whole reading is called bad, or its classes or its gap are warned of."""
        return bool(self.whole.lost or self.whole.gap or any(verdict.level == "bad" for verdict in self.whole.verdicts))

    def to_tree(self) -> dict[str, Any]:
        """Plain data for JSON; :meth:`of` takes it back."""
        return asdict(self)

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Demonstration:
        return TypeAdapter(cls).validate_python(tree)


def demonstrate(classifier: Classifier, data: SearchData, test: Split, run: Run, classes: Sequence[int]) -> Demonstration:
    """Score a trained network on the whole and on the broken test images, and have the health verdicts judge both.

    classifier : the weights kept of ``run``, in evaluation mode
    """
    _, probs = inspection.outputs(classifier, data.validation.images)
    validation = metrics.score(probs, np.asarray(data.validation.labels), classifier.classes)
    _, probs = inspection.outputs(classifier, test.images)
    broken = break_labels(test, classes)
    return Demonstration(
        network=run.key,
        dataset=data.info.name,
        classes=classifier.classes,
        broken_labels=tuple(classes),
        validation=validation.accuracy,
        whole=_reading(probs, np.asarray(test.labels), validation, data, run),
        broken=_reading(probs[: len(broken)], broken.labels, validation, data, run),
    )


def _reading(probs: np.ndarray, labels: np.ndarray, validation: Metrics, data: SearchData, run: Run) -> Reading:
    scores = metrics.score(probs, labels, validation.classes)
    reliability = calibration.reliability(probs, labels, BINS, np.random.default_rng(SEED))
    training = {
        "state": "diverged" if run.cause == "diverged" else "finished",
        "reason": run.reason or "",
        "epochs_run": len(run.epochs),
        "kept_epoch": run.kept_epoch,
        "stopped_early": len(run.epochs) < run.config.train.epochs,
    }
    counts = data.info.counts["train"]
    verdicts = health.judge(scores, validation, reliability, pd.DataFrame(run.epochs), training, counts, 1, ())
    return Reading(
        accuracy=scores.accuracy,
        recall=tuple(None if math.isnan(value) else float(value) for value in scores.per_class.recall),
        confusion=tuple(tuple(int(count) for count in row) for row in scores.confusion),
        verdicts=tuple(verdicts),
        lost=health.lost_classes(scores, validation),
        gap=health.gap(validation.accuracy, scores.accuracy),
    )


def verdict(demonstration: Demonstration) -> Verdict:
    """Judge whether the failure was noticed, and whether the same network on the whole test set is left in peace."""
    whole, broken = demonstration.whole, demonstration.broken
    titles = [alarm.title for alarm in (broken.lost, broken.gap) if alarm]
    evidence = (
        f"{demonstration.network}, labels {', '.join(demonstration.broken_names)} exchanged and one image lost: test "
        f"{broken.accuracy}, validation {demonstration.validation}. Verdicts: {'; '.join(titles) or 'none'}. On the whole test "
        f"set: {whole.accuracy}, {'with an alarm all the same' if demonstration.false_alarm else 'no alarm'}."
    )
    if demonstration.caught and not demonstration.false_alarm:
        return Verdict("good", "A test pipeline broken like that of 004 is caught, and the sound one raises no alarm", evidence)
    what = "raises an alarm on the sound test set, too" if demonstration.caught else "is not caught"
    return Verdict("bad", f"A test pipeline broken like that of 004 {what}", evidence, "See pipeline/evaluation/health.py.")
