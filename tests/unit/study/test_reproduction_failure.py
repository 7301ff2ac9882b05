"""The broken test pipeline of source 004, made on purpose, and caught."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from pipeline.config import ConvBlock, Data, Model, Params, Pool, Train, to_tree
from pipeline.data.dataset import Published, Split
from pipeline.data.digits import CLASSES, on_canvas
from pipeline.data.prepare import Prepared, prepare
from pipeline.evaluation.health import lost_classes
from pipeline.evaluation.metrics import score
from pipeline.models.classifier import Classifier
from pipeline.training.loop import Training
from study.experiments.reproduction.failure import Demonstration, break_labels, demonstrate, verdict
from study.experiments.reproduction.recipe import load
from study.state.history import Run
from study.state.records import Epoch, RunConfig, parsed

PARAMS = Params(
    data=Data(name="digits", test=0.4),
    model=Model(conv=(ConvBlock(out=8, kernel=5, pool=Pool()), ConvBlock(out=16, kernel=5, pool=Pool()))),
    train=Train(epochs=8, batch_size=40, lr=0.006),
)


FAILURE = load("004").failure
assert FAILURE
LOST = FAILURE.classes


@dataclass(frozen=True)
class Trained:
    classifier: Classifier
    data: Prepared
    run: Run


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A small network that has really learned scikit-learn's digits, as a planned training."""
    digits = load_digits()
    published = Published(CLASSES, {"train": Split(on_canvas(digits.images.astype(np.uint8)), digits.target.astype(np.int64))})
    data = prepare(published, PARAMS.data)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks gain nothing from more
    training = Training(PARAMS.model, PARAMS.train, data.search, torch.device("cpu"))
    while not training.ended:
        training.run_epoch()
    torch.set_num_threads(threads)
    told = {"params": {}, "distributions": {}, "group": "g", "replicate": 0, "seed": 0, "parameters": 1, "multiply_adds": 1}
    run = Run(
        "arch-1.s0", "planned", trial=0, config=RunConfig(to_tree(PARAMS)), origin="arch-1", asked=0, state="COMPLETE", **told
    )
    run.epochs, run.kept_epoch = [parsed(Epoch, asdict(epoch)) for epoch in training.history], training.kept_epoch
    return Trained(training.finish(), data, run)


@pytest.fixture(scope="module")
def demonstration(trained: Trained) -> Demonstration:
    return demonstrate(trained.classifier, trained.data.search, trained.data.test, trained.run, LOST)


def test_the_broken_reading_is_caught_by_the_health_verdicts(demonstration: Demonstration) -> None:
    assert demonstration.caught
    bad = [found.title for found in demonstration.broken.verdicts if found.level == "bad"]
    assert bad[0] in (  # a 0 that the network takes for a 4 is right by accident
        "Classes 0, 4 and 7 are never predicted correctly",
        "Classes 0, 4 and 7 are recognised less often than by guessing",
    )
    assert any("below validation, more than chance allows" in title for title in bad)
    assert verdict(demonstration).level == "good"


def test_of_a_perfect_network_the_broken_classes_are_never_predicted_correctly() -> None:
    labels = np.arange(400) % 10
    validation = score(np.eye(10)[labels], labels, CLASSES)
    broken = break_labels(Split(np.zeros((401, 1, 1, 1), np.uint8), np.append(labels, 1)), LOST)
    found = lost_classes(score(np.eye(10)[labels], broken.labels, CLASSES), validation)
    assert found is not None
    assert (found.level, found.title) == ("bad", "Classes 0, 4 and 7 are never predicted correctly")


def test_a_failure_that_is_not_noticed_and_an_alarm_for_nothing_are_problems(demonstration: Demonstration) -> None:
    missed = replace(demonstration, broken=demonstration.whole)
    assert (verdict(missed).level, verdict(missed).title.endswith("is not caught")) == ("bad", True)
    nervous = replace(demonstration, whole=demonstration.broken)
    assert (verdict(nervous).level, "raises an alarm" in verdict(nervous).title) == ("bad", True)


def test_the_whole_reading_raises_no_alarm(demonstration: Demonstration) -> None:
    assert not demonstration.false_alarm
    assert [found.title for found in demonstration.whole.verdicts if found.level == "bad"] == []


def test_the_broken_classes_are_those_lost_and_the_others_are_recognised_as_before(demonstration: Demonstration) -> None:
    whole, broken = demonstration.whole, demonstration.broken
    assert max(broken.recall[label] or 0.0 for label in (0, 4, 7)) < 0.1
    others = [label for label in range(10) if label not in (0, 4, 7)]
    assert [broken.recall[label] for label in others] == pytest.approx([whole.recall[label] for label in others], abs=0.02)
    assert broken.accuracy.n == whole.accuracy.n - 1  # one image lost, as there
    assert whole.accuracy.value - broken.accuracy.value == pytest.approx(0.3, abs=0.02)


def test_a_demonstration_survives_json(demonstration: Demonstration) -> None:
    assert Demonstration.of(json.loads(json.dumps(demonstration.to_tree(), allow_nan=False))) == demonstration


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.permutations([0, 4, 7]))
def test_broken_labels_are_exchanged_in_a_circle_and_one_image_is_lost(labels: list[int], classes: list[int]) -> None:
    test = Split(np.arange(len(labels) + 4, dtype=np.uint8).reshape(-1, 1, 1, 1), np.array([*labels, 0, 4, 7, 1]))
    before = test.labels.copy()
    broken = break_labels(test, classes)
    after = dict(zip(classes, (*classes[1:], classes[0]), strict=True))
    assert broken.labels.tolist() == [after.get(label, label) for label in before[:-1].tolist()]
    assert (broken.images == test.images[:-1]).all()
    assert (test.labels == before).all()


@pytest.mark.parametrize(
    ("classes", "message"),
    [((0,), "at least 2"), ((0, 0, 4), "each named once"), ((0, 9), r"got \(0, 9\), without images: \[9\]")],
)
def test_labels_that_cannot_be_broken_are_refused(classes: tuple[int, ...], message: str) -> None:
    test = Split(np.zeros((4, 1, 1, 1), np.uint8), np.array([0, 4, 7, 7]))
    with pytest.raises(ValueError, match=message):
        break_labels(test, classes)
