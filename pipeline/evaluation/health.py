"""Verdicts on a trained network, with the numbers behind them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.evaluation import course
from pipeline.evaluation.calibration import Reliability
from pipeline.evaluation.metrics import Metrics
from pipeline.evaluation.statistics import Proportion, difference, p_equals
from pipeline.verdict import Verdict, worst_first

SURE, UNLIKELY = 0.001, 0.01  # p-values of bad and warn: false alarms for 1 in 1,000 and 1 in 100 healthy networks
GAP = 0.01  # accuracy; a smaller gap, even if certain, is harmless
SKILL = 0.05  # fraction of the way from guessing to perfect
MISCALIBRATION = 0.02  # ECE above its mean by chance
WIDE = 0.025  # accuracy; sensible small networks differ by 1 to 2 points on the usual data sets


def judge(
    test: Metrics,
    validation: Metrics,
    reliability: Reliability,
    history: pd.DataFrame,
    run: Mapping[str, Any],
    train_counts: Sequence[int],
    openings: int,
    checks: Sequence[Verdict],
) -> list[Verdict]:
    """Return all verdicts that apply, the most severe first; if none is bad or a warning, one that lists the checks.

    Parameters
    ----------
    test, validation : of the kept weights, on both splits
    history : columns of ``history.csv``; epochs whose loss is not finite are dropped
    run : content of ``run.json``
    train_counts : training images per class
    openings : of the test set, so far
    checks : verdicts on the data; bad ones and warnings are included
    """
    history = history[np.isfinite(history["train_loss"]) & np.isfinite(history["validation_loss"])]
    candidates = [
        course.diverged(run),
        lost_classes(test, validation) if run["epochs_run"] else None,  # initial weights know no classes
        gap(validation.accuracy, test.accuracy),
        guessing(test),
        miscalibrated(reliability),
        small_test(test.accuracy),
        unseen_classes(test),
        opened_often(openings),
    ]
    if len(history):
        candidates += [
            course.learned_nothing(history, train_counts),
            course.unfinished(history, run),
            course.over_fitted(history, run),
        ]
    alarms = ("bad", "warn")
    verdicts = [verdict for verdict in candidates if verdict] + [verdict for verdict in checks if verdict.level in alarms]
    if not any(verdict.level in alarms for verdict in verdicts):
        verdicts.insert(0, _all_well(test, validation, reliability))
    return worst_first(verdicts)


def lost_classes(test: Metrics, validation: Metrics) -> Verdict | None:
    """Return bad if a class is never recognised, or less often than by guessing, and chance cannot explain it; warn if it can.

    Less often than by guessing: the upper end of the interval of its recall is below 1 / (classes with images). Chance: the
    binomial probability that a network with the mean recall of the other classes recognises this one at most as often; bad below
    0.001 divided by the number of classes.
    """
    scores = test.per_class
    lost = np.flatnonzero((scores.recall == 0) | (scores.recall_high < 1 / (scores.support > 0).sum()))
    if not len(lost):
        return None
    hits, support = np.diag(test.confusion)[lost], scores.support[lost]
    others = np.delete(scores.recall, lost)
    usual = np.nanmean(others) if np.isfinite(others).any() else 1.0
    bad = stats.binom.cdf(hits, support, usual).min() < SURE / len(test.classes)
    evidence = "; ".join(_fate(test, int(label)) for label in lost[:10]) + "."
    elsewhere = validation.per_class.recall[lost]
    if (elsewhere > 0.5).all():
        evidence += f" On validation images their recall is {elsewhere.min():.1%} or more."
        remedy = "The network knows these classes, so their test images or labels differ from the others: check how test is read."
    else:
        remedy = "Check the labels of these classes and how many training images they have; more images or balanced classes help."
    how = "recognised less often than by guessing" if hits.any() else "never predicted correctly"
    if not scores.predicted[lost].any():
        how = "never predicted"
    names = _names([test.classes[label] for label in lost])
    return Verdict("bad" if bad else "warn", f"{names} {'is' if len(lost) == 1 else 'are'} {how}", evidence, remedy)


def gap(validation: Proportion, test: Proportion) -> Verdict | None:
    """Return bad if validation and test accuracy differ significantly and by at least 1 point; warn if only significantly.

    Bad: Fisher's exact test p < 0.001, and the end of the 95 % interval nearer to 0 is at least 1 point from it. Warn: p < 0.01.
    """
    delta = difference(test, validation)
    if delta.p_value >= UNLIKELY:
        return None
    bad = delta.p_value < SURE and min(abs(delta.low), abs(delta.high)) >= GAP
    word = "below" if delta.value < 0 else "above"
    evidence = (
        f"Test {test}, validation {validation}; difference {_points(delta.value)} points "
        f"({_points(delta.low)} to {_points(delta.high)}), {p_equals(delta.p_value)} by Fisher's exact test."
    )
    below = "Look for test images or labels that are read differently, or come from other people, places or times, than training."
    above = "Look for test images that are easier than, or duplicates of, the training images."
    title = f"Test is {100 * abs(delta.value):.1f} points {word} validation, more than chance allows"
    return Verdict("bad" if bad else "warn", title, evidence, below if word == "below" else above)


def guessing(test: Metrics) -> Verdict | None:
    """Return bad if predictions are at chance level, warn if they may be, or if always answering the largest class does as well.

    At chance level: balanced accuracy is less than 5 % of the way from 1 / (classes with images) to 1. May be: it is within 3.3
    standard errors of guessing (p = 0.001, two-sided), or the images are so few that even perfect answers would be. Guessing
    means the same predictions in random order, or each class as often as it occurs. As well: binomial test of the accuracy
    against the share of the largest class, one-sided p >= 0.01.
    """
    support = test.per_class.support
    seen = support > 0
    if seen.sum() < 2:
        return None
    chance = 1 / seen.sum()
    answers = (test.per_class.predicted[seen], support[seen])  # of the two ways of guessing
    shares = [counts / support.sum() for counts in answers]
    error = max(math.sqrt((share * (1 - share) / support[seen]).sum()) / seen.sum() for share in shares)
    sigmas = stats.norm.isf(SURE / 2)
    gain = test.balanced_accuracy - chance
    evidence = (
        f"Balanced accuracy {test.balanced_accuracy:.2%}; guessing gives {chance:.2%} with a standard error of "
        f"{error:.2%}. Accuracy {test.accuracy}."
    )
    if sigmas * error >= 1 - chance or sigmas * error > gain >= SKILL * (1 - chance):
        title = f"{test.accuracy.n:,} test images cannot separate the predictions from guessing"
        return Verdict("warn", title, evidence, "Raise data.test or data.limit, or add test images.")
    if gain < SKILL * (1 - chance):
        remedy = (
            "Check whether the network learned its training images; if it did, the test images or labels are read differently."
        )
        return Verdict("bad", "Predictions are at chance level", evidence, remedy)
    k, n, majority = test.accuracy.successes, test.accuracy.n, support.max() / support.sum()
    p_value = stats.binomtest(k, n, majority, alternative="greater").pvalue
    if p_value < UNLIKELY:
        return None
    return Verdict(
        "warn",
        f"Always answering {test.classes[support.argmax()]} would be as accurate",
        f"Accuracy {test.accuracy}; the largest class has {majority:.2%} of the test images (binomial test, "
        f"{p_equals(p_value)}). Balanced accuracy {test.balanced_accuracy:.2%}.",
        "Judge by balanced accuracy and recall per class, and give the small classes more images.",
    )


def miscalibrated(diagram: Reliability) -> Verdict | None:
    """Return warn if the ECE is above the 99.9th percentile of a perfectly calibrated model on as many images, and at least 0.02
    above its mean."""
    if diagram.ece <= diagram.chance_high or diagram.ece - diagram.chance_mean < MISCALIBRATION:
        return None
    over = diagram.mean_confidence > diagram.mean_accuracy
    evidence = (
        f"Expected calibration error {diagram.ece:.4f}; perfect probabilities would show {diagram.chance_mean:.4f}, and less "
        f"than {diagram.chance_high:.4f} in 999 of 1,000 cases. Mean probability {diagram.mean_confidence:.2%}, accuracy "
        f"{diagram.mean_accuracy:.2%}."
    )
    remedy = "Fewer epochs, train.label_smoothing or more images" if over else "More epochs, less train.label_smoothing"
    return Verdict(
        "warn",
        f"The network is too {'sure' if over else 'unsure'} of itself",
        evidence,
        f"{remedy}; after the losses mse and multi_margin probabilities mean little.",
    )


def small_test(test: Proportion) -> Verdict | None:
    """Return warn if the 95 % interval reaches more than 2.5 points to either side: good small networks differ by less."""
    if test.half_width <= WIDE:
        return None
    # 10,000 images suffice for any share; near 0 and 1 the interval shrinks faster than with the root of their number.
    hundreds = range(1, 101)
    needed = (
        100
        * hundreds[
            bisect_left(hundreds, True, key=lambda k: Proportion.of(round(test.value * 100 * k), 100 * k).half_width <= 0.01)
        ]
    )
    return Verdict(
        "warn",
        "The test set is too small to tell good networks apart",
        f"Accuracy {test}: ± {100 * test.half_width:.1f} points.",
        f"About {needed:,} test images would give ± 1 point.",
    )


def unseen_classes(test: Metrics) -> Verdict | None:
    """Return warn if a class has no test image: its scores are unknown, and averages omit it."""
    names = [name for name, support in zip(test.classes, test.per_class.support, strict=True) if not support]
    if not names:
        return None
    title = f"{_names(names)} {'has' if len(names) == 1 else 'have'} no test image"
    return Verdict(
        "warn", title, f"{test.accuracy.n} test images in all.", "Raise data.test or data.limit, or add images of the class."
    )


def opened_often(openings: int) -> Verdict | None:
    """Return info from the second opening on: a test set used for many decisions becomes a validation set."""
    if openings < 2:
        return None
    evidence = f"Opened {openings} times on this data set, this time included."
    return Verdict("info", "The test set was opened before", evidence, "Choose between networks by validation accuracy alone.")


def _all_well(test: Metrics, validation: Metrics, diagram: Reliability) -> Verdict:
    delta = difference(test.accuracy, validation.accuracy)
    return Verdict(
        "good",
        "Nothing suspicious found",
        f"All {len(test.classes)} classes are recognised, the worst with recall {np.nanmin(test.per_class.recall):.1%}; test and "
        f"validation differ by {_points(delta.value)} points ({p_equals(delta.p_value)}); accuracy is far from guessing; "
        f"calibration error {diagram.ece:.4f} (chance {diagram.chance_mean:.4f}); training neither diverged nor was cut short.",
    )


def _points(share: float) -> str:
    """Return a share in percentage points with sign: ``−2.65``."""
    return f"{100 * share:+.2f}".replace("-", "\u2212")


def _fate(test: Metrics, label: int) -> str:
    row = test.confusion[label]
    taken = int(row.argmax())
    scores = test.per_class
    precision = "undefined" if np.isnan(scores.precision[label]) else f"{scores.precision[label]:.3f}"
    return (
        f"{row[label]} of {row.sum()} images of {test.classes[label]} recognised (precision {precision}, recall "
        f"{scores.recall[label]:.3f}), {row[taken]} taken for {test.classes[taken]}"
    )


def _names(names: Sequence[str]) -> str:
    """Return ``Class a`` or ``Classes a, b and c``; at most the first ten."""
    if len(names) == 1:
        return f"Class {names[0]}"
    if len(names) > 10:
        return f"Classes {', '.join(names[:10])} and {len(names) - 10} more"
    return f"Classes {', '.join(names[:-1])} and {names[-1]}"
