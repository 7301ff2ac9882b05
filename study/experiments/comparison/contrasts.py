"""What separates one side from the first, computed from their networks' predictions for the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.evaluation.inspection import outputs
from pipeline.evaluation.statistics import McNemar, PairedDifference, holm, mcnemar, paired_difference
from pipeline.models.classifier import load
from study.experiments.comparison.sides import Side, Training, common_seeds

MOST_PICTURED = 24  # images of each kind


@dataclass(frozen=True)
class Answers:
    """One network's predictions for the validation images.

    predictions : int64 (n,)
    probabilities : of the class that is predicted, float32 (n,)
    """

    predictions: np.ndarray
    probabilities: np.ndarray


def answers(training: Training, images: np.ndarray) -> Answers:
    """images : uint8 (n, channels, height, width)"""
    _, probs = outputs(load(training.folder), images)
    return Answers(probs.argmax(1), probs.max(1))


@dataclass(frozen=True)
class Pair:
    """Two networks on the same images.

    test : of the second minus the first, so its ``only_first`` are images that only the *second* network has right
    both_right, both_wrong : images
    """

    first: Training
    second: Training
    test: McNemar
    both_right: int
    both_wrong: int


@dataclass(frozen=True)
class ClassChange:
    """How much more of a class the second side finds.

    images : of this class, >= 1
    first, second : recall, mean over the trainings that are paired
    value, low, high : second minus first; p_holm : corrected for all classes
    """

    name: str
    images: int
    first: float
    second: float
    value: float
    low: float
    high: float
    p_value: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class Disagreement:
    """An image that one network of a pair has right and the other wrong.

    index : among the validation images
    first, second : the classes that they predict, by number, with their probabilities
    pairs : in how many pairs it is so
    """

    index: int
    label: int
    first: int
    second: int
    first_probability: float
    second_probability: float
    pairs: int


@dataclass(frozen=True)
class Contrast:
    """A side against the first, on the same validation images.

    number : of the second side, the first being 0
    pairs : one for each seed that both were trained on; where there are fewer than two, a single one
    seeds : paired over the pairs, second minus first; None where there is one pair
    p_holm : of the paired t test, or with one pair of McNemar's test, corrected for all sides that are compared with the first
    confusion : images by true and predicted class, second minus first, mean over the pairs, float (n_classes, n_classes)
    only_first, only_second : images that only one network of the first pair has right, those most often so first
    """

    number: int
    first: Side
    second: Side
    pairs: tuple[Pair, ...]
    seeds: PairedDifference | None
    p_holm: float
    confusion: np.ndarray
    classes: tuple[ClassChange, ...]
    only_first: tuple[Disagreement, ...]
    only_second: tuple[Disagreement, ...]

    @property
    def main(self) -> PairedDifference | McNemar:
        """The difference that judges the two: value, low, high and p_value of second minus first."""
        return self.seeds or self.pairs[0].test


def pairs_of(first: Side, second: Side) -> list[tuple[Training, Training]]:
    """Pair the trainings on each seed that both have; without any, the first of each."""
    return common_seeds(first, second) or [(first.first, second.first)]


def contrast(number: int, first: Side, second: Side, given: Mapping[str, Answers], labels: np.ndarray) -> Contrast:
    """Compare side ``number`` with the first. ``p_holm`` is not corrected yet, see :func:`corrected`.

    given : by name, of all trainings in :func:`pairs_of`
    labels : of the validation images, int64 (n,)
    """
    chosen = pairs_of(first, second)
    answered = [(given[one.name], given[other.name]) for one, other in chosen]
    right = [(one.predictions == labels, other.predictions == labels) for one, other in answered]
    pairs = tuple(_pair(*trainings, *rights) for trainings, rights in zip(chosen, right, strict=True))
    seeds = paired(right, np.ones(len(labels), bool)) if len(pairs) > 1 else None
    n_classes = len(first.images.classes)
    confusion = np.mean(
        [_confusion(two, labels, n_classes) - _confusion(one, labels, n_classes) for one, two in answered], axis=0
    )
    apart = np.mean([two.astype(int) - one for one, two in right], axis=0)  # in [-1, 1], 1: only the second ever has it right
    return Contrast(
        number=number,
        first=first,
        second=second,
        pairs=pairs,
        seeds=seeds,
        p_holm=(seeds or pairs[0].test).p_value,
        confusion=confusion,
        classes=_classes(first.images.classes, right, labels),
        only_first=_disagreements(right, answered, labels, -apart, 0),
        only_second=_disagreements(right, answered, labels, apart, 1),
    )


def corrected(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """Correct the p-values for being several."""
    p_values = holm([item.main.p_value for item in contrasts])
    return tuple(replace(item, p_holm=p_value) for item, p_value in zip(contrasts, p_values, strict=True))


Right = Sequence[tuple[np.ndarray, np.ndarray]]  # of each pair which images either network has right, bool (n,)


def paired(right: Right, chosen: np.ndarray) -> PairedDifference:
    """Compare second minus first over at least two pairs: the share that is right among the images ``chosen``, bool (n,)."""
    first, second = zip(*((float(one[chosen].mean()), float(two[chosen].mean())) for one, two in right), strict=True)
    return paired_difference(second, first, 1 / int(chosen.sum()))


def _pair(first: Training, second: Training, right: np.ndarray, also: np.ndarray) -> Pair:
    both, neither = int((right & also).sum()), int((~right & ~also).sum())
    return Pair(first, second, _mcnemar(right, also), both, neither)


def _mcnemar(right: np.ndarray, also: np.ndarray) -> McNemar:
    """Test the second minus the first."""
    table = (right & also, ~right & also, right & ~also, ~right & ~also)
    return mcnemar(*(int(cell.sum()) for cell in table))


def _confusion(answer: Answers, labels: np.ndarray, n_classes: int) -> np.ndarray:
    return np.bincount(labels * n_classes + answer.predictions, minlength=n_classes**2).reshape(n_classes, n_classes)


def _classes(names: Sequence[str], right: Right, labels: np.ndarray) -> tuple[ClassChange, ...]:
    """Compare the recall of every class that has images."""
    changes = []
    for label, name in enumerate(names):
        chosen = labels == label
        if not chosen.any():
            continue
        first, second = (float(np.mean([pair[index][chosen].mean() for pair in right])) for index in (0, 1))
        part = paired(right, chosen) if len(right) > 1 else _mcnemar(*(each[chosen] for each in right[0]))
        changes.append(ClassChange(name, int(chosen.sum()), first, second, part.value, part.low, part.high, part.p_value))
    p_values = holm([change.p_value for change in changes])
    return tuple(replace(change, p_holm=p_value) for change, p_value in zip(changes, p_values, strict=True))


def _disagreements(
    right: Right, answered: Sequence[tuple[Answers, Answers]], labels: np.ndarray, apart: np.ndarray, winner: int
) -> tuple[Disagreement, ...]:
    """Return the images that of the first pair only network ``winner`` has right.

    First come those that it has right and the other wrong in the most pairs, of equals those that the other is surest of.

    apart : float (n,), mean over the pairs of how much more often the winner has it right
    """
    alike = np.sum([pair[winner] & ~pair[1 - winner] for pair in right], axis=0)
    chosen = np.flatnonzero(right[0][winner] & ~right[0][1 - winner])
    sure = answered[0][1 - winner].probabilities[chosen]
    order = np.lexsort((chosen, -sure, -apart[chosen]))[:MOST_PICTURED]
    first, second = answered[0]
    return tuple(
        Disagreement(
            index=int(index),
            label=int(labels[index]),
            first=int(first.predictions[index]),
            second=int(second.predictions[index]),
            first_probability=float(first.probabilities[index]),
            second_probability=float(second.probabilities[index]),
            pairs=int(alike[index]),
        )
        for index in chosen[order]
    )
