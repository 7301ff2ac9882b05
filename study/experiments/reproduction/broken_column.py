"""A column of test accuracies that cannot be what it says: how far it lies below validation, and what explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation import health
from pipeline.evaluation.statistics import Proportion, difference, p_equals
from pipeline.report import formats
from pipeline.verdict import Verdict
from study.experiments.reproduction.failure import CLASSES
from study.experiments.reproduction.judge import RecipeResult, RowResult
from study.experiments.reproduction.mnist import TEST, TEST_COUNTS, TRAIN
from study.experiments.reproduction.words import points

TEST_FIGURE, VALIDATION_FIGURE = "test_accuracy", "validation_accuracy"


@dataclass(frozen=True)
class Printed:
    """A row that prints both; gap : the health verdict on their distance, None where chance explains it."""

    found: RowResult
    test: Proportion
    validation: Proportion
    gap: Verdict | None

    @property
    def ratio(self) -> float:
        """Test accuracy as a share of validation accuracy."""
        return self.test.value / self.validation.value


def findings(result: RecipeResult) -> Iterator[Verdict]:
    """What there is to say of a source whose printed test accuracies lie too far from its validation accuracies; else nothing."""
    printed = both(result)
    bad = [item for item in printed if item.gap is not None and item.gap.level == "bad"]
    if not bad:
        return
    yield _gaps(result, printed, bad)
    yield _lost(result, bad)
    if verdict := _recounted(result, bad):
        yield verdict


def both(result: RecipeResult) -> list[Printed]:
    """Rows that print validation and test, as shares of the images that the source has."""
    rows = []
    for found in result.rows:
        reported = found.row.reported
        if found.row.later is None and {TEST_FIGURE, VALIDATION_FIGURE} <= reported.keys():
            held_out = round(found.row.params.data.validation * TRAIN)
            test, validation = (
                Proportion.of(round(reported[name].value * images), images)
                for name, images in ((TEST_FIGURE, TEST), (VALIDATION_FIGURE, held_out))
            )
            rows.append(Printed(found, test, validation, health.gap(validation, test)))
    return rows


def _gaps(result: RecipeResult, printed: Sequence[Printed], bad: Sequence[Printed]) -> Verdict:
    deltas = [(difference(item.test, item.validation), item) for item in bad]
    widest, nearest = min(delta.value for delta, _ in deltas), max(delta.value for delta, _ in deltas)
    delta, typical = sorted(deltas, key=lambda pair: pair[0].value)[len(deltas) // 2]
    reasons = Counter(reason for item in bad if (reason := item.found.row.not_comparable.get(TEST_FIGURE)))
    noted = f" What is known of it: {reasons.most_common(1)[0][0]}." if reasons else ""
    evidence = (
        f"Test minus validation is {points(widest)} to {points(nearest)} points. The middle one, {typical.found.row.title}: test "
        f"{typical.test}, validation {typical.validation}; difference {points(delta.value)} points ({points(delta.low)} to "
        f"{points(delta.high)}), {p_equals(delta.p_value)} by Fisher's exact test.{noted}"
    )
    title = (
        f"{result.recipe.source}: the test column is broken: in {len(bad)} of {len(printed)} rows test and validation differ by "
        "more than chance allows"
    )
    return Verdict("bad", title, evidence, "Do not use its test figures; look at recall per class before any average.")


def _lost(result: RecipeResult, bad: Sequence[Printed]) -> Verdict:
    """How well lost classes explain the column: no row that lost them can be above the share of the other images."""
    counts, taken = _support(result)
    left = 1 - sum(counts[label] for label in CLASSES) / sum(counts)
    below = [item for item in bad if item.test.value <= left]
    above = [item for item in bad if item.test.value > left]
    ratios = [item.ratio for item in below]
    names = ", ".join(map(str, CLASSES[:-1])) + f" and {CLASSES[-1]}"
    lost = "".join(f" − {counts[label]:,}" for label in CLASSES)
    evidence = (
        f"Classes {names} are {sum(counts[label] for label in CLASSES):,} of {sum(counts):,} images ({taken}), so a network that "
        f"never gets them right reaches ({sum(counts):,}{lost}) / {sum(counts):,} = {formats.percent(left)} at most: "
        f"{len(below)} of {len(bad)} rows lie below that. If it did as well on the others as on validation, test would be "
        f"{left:.3f} of validation; printed are {min(ratios, default=0):.3f} to {max(ratios, default=0):.3f}, "
        f"median {np.median(ratios) if ratios else 0:.3f}. What is above {left:.3f}, the other classes gain."
        + "".join(_other(item, counts) for item in above)
    )
    title = f"{result.recipe.source}: {len(CLASSES)} classes that are never recognised explain {len(below)} of {len(bad)} rows"
    return Verdict("info", title, evidence)


def _other(item: Printed, counts: Sequence[int]) -> str:
    """A row above what so many lost classes leave: how near one lost class comes."""
    left = [1 - count / sum(counts) for count in counts]
    near = [share * item.validation.value for share in left]
    return (
        f" {item.found.row.title} prints {formats.percent(item.test.value, 1)}, which is above it: there, fewer are lost; a "
        f"single one would leave {formats.percent(min(near), 1)} to {formats.percent(max(near), 1)}."
    )


def _recounted(result: RecipeResult, bad: Sequence[Printed]) -> Verdict | None:
    """Our own test accuracies of the same rows, and what they become if these classes are counted as wrong."""
    whole, spoilt, printed = [], [], []
    for item in bad:
        for run in item.found.complete:
            if run.test and len(run.test.confusion) > max(CLASSES):
                right = np.diag(np.array(run.test.confusion))
                whole.append(run.test.accuracy)
                spoilt.append(float(right.sum() - right[list(CLASSES)].sum()) / run.test.n)
                printed.append(item.test.value)
    if not whole or any(item.found.cut for item in bad):
        return None
    apart = np.array(spoilt) - np.array(printed)
    evidence = (
        f"Of {len(whole)} trainings of these rows our test accuracy is {formats.percent(min(whole))} to "
        f"{formats.percent(max(whole))}, median {formats.percent(float(np.median(whole)))}. With classes "
        f"{', '.join(map(str, CLASSES))} counted as wrong it would be {formats.percent(float(np.median(spoilt)))}; printed is "
        f"{formats.percent(float(np.median(printed)))} (medians). Ours so spoilt minus printed: median "
        f"{points(float(np.median(apart)))} points."
    )
    title = f"{result.recipe.source}: its networks are better than its test column, which ours on the whole test set show"
    return Verdict("info", title, evidence)


def _support(result: RecipeResult) -> tuple[Sequence[int], str]:
    """Test images of each class, from a training that was scored on all of them where there is one."""
    for found in result.rows:
        for run in found.complete:
            if run.test and run.test.n == TEST and len(run.test.confusion) == len(TEST_COUNTS):
                return [sum(row) for row in run.test.confusion], "counted on our test images"
    return TEST_COUNTS, "as published"
