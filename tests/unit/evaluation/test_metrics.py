import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from pipeline.evaluation.metrics import Curve, score


def draw(n: int, n_classes: int, rng: np.random.Generator, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, float32, and labels; the higher the skill the better they fit. The first labels hold every class."""
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])[:n]
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += skill
    odds = np.exp(logits)
    return (odds / odds.sum(1, keepdims=True)).astype(np.float32), labels


def names(n_classes: int) -> list[str]:
    return [f"class {i}" for i in range(n_classes)]


def test_every_number_is_scikit_learns() -> None:
    probs, labels = draw(300, 4, np.random.default_rng(0))
    result, predictions = score(probs, labels, names(4)), probs.argmax(1)
    assert result.accuracy.value == sk.accuracy_score(labels, predictions)
    assert result.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
    assert result.log_loss == pytest.approx(-np.log(probs[np.arange(300), labels].astype(float)).mean(), rel=1e-6)
    assert result.per_class.precision == pytest.approx(sk.precision_score(labels, predictions, average=None))
    assert result.per_class.recall == pytest.approx(sk.recall_score(labels, predictions, average=None))
    assert result.per_class.f1 == pytest.approx(sk.f1_score(labels, predictions, average=None))
    assert result.macro["f1"] == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    assert result.weighted["precision"] == pytest.approx(sk.precision_score(labels, predictions, average="weighted"))
    assert result.roc_auc == pytest.approx(sk.roc_auc_score(labels, probs.astype(float), multi_class="ovr"), abs=1e-6)
    assert result.pr[2].area == pytest.approx(sk.average_precision_score(labels == 2, probs[:, 2]))


def test_a_worked_example_by_hand() -> None:
    # three images of a, one of b: a a b | b; so a: 2 of 3 found, all right when said; b: found, right in 1 of 2
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    result = score(probs, np.array([0, 0, 0, 1]), ["a", "b"])
    assert result.confusion.tolist() == [[2, 1], [0, 1]]
    assert result.per_class.precision.tolist() == [1, 0.5]
    assert result.per_class.recall.tolist() == pytest.approx([2 / 3, 1])
    assert result.per_class.f1.tolist() == pytest.approx([0.8, 2 / 3])
    assert result.balanced_accuracy == pytest.approx(5 / 6)
    assert result.log_loss == pytest.approx(-np.log([0.9, 0.6, 0.2, 0.7]).mean())
    assert result.roc[0].area == pytest.approx(2 / 3)  # of the three pairs of an a and the b, two are in order
    assert (0, 2 / 3) in list(zip(result.roc[0].x, result.roc[0].y, strict=True))  # two of three a before the b
    assert (1, 0.75) in list(zip(result.pr[0].x, result.pr[0].y, strict=True))  # all a found: three of four are a


def test_the_area_of_a_roc_curve_is_the_share_of_pairs_in_order() -> None:
    probs, labels = draw(60, 3, np.random.default_rng(3))
    inside, outside = probs[labels == 1, 1], probs[labels != 1, 1]
    pairs = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    assert score(probs, labels, names(3)).roc[1].area == pytest.approx(pairs)


def test_what_has_no_meaning_is_null_in_json_with_its_reason() -> None:
    probs = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])  # b has an image and is never said, c has none
    tree = score(probs, np.array([0, 1]), ["a", "b", "c"]).to_tree()
    _, b, c = json.loads(json.dumps(tree, allow_nan=False))["per_class"]
    assert (b["precision"], b["recall"], b["f1"]) == (None, 0, 0)
    assert b["undefined"] == {"precision": "the class is never predicted"}
    assert (c["recall"], c["recall_low"], c["roc_auc"]) == (None, None, None)
    assert c["undefined"]["recall"] == c["undefined"]["roc_auc"] == "no test image is of this class"
    assert tree["macro"]["precision"] == 0.25  # a: 1 of 2, b: never said, counts 0; c has no image and does not count


def test_images_of_one_class_alone_leave_its_curves_undefined() -> None:
    result = score(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]), ["a", "b"])
    tree = result.to_tree()
    assert tree["roc_auc"] is None
    assert tree["per_class"][0]["undefined"]["roc_auc"] == "every test image is of this class"
    assert result.accuracy.value == 0.5


def test_probabilities_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="probs must be finite, got 1 of 2 rows that are not"):
        score(np.array([[0.5, 0.5], [np.nan, 0.5]]), np.array([0, 1]), ["a", "b"])


@given(st.integers(1, 80), st.integers(2, 6), st.floats(0, 4), st.integers(0, 2**32 - 1))
def test_counts_add_up_and_intervals_hold_their_estimates(n: int, n_classes: int, skill: float, seed: int) -> None:
    probs, labels = draw(n, n_classes, np.random.default_rng(seed), skill)
    result = score(probs, labels, names(n_classes))
    per_class = result.per_class
    assert result.confusion.sum() == per_class.support.sum() == per_class.predicted.sum() == n
    assert per_class.support.tolist() == np.bincount(labels, minlength=n_classes).tolist()
    seen = per_class.support > 0
    assert (per_class.recall_low[seen] <= per_class.recall[seen]).all()
    assert (per_class.recall[seen] <= per_class.recall_high[seen]).all()
    assert result.accuracy.value == pytest.approx((per_class.recall[seen] * per_class.support[seen]).sum() / n)
    json.dumps(result.to_tree(), allow_nan=False)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_images_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = draw(50, 3, rng)
    order = rng.permutation(50)
    there, back = score(probs, labels, names(3)).to_tree(), score(probs[order], labels[order], names(3)).to_tree()
    assert there.pop("log_loss") == pytest.approx(back.pop("log_loss"))
    for rows in (there["per_class"], back["per_class"]):
        for row in rows:
            row.update({name: round(value, 9) for name, value in row.items() if isinstance(value, float)})
    assert there["per_class"] == back["per_class"]
    assert there["confusion"] == back["confusion"]


def test_a_thinned_curve_keeps_its_ends_its_area_and_its_shape() -> None:
    x = np.linspace(0, 1, 5000)
    curve = Curve(x, np.sqrt(x), 2 / 3)
    thin = curve.thin(300)
    assert len(thin.x) <= 300
    assert (thin.x[0], thin.y[0], thin.x[-1], thin.y[-1], thin.area) == (0, 0, 1, 1, 2 / 3)
    assert np.abs(np.interp(x, thin.x, thin.y) - curve.y).max() < 0.005
    short = Curve(x[:10], x[:10], 0.5)
    assert short.thin(300) is short
