"""The arrays that the rest of the pipeline works on, memory-mapped from disk.

Two types keep the search blind: training and studies receive :class:`SearchData`, which holds train and
validation only; the test split is a plain :class:`Split` that :func:`open_test` alone gives out.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline import artifacts, line_log
from pipeline.artifacts import verified


@dataclass(frozen=True)
class DatasetInfo:
    """What a model needs to know of the data it was trained on.

    name : of the data set
    classes : names, by label
    shape : of one image, (channels, height, width)
    mean, std : per channel, of the training images only, pixels scaled to [0, 1]
    fingerprint : digest of all arrays (train, validation and test) and of the classes; 32 hex digits
    split_seed : seed of the split
    counts : images per class, by split name (train, validation, test)
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    split_seed: int
    counts: dict[str, tuple[int, ...]]

    @classmethod
    def read(cls, folder: Path) -> DatasetInfo:
        """Read what :meth:`write` wrote. Raises DamagedError where the file is not as it was written."""
        tree = artifacts.read_json(verified(folder, "dataset.json") / "dataset.json")
        for key in ("classes", "shape", "mean", "std"):
            tree[key] = tuple(tree[key])
        tree["counts"] = {split: tuple(counts) for split, counts in tree["counts"].items()}
        return cls(**tree)

    def write(self, folder: Path) -> None:
        artifacts.write_json(folder / "dataset.json", asdict(self))


@dataclass(frozen=True)
class Split:
    """Images and labels of one part of the data.

    images : uint8 array of shape (n, channels, height, width)
    labels : int64 array of shape (n,), each in [0, number of classes)
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def read(cls, folder: Path, name: str) -> Split:
        """Map the arrays copy-on-write: pages are shared with every other reader, and nobody can change the file."""
        return cls(*(np.load(folder / f"{name}_{part}.npy", mmap_mode="c") for part in ("images", "labels")))

    def write(self, folder: Path, name: str) -> None:
        for part, array in (("images", self.images), ("labels", self.labels)):
            with artifacts.atomic_path(folder / f"{name}_{part}.npy") as temporary:
                np.save(temporary, array)


@dataclass(frozen=True)
class SearchData:
    """All that training and studies can see of the data."""

    info: DatasetInfo
    train: Split
    validation: Split

    @classmethod
    def read(cls, folder: Path) -> SearchData:
        """Map the arrays. Raises DamagedError where they are not what was written."""
        verified(folder)
        return cls(DatasetInfo.read(folder), Split.read(folder, "train"), Split.read(folder, "validation"))

    def write(self, folder: Path) -> None:
        self.info.write(folder)
        self.train.write(folder, "train")
        self.validation.write(folder, "validation")


def open_test(folder: Path, log: Path, fingerprint: str, reader: str) -> tuple[Split, int]:
    """Write down that the test images are opened, and open them.

    Parameters
    ----------
    log : where openings are written down, one line each; one that was not written whole was no opening
    fingerprint : of the data set, so that openings are counted per data set
    reader : who opens it: the id of a run

    Returns
    -------
    The test split, and how often the test set of this data set has been opened, this time included.

    Raises
    ------
    OSError
        It cannot be written down, as where the disk is full. Then nothing was written, and the images stay closed.
    DamagedError
        The images, or what is written down of earlier openings, are not what was written.
    """
    test = Split.read(verified(folder), "test")
    log.parent.mkdir(parents=True, exist_ok=True)
    with line_log.opened(log, wait=True) as openings:
        openings.append({"fingerprint": fingerprint, "reader": reader, "time": round(time.time())})
        return test, sum(record["fingerprint"] == fingerprint for record in line_log.read(log)[0])
