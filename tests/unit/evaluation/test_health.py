"""Verdicts: what is broken is noticed, what is sound is left in peace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import config
from pipeline.evaluation import course, health
from pipeline.evaluation.calibration import Reliability, reliability
from pipeline.evaluation.metrics import Metrics, score
from pipeline.evaluation.statistics import Proportion
from pipeline.verdict import Verdict

DIGITS = [str(i) for i in range(10)]


def honest(n: int, rng: np.random.Generator, sureness: float, n_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """What a sound network says of ``n`` images: probabilities that mean what they say, and the labels."""
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), rng.integers(0, n_classes, n)] += sureness
    odds = np.exp(2 * logits)
    probs = odds / odds.sum(1, keepdims=True)
    return probs, (rng.random((n, 1)) > probs.cumsum(1)).sum(1).clip(max=n_classes - 1)


def falling_history(rng: np.random.Generator, epochs: int = 10) -> pd.DataFrame:
    """Losses that fall and level out, validation with the noise of its few images."""
    epoch = np.arange(1, epochs + 1)
    train = 0.1 + 0.8 * np.exp(-epoch / 1.5)
    validation = (train + 0.03) * (1 + 0.03 * rng.normal(size=epochs))
    table = {"epoch": epoch, "train_loss": train, "validation_loss": validation}
    return pd.DataFrame(table | {"train_accuracy": 1 - train / 3, "validation_accuracy": 1 - validation / 3})


def run_of(history: pd.DataFrame, **changes: Any) -> dict[str, Any]:
    best = int(history["epoch"].iloc[history["validation_loss"].argmin()])
    run = {"state": "finished", "reason": "", "epochs_run": len(history), "kept_epoch": best, "stopped_early": False}
    return run | {"params": config.to_tree(config.Params())} | changes


def judged(test: Metrics, validation: Metrics, diagram: Reliability, history: pd.DataFrame) -> list[Verdict]:
    return health.judge(test, validation, diagram, history, run_of(history), [500] * 10, 1, [])


# ------------------------------------------------------------------------------------------------ a broken test pipeline


def test_reference_004_is_caught_though_its_authors_saw_nothing() -> None:
    """Validation 94 %, test 68 %, precision and recall of 0, 4 and 7 exactly 0: no class is missing from the predictions of
    the network, the labels of these three were exchanged on the way."""
    rng = np.random.default_rng(4)
    probs, labels = honest(9999, rng, sureness=4.0)
    validation = score(*honest(12_000, rng, sureness=4.0), DIGITS)
    assert validation.accuracy.value == pytest.approx(0.94, abs=0.02)
    trio = np.array([0, 4, 7])
    inside = np.isin(labels, trio)
    probs[np.ix_(inside, trio)] *= labels[inside, None] == trio  # so that no mistake among the three looks right afterwards
    probs /= probs.sum(1, keepdims=True)
    exchanged = np.select([labels == 0, labels == 4, labels == 7], [4, 7, 0], labels)
    test = score(probs, exchanged, DIGITS)
    assert test.accuracy.value == pytest.approx(0.66, abs=0.03)
    assert [test.per_class.precision[label] for label in (0, 4, 7)] == [0, 0, 0]
    assert [test.per_class.recall[label] for label in (0, 4, 7)] == [0, 0, 0]

    found = {
        verdict.title: verdict
        for verdict in judged(test, validation, reliability(probs, exchanged, 15, rng), falling_history(rng))
    }
    lost = found["Classes 0, 4 and 7 are never predicted correctly"]
    assert lost.level == "bad"
    assert "(precision 0.000, recall 0.000)" in lost.evidence
    assert "taken for 0" in lost.evidence
    assert "On validation images their recall is" in lost.evidence
    assert "their test images or labels differ" in lost.remedy
    gap = next(verdict for title, verdict in found.items() if "points below validation" in title)
    assert gap.level == "bad"
    assert "p < 0.001" in gap.evidence
    assert "Nothing suspicious found" not in found


def test_a_class_that_is_never_said_is_named_with_what_it_is_taken_for() -> None:
    probs, labels = honest(2000, np.random.default_rng(0), sureness=4.0)
    mute = probs.copy()
    mute[:, 3] = 0
    mute /= mute.sum(1, keepdims=True)
    whole, without = score(probs, labels, DIGITS), score(mute, labels, DIGITS)
    verdict = health.lost_classes(without, without)
    assert verdict is not None
    assert (verdict.level, verdict.title) == ("bad", "Class 3 is never predicted")
    assert verdict.evidence.startswith(f"0 of {(labels == 3).sum()} images of 3 recognised (precision undefined, recall 0.000), ")
    assert verdict.remedy.startswith("Check the labels of these classes")
    assert health.lost_classes(whole, whole) is None


def test_a_class_that_is_found_now_and_then_by_accident_is_lost_too() -> None:
    probs, labels = honest(4000, np.random.default_rng(0), sureness=4.0)
    exchanged = np.select([labels == 0, labels == 4], [4, 0], labels)
    test = score(probs, exchanged, DIGITS)
    assert 0 < test.per_class.recall[0] < 0.05
    verdict = health.lost_classes(test, score(probs, labels, DIGITS))
    assert verdict is not None
    assert (verdict.level, verdict.title) == ("bad", "Classes 0 and 4 are recognised less often than by guessing")


def test_one_image_of_a_class_that_is_missed_is_no_proof() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2])
    probs = np.eye(3)[labels]
    probs[[3, 60, 100]] = [[0.1, 0.9, 0], [0.9, 0.1, 0], [0.9, 0.1, 0]]
    test = score(probs, labels, ["a", "b", "c"])
    verdict = health.lost_classes(test, test)
    assert verdict is not None
    assert (verdict.level, verdict.title) == ("warn", "Class c is never predicted")
    probs[50:100] = [1, 0, 0]  # but fifty of b are
    test = score(probs, labels, ["a", "b", "c"])
    verdict = health.lost_classes(test, test)
    assert verdict is not None
    assert (verdict.level, verdict.title) == ("bad", "Classes b and c are never predicted correctly")


# ---------------------------------------------------------------------------------------------------- one rule at a time


@pytest.mark.parametrize(
    ("validation", "test", "level", "word"),
    [
        ((5640, 6000), (6800, 10_000), "bad", "below"),  # reference 004
        ((4080, 6000), (9400, 10_000), "bad", "above"),
        ((5862, 6000), (9793, 10_000), None, ""),  # reference 001
        ((970, 1000), (945, 1000), "warn", "below"),  # p = 0.008
        ((59_700, 60_000), (9_900, 10_000), "warn", "below"),  # certain, and half a point
        ((58, 60), (54, 60), None, ""),
    ],
)
def test_a_gap_is_told_from_chance(validation: tuple[int, int], test: tuple[int, int], level: str | None, word: str) -> None:
    verdict = health.gap(Proportion.of(*validation), Proportion.of(*test))
    assert (verdict.level if verdict else None) == level
    assert verdict is None or f"points {word} validation" in verdict.title


def test_random_answers_and_one_answer_for_all_are_chance_level() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 3000)
    for probs in (rng.dirichlet(np.ones(10), 3000), np.tile(np.eye(10)[4], (3000, 1))):
        verdict = health.guessing(score(probs, labels, DIGITS))
        assert verdict is not None
        assert verdict.level == "bad"
        assert verdict.title == "Predictions are at chance level"


def test_a_network_that_is_no_better_than_its_largest_class_but_knows_the_small_one_is_warned_of() -> None:
    labels = np.array([0] * 950 + [1] * 50)
    said = labels.copy()
    said[:40], said[950:960] = 1, 0  # 40 of the small class found, 40 of the large one lost: 95 % right, as by always saying a
    verdict = health.guessing(score(np.eye(2)[said], labels, ["a", "b"]))
    assert verdict is not None
    assert (verdict.level, verdict.title) == ("warn", "Always answering a would be as accurate")
    assert health.guessing(score(np.eye(2)[labels], labels, ["a", "b"])) is None


@pytest.mark.parametrize(
    ("right", "n", "found"),
    [
        (2, 2, ("warn", "2 test images cannot separate the predictions from guessing")),
        (1, 2, ("warn", "2 test images cannot separate the predictions from guessing")),
        (13, 20, ("warn", "20 test images cannot separate the predictions from guessing")),
        (20, 20, None),
        (1010, 2000, ("bad", "Predictions are at chance level")),
        (1200, 2000, None),
    ],
)
def test_few_images_are_no_reason_to_call_predictions_chance(right: int, n: int, found: tuple[str, str] | None) -> None:
    labels = np.arange(n) % 2
    said = np.where(np.arange(n) < right, labels, 1 - labels)
    verdict = health.guessing(score(np.eye(2)[said], labels, ["a", "b"]))
    assert (verdict and (verdict.level, verdict.title)) == found


def test_two_images_of_a_rare_class_among_many_are_told_from_guessing() -> None:
    labels = np.array([0] * 1000 + [1] * 2)
    verdict = health.guessing(score(np.eye(2)[labels], labels, ["a", "b"]))
    assert verdict is not None
    assert verdict.title == "Always answering a would be as accurate"


def test_over_and_under_confidence_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    probs, labels = honest(3000, rng, sureness=2.0)
    titles = []
    for power in (0.4, 1.0, 3.0):
        stated = probs**power / (probs**power).sum(1, keepdims=True)
        verdict = health.miscalibrated(reliability(stated, labels, 15, rng))
        titles.append(verdict.title if verdict else None)
    assert titles == ["The network is too unsure of itself", None, "The network is too sure of itself"]


@pytest.mark.parametrize(
    ("successes", "n", "small"), [(9900, 10_000, False), (350, 360, False), (57, 60, True), (180, 360, True)]
)
def test_a_test_set_is_too_small_where_its_interval_is_wide(successes: int, n: int, small: bool) -> None:
    verdict = health.small_test(Proportion.of(successes, n))
    assert (verdict is not None) == small
    assert verdict is None or "test images would give ± 1 point" in verdict.remedy


@pytest.mark.parametrize(("successes", "n"), [(60, 60), (0, 60), (59, 60), (30, 60), (57, 60)])
def test_as_many_test_images_as_are_named_give_one_point(successes: int, n: int) -> None:
    verdict = health.small_test(Proportion.of(successes, n))
    assert verdict is not None
    needed = int(verdict.remedy.split()[1].replace(",", ""))
    assert Proportion.of(round(successes / n * needed), needed).half_width <= 0.01
    fewer = needed - 100
    assert fewer == 0 or Proportion.of(round(successes / n * fewer), fewer).half_width > 0.01


def test_signed_points_carry_a_minus_sign() -> None:
    verdict = health.gap(Proportion.of(5640, 6000), Proportion.of(6800, 10_000))
    assert verdict is not None
    assert "difference −26.00 points (−27.08 to −24.90)" in verdict.evidence
    assert " -" not in verdict.evidence


def test_from_its_second_opening_on_the_test_set_is_spoken_of() -> None:
    assert health.opened_often(1) is None
    verdict = health.opened_often(7)
    assert verdict is not None
    assert verdict.level == "info"
    assert "7 times" in verdict.evidence


# ------------------------------------------------------------------------------------------------ the course of a training


def losses(validation: list[float], train: list[float] | None = None) -> pd.DataFrame:
    train = train or list(validation)
    epochs = range(1, len(validation) + 1)
    table = {"epoch": epochs, "train_loss": train, "validation_loss": validation}
    return pd.DataFrame(table | {"train_accuracy": 0.9, "validation_accuracy": 0.9})


def test_a_diverged_training_is_bad_with_its_reason() -> None:
    verdict = course.diverged(run_of(losses([1.0, 9.0]), state="diverged", reason="loss is NaN at step 3 of epoch 3"))
    assert verdict is not None
    assert verdict.level == "bad"
    assert verdict.evidence == ("loss is NaN at step 3 of epoch 3, after 2 epochs; this report judges the weights of epoch 1.")
    first = course.diverged({"state": "diverged", "reason": "loss is NaN", "epochs_run": 0, "kept_epoch": 0})
    assert first is not None
    assert first.evidence == "loss is NaN, in the first epoch; this report judges the initial weights."
    assert course.diverged(run_of(losses([1.0]))) is None


def test_a_network_whose_train_accuracy_stays_at_the_largest_class_learned_nothing() -> None:
    history = losses([2.3, 2.3, 2.3])
    uneven = [112] + [98] * 9
    stuck = course.learned_nothing(history.assign(train_accuracy=[0.10, 0.112, 0.11]), uneven)
    assert stuck is not None
    assert stuck.level == "bad"
    assert "always answering the largest class gives 11.27%" in stuck.evidence
    assert course.learned_nothing(history.assign(train_accuracy=[0.11, 0.2, 0.3]), uneven) is None


def test_no_more_epochs_are_asked_for_after_a_loss_of_nought_or_a_divergence() -> None:
    perfect = losses([2.0, 1.5, 1.0, 0.5, 0.0])
    assert course.unfinished(perfect, run_of(perfect)) is None
    down = losses([2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 0.6])
    assert course.unfinished(down, run_of(down, state="diverged")) is None


@pytest.mark.parametrize(
    ("validation", "level"),
    [
        ([2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 0.6], "warn"),  # halfway down
        ([2.0, 1.0, 0.5, 0.4, 0.39, 0.385, 0.384, 0.383], "info"),  # levelled out, the last is the lowest by a hair
        ([2.0, 1.0, 0.5, 0.4, 0.38, 0.39, 0.40, 0.39], None),
        ([1.0], None),
        ([1.0, 0.9, 0.8], "info"),  # too few for a trend
    ],
)
def test_a_training_that_was_cut_short_is_noticed(validation: list[float], level: str | None) -> None:
    history = losses(validation)
    verdict = course.unfinished(history, run_of(history))
    assert (verdict.level if verdict else None) == level
    assert course.unfinished(history, run_of(history, stopped_early=True)) is None


@pytest.mark.parametrize(
    ("validation", "train", "keep", "level"),
    [
        ([1.0, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8], [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02], "last", "warn"),
        ([1.0, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8], [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02], "best", "info"),
        ([1.0, 0.5, 0.4, 0.41, 0.42, 0.9, 0.42], [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02], "last", None),  # one unlucky epoch
        ([1.0, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8], [1.0, 0.5, 0.3, 0.4, 0.5, 0.6, 0.7], "last", None),  # both rise: not over-fitting
        ([1.0, 0.5, 0.4, 0.38], [1.0, 0.5, 0.3, 0.2], "last", None),
    ],
)
def test_over_fitting_is_a_validation_loss_that_rises_while_the_train_loss_falls(
    validation: list[float], train: list[float], keep: str, level: str | None
) -> None:
    history = losses(validation, train)
    run = run_of(history, **({"kept_epoch": len(history)} if keep == "last" else {}))
    verdict = course.over_fitted(history, run)
    assert (verdict.level if verdict else None) == level


def test_epochs_without_a_finite_loss_are_left_out() -> None:
    rng = np.random.default_rng(0)
    probs, labels = honest(2000, rng, sureness=4.0)
    test = score(probs, labels, DIGITS)
    history = falling_history(rng)
    history.loc[9, ["train_loss", "validation_loss"]] = np.nan
    run = run_of(history, state="diverged", reason="loss is NaN")
    verdicts = health.judge(test, test, reliability(probs, labels, 15, rng), history, run, [200] * 10, 1, [])
    assert verdicts[0].title == "Training diverged"
    none = health.judge(test, test, reliability(probs, labels, 15, rng), history[9:], run, [200] * 10, 1, [])
    assert [verdict.level for verdict in none] == ["bad"]


# ---------------------------------------------------------------------------------------------------------- false alarms


@pytest.mark.parametrize(("n_test", "n_validation", "sureness"), [(360, 144, 4.0), (1000, 600, 2.0)])
def test_a_sound_network_raises_no_alarm_in_98_of_100_draws(n_test: int, n_validation: int, sureness: float) -> None:
    rng = np.random.default_rng(0)
    bad = warned = 0
    for _ in range(100):
        (probs, labels), validation = honest(n_test, rng, sureness), honest(n_validation, rng, sureness)
        diagram = reliability(probs, labels, 15, rng, replicates=100)
        verdicts = judged(score(probs, labels, DIGITS), score(*validation, DIGITS), diagram, falling_history(rng))
        levels = {verdict.level for verdict in verdicts if "too small" not in verdict.title}
        bad += "bad" in levels
        warned += "warn" in levels
    assert bad <= 2
    assert warned <= 5


def test_when_all_is_well_one_verdict_says_what_was_checked() -> None:
    rng = np.random.default_rng(1)
    probs, labels = honest(2000, rng, sureness=4.0)
    test = score(probs, labels, DIGITS)
    verdicts = judged(test, test, reliability(probs, labels, 15, rng), falling_history(rng))
    assert [verdict.level for verdict in verdicts] == ["good"]
    assert verdicts[0].evidence.startswith("All 10 classes are recognised, the worst with recall ")


def test_every_alarm_says_what_to_do() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, 300)
    test = score(np.tile(np.eye(10)[0], (300, 1)), labels, DIGITS)
    history = losses([1.0, 0.8, 0.6, 0.4, 0.2]).assign(train_accuracy=0.1)
    diagram = replace(reliability(test.confusion[:1] / 300, labels[:1], 15, rng), ece=0.9, chance_high=0.1)
    run = run_of(history, state="diverged", reason="loss is infinite")
    validation = score(np.eye(10)[labels], labels, DIGITS)
    verdicts = health.judge(test, validation, diagram, history, run, [100] * 10, 3, [])
    assert len(verdicts) >= 8
    assert all(verdict.evidence and verdict.remedy for verdict in verdicts)
    assert all(any(mark.isdigit() for mark in verdict.evidence) for verdict in verdicts if verdict.title != "Training diverged")
