"""Splits are disjoint, complete, stratified, and a function of the labels and the seed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Data
from pipeline.data import DataError
from pipeline.data.split import Choice, choose, hold_out, merge, sample

CLASSES = tuple("abcde")
SIZES = st.lists(st.integers(3, 60), min_size=2, max_size=5)
FRACTIONS = st.floats(0.01, 0.6)


def labels_of(sizes: list[int], shuffled: int = 0) -> np.ndarray:
    return np.random.default_rng(shuffled).permutation(np.repeat(np.arange(len(sizes)), sizes))


def by_name(chosen: dict[str, Choice]) -> dict[str, list[int]]:
    return {name: choice.indices.tolist() for name, choice in chosen.items()}


@given(SIZES, FRACTIONS, FRACTIONS, st.integers(0, 2**63 - 1))
def test_every_image_is_in_exactly_one_split(sizes: list[int], test: float, validation: float, seed: int) -> None:
    labels = labels_of(sizes)
    chosen = choose({"train": labels}, CLASSES[: len(sizes)], Data(test=test, validation=validation, seed=seed))
    assert {choice.part for choice in chosen.values()} == {"train"}
    assert sorted(itertools.chain(*by_name(chosen).values())) == list(range(len(labels)))


@given(SIZES, FRACTIONS, st.integers(0, 99))
def test_each_class_gives_its_share_within_one_and_at_least_one(sizes: list[int], fraction: float, seed: int) -> None:
    labels = labels_of(sizes)
    kept, held = hold_out(labels, fraction, np.random.default_rng(seed), keep=1)
    counts = np.bincount(labels[held], minlength=len(sizes))
    assert (counts >= 1).all()
    assert (np.bincount(labels[kept], minlength=len(sizes)) >= 1).all()
    # round() of the total shifts every share by less than its own share of one image
    assert (np.abs(counts - fraction * np.array(sizes)) <= 1 + 0.5).all()


def test_a_round_number_of_images_is_split_exactly() -> None:
    kept, held = hold_out(labels_of([301, 299, 200, 200]), 0.1, np.random.default_rng(0), keep=1)
    assert (len(kept), len(held)) == (900, 100)


@given(SIZES, st.integers(0, 2**63 - 1))
def test_the_same_labels_and_seed_give_the_same_split(sizes: list[int], seed: int) -> None:
    section, labels = Data(seed=seed), labels_of(sizes)
    first, second = (by_name(choose({"train": labels.copy()}, CLASSES[: len(sizes)], section)) for _ in range(2))
    assert first == second


def test_another_seed_gives_another_split() -> None:
    labels = {"train": labels_of([50, 50])}
    assert by_name(choose(labels, CLASSES[:2], Data(seed=0))) != by_name(choose(labels, CLASSES[:2], Data(seed=1)))


@given(st.lists(st.integers(30, 60), min_size=2, max_size=5), st.integers(10, 400), st.booleans(), st.booleans())
def test_a_limit_holds_for_search_and_for_test_and_leaves_every_class_in_every_split(
    sizes: list[int], limit: int, has_validation: bool, has_test: bool
) -> None:
    labels = {"train": labels_of(sizes)}
    labels |= {"validation": labels_of(sizes, 1)} if has_validation else {}
    labels |= {"test": labels_of(sizes, 2)} if has_test else {}
    chosen = choose(labels, CLASSES[: len(sizes)], Data(limit=limit))
    assert len(chosen["train"].indices) + len(chosen["validation"].indices) <= limit
    assert len(chosen["test"].indices) <= limit
    for choice in chosen.values():
        assert len(set(choice.indices.tolist())) == len(choice.indices)
        assert set(labels[choice.part][choice.indices]) == set(range(len(sizes)))


def test_a_limit_does_not_move_images_between_search_and_test() -> None:
    labels = {"train": labels_of([100, 100])}
    whole, limited = (choose(labels, CLASSES[:2], Data(limit=limit)) for limit in (None, 40))
    assert set(limited["test"].indices) <= set(whole["test"].indices)


def test_published_parts_are_kept() -> None:
    labels = {"train": labels_of([20, 20]), "validation": labels_of([5, 5]), "test": labels_of([7, 7])}
    chosen = choose(labels, CLASSES[:2], Data())
    assert {name: (choice.part, len(choice.indices)) for name, choice in chosen.items()} == {
        "train": ("train", 40),
        "validation": ("validation", 10),
        "test": ("test", 14),
    }


@given(SIZES, st.integers(0, 99))
def test_a_sample_has_the_size_asked_for(sizes: list[int], seed: int) -> None:
    labels = labels_of(sizes)
    count = np.random.default_rng(seed).integers(2 * len(sizes), len(labels) + 1)
    picked = sample(labels, int(count), np.random.default_rng(seed), at_least=2)
    assert len(set(picked.tolist())) == count
    assert (np.bincount(labels[picked], minlength=len(sizes)) >= 2).all()


@pytest.mark.parametrize(
    ("sizes", "parts", "message"),
    [
        (
            [1, 9],
            [],
            "^class a has 1 training image, but a split needs at least 3 of each class; add images, or remove the class$",
        ),
        ([9, 2], [], "^class b has 2 training images, but a split needs at least 3"),
        ([9, 1], ["test"], "^class b has 1 training image, but a split needs at least 2"),
        ([9, 0], ["validation", "test"], "^class b has 0 training images, but a split needs at least 1"),
    ],
)
def test_a_class_too_small_to_split_is_named(sizes: list[int], parts: list[str], message: str) -> None:
    labels = {"train": labels_of(sizes)} | {part: labels_of([3, 3]) for part in parts}
    with pytest.raises(DataError, match=message):
        choose(labels, CLASSES[:2], Data())


def test_a_limit_below_two_images_a_class_is_refused() -> None:
    section = replace(Data(), limit=10)
    with pytest.raises(DataError, match=r"^data.limit must be at least 12, .* 6 classes, got 10$"):
        choose({"train": labels_of([9] * 6)}, "abcdef", section)


@given(st.permutations(range(5)), st.integers(1, 4), st.lists(st.integers(0, 4), max_size=40))
def test_merging_keeps_every_image_and_joins_exactly_the_named_classes(order: list[int], cut: int, old: list[int]) -> None:
    groups = [order[:cut], order[cut:]]
    labels, names = merge({"train": np.array(old, np.int64)}, CLASSES, groups)
    assert names == tuple("+".join(CLASSES[label] for label in group) for group in groups)
    assert labels["train"].tolist() == [0 if label in groups[0] else 1 for label in old]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0, 1], [2, 3, 4, 5]], "^data.merge: class indices must be in 0 to 4, got 5$"),
        ([[0, 1], [2, 4]], r"^data.merge: every class must be in exactly one group; 3 \(d\) is in none$"),
    ],
)
def test_a_merge_that_does_not_fit_the_classes_is_refused(groups: list[list[int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        merge({"train": np.arange(5)}, CLASSES, groups)
