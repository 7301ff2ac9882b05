"""Convert the size and channels of images; compute pixel statistics and the fingerprint of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.dataset import Split

BLOCK = 1 << 21  # pixels in floating point at a time
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's convert("L")
SMALLEST_STD = 1 / 255  # one grey level, so that a channel which never varies can still be divided by it


def blocks(images: np.ndarray) -> Iterator[slice]:
    """Return slices of the first axis, each with few enough images to hold a floating-point copy in memory."""
    step = max(1, BLOCK // int(np.prod(images.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(images), step))


def convert(images: np.ndarray, size: int | None, channels: int | None) -> np.ndarray:
    """Scale images with antialiasing to ``size`` x ``size``; convert colour to grey by luma, grey to colour by repetition.

    Parameters
    ----------
    images : uint8 array of shape (n, 1 or 3, height, width)
    size, channels : None: unchanged

    Returns
    -------
    uint8 array of shape (n, channels, size, size); ``images`` itself where nothing changes
    """
    n, have, height, width = images.shape
    want, shape = channels or have, (size or height, size or width)
    if want == have and shape == (height, width):
        return images
    converted = np.empty((n, want, *shape), np.uint8)
    for rows in blocks(images):
        block = torch.from_numpy(images[rows]).float()
        if want < have:
            block = (block * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        if shape != (height, width):
            block = F.interpolate(block, size=shape, mode="bilinear", antialias=True)
        converted[rows] = block.round().clamp(0, 255).to(torch.uint8).numpy()  # one grey channel fills three
    return converted


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, pixels scaled to [0, 1], exactly, from counts of the 256 levels.

    The deviation is at least one grey level, 1/255.
    """
    means, stds = [], []
    levels = np.arange(256) / 255
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for rows in blocks(images):
            counts += np.bincount(images[rows, channel].ravel(), minlength=256)
        mean = float(counts @ levels / counts.sum())
        variance = float(counts @ (levels - mean) ** 2 / counts.sum())
        means.append(mean)
        stds.append(max(variance**0.5, SMALLEST_STD))
    return tuple(means), tuple(stds)


def fingerprint(splits: Iterable[Split], classes: Sequence[str]) -> str:
    """Return the MD5 of the class names and of the shapes and bytes of all arrays, in order; 32 hex digits."""
    digest = hashlib.md5(repr(tuple(classes)).encode(), usedforsecurity=False)
    for split in splits:
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
