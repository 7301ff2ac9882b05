import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.calibration import reliability


def draw(n: int, rng: np.random.Generator, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right as often as they say when ``sharpness`` is 1, and too sure of themselves above it."""
    logits = rng.normal(scale=2.0, size=(n, 4))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > honest.cumsum(1)).sum(1).clip(max=3)
    stated = np.exp(sharpness * logits)
    return stated / stated.sum(1, keepdims=True), labels


def ece_by_loop(probs: np.ndarray, labels: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [i for i, row in enumerate(probs) if b / bins < row.max() <= (b + 1) / bins]
        if inside:
            right = np.mean([probs[i].argmax() == labels[i] for i in inside])
            stated = np.mean([probs[i].max() for i in inside])
            total += len(inside) / len(probs) * abs(right - stated)
    return total


@given(st.integers(1, 120), st.integers(2, 20), st.floats(0.3, 4), st.integers(0, 2**32 - 1))
def test_ece_is_that_of_a_loop_over_images(n: int, bins: int, sharpness: float, seed: int) -> None:
    probs, labels = draw(n, np.random.default_rng(seed), sharpness)
    diagram = reliability(probs, labels, bins, np.random.default_rng(0), replicates=2)
    assert diagram.ece == pytest.approx(ece_by_loop(probs, labels, bins))
    assert diagram.counts.sum() == n
    full = diagram.counts > 0
    assert (np.diff(diagram.edges) > 0).all()
    assert (diagram.edges[:-1][full] <= diagram.confidence[full] + 1e-12).all()
    assert (diagram.confidence[full] <= diagram.edges[1:][full] + 1e-12).all()
    assert np.isnan(diagram.accuracy[~full]).all()


def test_honest_probabilities_stay_within_what_chance_gives_and_boastful_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    honest = [reliability(*draw(400, rng), 15, rng, replicates=300) for _ in range(40)]
    assert sum(diagram.ece > diagram.chance_high for diagram in honest) <= 1
    assert np.mean([diagram.ece for diagram in honest]) == pytest.approx(np.mean([d.chance_mean for d in honest]), rel=0.1)
    boastful = reliability(*draw(400, rng, sharpness=3), 15, rng)
    assert boastful.ece > boastful.chance_high
    assert boastful.mean_confidence > boastful.mean_accuracy


def test_chance_alone_makes_an_error_that_shrinks_with_the_images() -> None:
    rng = np.random.default_rng(0)
    few, many = (reliability(*draw(n, rng), 15, rng, replicates=200).chance_mean for n in (100, 10_000))
    assert few == pytest.approx(10 * many, rel=0.3)


def test_a_probability_on_an_edge_belongs_to_the_bin_below() -> None:
    assert reliability(np.array([[0.5, 0.5]]), np.array([0]), 2, np.random.default_rng(0)).counts.tolist() == [1, 0]


def test_an_empty_bin_is_null_in_json() -> None:
    tree = reliability(np.array([[0.9, 0.1]]), np.array([0]), 2, np.random.default_rng(0)).to_tree()
    assert json.loads(json.dumps(tree, allow_nan=False))["confidence"] == [None, 0.9]
    assert tree["counts"] == [0, 1]
    assert tree["ece"] == pytest.approx(0.1)
