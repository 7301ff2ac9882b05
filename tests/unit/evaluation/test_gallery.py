import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.gallery import choose, rows


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_galleries_hold_what_they_say(n: int, count: int, samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = rng.dirichlet(np.ones(3), n), rng.integers(0, 3, n)
    chosen = choose(probs, labels, count, samples, np.random.default_rng(0))
    is_right = probs.argmax(1) == labels
    assert len(chosen.right) == min(count, is_right.sum())
    assert len(chosen.wrong) == min(count, (~is_right).sum())
    assert is_right[chosen.right].all()
    assert not is_right[chosen.wrong].any()
    assert len(set(chosen.samples)) == len(chosen.samples) == min(samples, n)
    highest = probs.max(1)
    assert (np.diff(highest[chosen.wrong]) <= 0).all()
    left_out = np.setdiff1d(np.flatnonzero(~is_right), chosen.wrong)
    assert not len(left_out) or not count or highest[left_out].max() <= highest[chosen.wrong].min()


def test_the_right_ones_are_drawn_at_random_and_the_same_each_time() -> None:
    probs, labels = np.tile([0.9, 0.1], (100, 1)), np.zeros(100, np.int64)
    one, same, other = (choose(probs, labels, 10, 5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.right.tolist() == same.right.tolist() != other.right.tolist()
    assert max(one.right) > 20


def test_a_row_names_the_image_and_all_its_outputs() -> None:
    probs, logits = np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([[0.0, 0.0], [-1.0, 0.5]])
    assert rows(np.array([1]), probs, np.array([1, 0]), logits) == [
        {"index": 1, "label": 0, "prediction": 1, "probability": 0.75, "logits": [-1.0, 0.5], "probs": [0.25, 0.75]}
    ]
