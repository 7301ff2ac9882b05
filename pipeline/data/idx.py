"""Read IDX, the file format of MNIST: a big-endian header, then the bytes of an array.

Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import cast

import numpy as np

from pipeline.data import DataError
from pipeline.data.dataset import Split

UNSIGNED_BYTE = 0x08
DEFLATE_RATIO = 1032  # one byte of deflate holds at most this many bytes


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Return the array in an IDX file of unsigned bytes, compressed (``.gz``) or not.

    Decompresses no more than the header announces, and accepts a header only up to what a file of this size can hold.

    Raises DataError for a wrong magic number, fewer or more bytes than the dimensions say, or damaged or truncated gzip.

    Returns
    -------
    uint8 array of ``ndim`` dimensions, writable
    """
    compressed = path.suffix == ".gz"
    most = path.stat().st_size * (DEFLATE_RATIO if compressed else 1)
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            return _read(path, cast(io.BufferedIOBase, file), ndim, most)
    except EOFError:
        raise DataError(f"{path}: the gzip stream ends too early; fetch the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip ({error}); fetch the file again") from None


def _read(path: Path, file: io.BufferedIOBase, ndim: int, most: int) -> np.ndarray:
    header = file.read(4 + 4 * ndim)
    magic = bytes([0, 0, UNSIGNED_BYTE, ndim])
    if header[:4] != magic:
        raise DataError(f"{path}: an IDX file of {ndim}-dimensional bytes must start with {magic.hex()}, got {header[:4].hex()}")
    if len(header) < 4 + 4 * ndim:
        raise DataError(f"{path}: ends within the header, after {len(header)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    expected = int(np.prod(shape, dtype=object))
    if expected > most:
        raise DataError(f"{path}: dimensions {shape} need {expected} bytes; the file cannot hold more than {most}")
    content = np.empty(expected, np.uint8)
    filled = 0
    while filled < expected and (count := file.readinto(content[filled:].data)):
        filled += count
    if filled < expected:
        raise DataError(f"{path}: dimensions {shape} need {expected} bytes, got {filled}")
    if file.read(1):
        raise DataError(f"{path}: more bytes follow the {expected} that dimensions {shape} announce")
    return content.reshape(shape)


def read_pair(images: Path, labels: Path, n_classes: int) -> Split:
    """Return the images and labels of two IDX files: uint8 (n, 1, height, width) and int64 (n,).

    Raises DataError if either file is malformed, they differ in number, or a label is not in [0, n_classes).
    """
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(numbers):
        raise DataError(f"{labels}: one label per image is needed, got {len(numbers)} for {len(pixels)} in {images.name}")
    check_labels(labels, numbers, n_classes)
    return Split(pixels[:, None], numbers.astype(np.int64))


def check_labels(path: Path, labels: np.ndarray, n_classes: int) -> None:
    """Raise DataError with file and position for the first label outside [0, n_classes)."""
    wrong = np.flatnonzero(labels >= n_classes)
    if len(wrong):
        raise DataError(f"{path}: labels must be in 0 to {n_classes - 1}, got {labels[wrong[0]]} at position {wrong[0]}")
