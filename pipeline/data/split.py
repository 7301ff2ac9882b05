"""Split images into train, validation and test, as a function of the labels and the seed alone.

Not scikit-learn's, because a class with few images must have one in every part, seeds go up to 2**63, and the same labels must
be split the same way under every version of every library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import Data
from pipeline.data import DataError

TEST_STREAM, VALIDATION_STREAM, LIMIT_STREAM = range(3)  # separate, so that a limit does not change the test images


@dataclass(frozen=True)
class Choice:
    """Images of one published part.

    part : "train", "validation" or "test", as published
    indices : int64, ascending, into that part
    """

    part: str
    indices: np.ndarray


def merge(
    labels: Mapping[str, np.ndarray], classes: Sequence[str], groups: Sequence[Sequence[int]]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Join classes: the members of ``groups[i]`` become class i, named like ``0+6``.

    Raises DataError if a group names an unknown class, or a class is in no group.

    labels : by part, int64 arrays of shape (n,)
    """
    last = len(classes) - 1
    members = [label for group in groups for label in group]
    outside = [label for label in members if label > last]
    if outside:
        raise DataError(f"data.merge: class indices must be in 0 to {last}, got {outside[0]}")
    missing = sorted(set(range(last + 1)) - set(members))
    if missing:
        raise DataError(f"data.merge: every class must be in exactly one group; {missing[0]} ({classes[missing[0]]}) is in none")
    table = np.empty(len(classes), np.int64)
    for new, group in enumerate(groups):
        table[list(group)] = new
    names = tuple("+".join(classes[label] for label in group) for group in groups)
    return {part: table[old] for part, old in labels.items()}, names


def choose(labels: Mapping[str, np.ndarray], classes: Sequence[str], section: Data) -> dict[str, Choice]:
    """Choose train, validation and test; keep a published validation or test part, split a missing one off train.

    Each split is stratified: a class gives its proportional share, rounded, and at least one image to every part.

    Raises DataError if a class has too few images for the parts, or the limit is too low for the number of classes.

    labels : by published part, int64 arrays of shape (n,)
    section : ``validation``, ``test``, ``limit`` and ``seed`` are used
    """
    needed = 1 + ("validation" not in labels) + ("test" not in labels)
    _refuse_small_classes(labels["train"], classes, needed)
    pools = {part: np.arange(len(part_labels)) for part, part_labels in labels.items()}
    test, rest = Choice("test", pools.get("test", pools["train"])), pools["train"]
    if "test" not in labels:
        rest, held = hold_out(labels["train"], section.test, _rng(section.seed, TEST_STREAM), keep=needed - 1)
        test = Choice("train", held)
    chosen = {"train": Choice("train", rest), "test": test}
    if "validation" in labels:
        chosen["validation"] = Choice("validation", pools["validation"])
    if section.limit is not None:
        chosen = _limited(chosen, labels, section.limit, section.seed, len(classes))
    if "validation" not in labels:
        rest = chosen["train"].indices
        kept, held = hold_out(labels["train"][rest], section.validation, _rng(section.seed, VALIDATION_STREAM), keep=1)
        chosen |= {"train": Choice("train", rest[kept]), "validation": Choice("train", rest[held])}
    return chosen


def hold_out(labels: np.ndarray, fraction: float, rng: np.random.Generator, *, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions kept and those held out, each ascending, with at least ``keep`` and 1 of each class."""
    sizes = np.bincount(labels)
    shares = _shares(sizes, round(fraction * len(labels)))
    held = _draw(labels, np.minimum(np.maximum(shares, 1), np.maximum(sizes - keep, 0)), rng)
    return np.setdiff1d(np.arange(len(labels)), held), held


def sample(labels: np.ndarray, count: int, rng: np.random.Generator, *, at_least: int) -> np.ndarray:
    """Return ``count`` positions, ascending, at least ``at_least`` of each class (all of a class that has fewer)."""
    sizes = np.bincount(labels)
    first = np.minimum(sizes, at_least)
    return _draw(labels, first + _shares(sizes - first, count - first.sum()), rng)


def _limited(
    chosen: dict[str, Choice], labels: Mapping[str, np.ndarray], limit: int, seed: int, n_classes: int
) -> dict[str, Choice]:
    """Limit the search images (train, and a published validation part) to ``limit``, and the test images too."""
    if limit < 2 * n_classes:
        rule = f"data.limit must be at least {2 * n_classes}, a training and a validation image for each of {n_classes} classes"
        raise DataError(f"{rule}, got {limit}")
    sizes = {name: len(choice.indices) for name, choice in chosen.items()}
    counts = {"train": limit, "test": limit}
    if "validation" in chosen:
        share = limit * sizes["validation"] // (sizes["train"] + sizes["validation"])
        counts["validation"] = min(max(share, n_classes), limit - n_classes)
        counts["train"] = limit - counts["validation"]
    limited = {}
    for stream, (name, choice) in enumerate(sorted(chosen.items()), start=LIMIT_STREAM):
        at_least = 2 if name == "train" and "validation" not in chosen else 1
        count = min(counts[name], sizes[name])
        picked = sample(labels[choice.part][choice.indices], count, _rng(seed, stream), at_least=at_least)
        limited[name] = Choice(choice.part, choice.indices[picked])
    return limited


def _shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """Divide ``total`` in proportion to ``sizes``: rounded down, one more for the largest remainders, at most ``sizes``."""
    shares, remainders = np.divmod(sizes * total, max(sizes.sum(), 1))
    largest = np.argsort(-remainders, kind="stable")
    shares[largest[: total - shares.sum()]] += 1
    return np.minimum(shares, sizes)


def _draw(labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw ``counts[label]`` positions of each label without replacement; return them ascending."""
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(counts)]
    return np.sort(np.concatenate(drawn))


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng((seed, stream))


def _refuse_small_classes(labels: np.ndarray, classes: Sequence[str], needed: int) -> None:
    sizes = np.bincount(labels, minlength=len(classes))
    label = int(sizes.argmin())
    if sizes[label] < needed:
        count = f"class {classes[label]} has {sizes[label]} training image{'' if sizes[label] == 1 else 's'}"
        raise DataError(f"{count}, but a split needs at least {needed} of each class; add images, or remove the class")
