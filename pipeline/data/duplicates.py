"""Find images that occur twice: exactly, or up to brightness, contrast and a little noise."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.convert import blocks
from pipeline.data.dataset import Split

# At most 1 % of an image's variance may differ once brightness and contrast are removed (correlation r, r^2 >= 0.99).
# None of MNIST's 10,000 test images reaches this with a training image: the closest pair, two ones, has r^2 = 0.984.
NEAR = 0.99**0.5
COARSE = 14  # pixels; enough to find the nearest candidate, and 2 x 2 pixels of a 28 x 28 image
SCORES = 1 << 22  # similarities held at a time


@dataclass(frozen=True, order=True)
class Place:
    """One image: the split it is in, and its index there."""

    split: str
    index: int


@dataclass(frozen=True)
class Pair:
    """A held-out image, the earlier image that it repeats, and their correlation (1 for exact copies)."""

    held_out: Place
    earlier: Place
    similarity: float


def groups(splits: Mapping[str, Split]) -> list[list[Place]]:
    """Return the sets of two or more places with identical pixels, each in the order of ``splits``."""
    places = defaultdict(list)
    for name, split in splits.items():
        for index, image in enumerate(split.images):
            places[hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()].append(Place(name, index))
    return [group for group in places.values() if len(group) > 1]


def across(places: list[list[Place]]) -> list[Pair]:
    """Return the pair for each image that repeats one of an earlier split; in each group the earliest split comes first."""
    return [Pair(place, group[0], 1.0) for group in places for place in group if place.split != group[0].split]


def near(earlier: Split, held_out: Split) -> list[tuple[int, int, float]]:
    """Return each held-out image with its most similar earlier one, if the two are near duplicates but not equal.

    The candidate is the nearest at 14 x 14 grey pixels; the verdict is the correlation at full size and in all channels.

    Returns
    -------
    (index in held_out, index in earlier, correlation), most similar first
    """
    reference = _unit(earlier.images, COARSE)  # (m, d)
    queries = _unit(held_out.images, COARSE)  # (n, d)
    scores = torch.empty(max(1, SCORES // len(reference)), len(reference))  # one buffer, as fresh ones fragment the heap
    nearest = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), len(scores)):
        block = queries[start : start + len(scores)]
        nearest[start : start + len(scores)] = torch.mm(block, reference.T, out=scores[: len(block)]).argmax(1).numpy()
    pairs = []
    for rows in blocks(held_out.images):
        a, b = held_out.images[rows], earlier.images[nearest[rows]]
        similarity = (_unit(a) * _unit(b)).sum(1).numpy()
        differ = (a != b).any(axis=(1, 2, 3))
        for index in np.flatnonzero((similarity >= NEAR) & differ):
            pairs.append((rows.start + int(index), int(nearest[rows][index]), float(similarity[index])))
    return sorted(pairs, key=lambda pair: -pair[2])


def _unit(images: np.ndarray, size: int | None = None) -> torch.Tensor:
    """Return images without brightness and contrast: float32 (n, d), rows of mean 0 and length 1; at ``size`` grey and small."""
    n, channels, height, width = images.shape
    small = (channels, height, width) if size is None else (1, min(size, height), min(size, width))
    unit = torch.empty(n, int(np.prod(small)))
    for rows in blocks(images):
        block = torch.from_numpy(images[rows]).float()
        if size is not None:
            block = F.adaptive_avg_pool2d(block.mean(1, keepdim=True), small[1:])
        block = block.flatten(1)
        unit[rows] = F.normalize(block - block.mean(1, keepdim=True), dim=1)
    return unit
