"""The images and labels of a data set, memory-mapped from disk.

Two types keep the search blind: training and studies receive :class:`SearchData`, which holds train and validation only; only
:func:`open_test` returns the test split.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline import artifacts, line_log
from pipeline.artifacts import verified


@dataclass(frozen=True)
class DatasetInfo:
    """The properties of a data set that a model depends on.

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
        """Map the arrays copy-on-write: readers share the pages, and nobody can change the file."""
        return cls(*(np.load(folder / f"{name}_{part}.npy", mmap_mode="c") for part in ("images", "labels")))

    def write(self, folder: Path, name: str) -> None:
        for part, array in (("images", self.images), ("labels", self.labels)):
            with artifacts.atomic_path(folder / f"{name}_{part}.npy") as temporary:
                np.save(temporary, array)


@dataclass(frozen=True)
class DeviceSplit:
    """A split on its device, from which batches are gathered.

    images : uint8 (n, channels, height, width); labels : int64 (n,)
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, split: Split, device: torch.device) -> DeviceSplit:
        """Return the split's arrays on a device; on a CPU the tensors share the mapped files, on a GPU they are copies."""
        return cls(torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device))


@dataclass(frozen=True)
class Published:
    """All images of a data set, in the parts in which its authors published them.

    classes : names, by label
    parts : "train" and, if published, "validation" and "test"
    files : for a folder of images, the file of each image, by part; else empty
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Split]
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchData:
    """The data that training and studies can see: train and validation."""

    info: DatasetInfo
    train: Split
    validation: Split

    @classmethod
    def read(cls, folder: Path) -> SearchData:
        """Map the arrays. Raises DamagedError if they have changed since they were written."""
        verified(folder)
        return cls(DatasetInfo.read(folder), Split.read(folder, "train"), Split.read(folder, "validation"))

    def write(self, folder: Path) -> None:
        self.info.write(folder)
        self.train.write(folder, "train")
        self.validation.write(folder, "validation")


def open_test(folder: Path, log: Path, fingerprint: str, reader: str) -> tuple[Split, int]:
    """Log an opening of the test images, then open them.

    Parameters
    ----------
    log : file of openings, one line each
    fingerprint : of the data set, so that openings are counted per data set
    reader : id of the run that opens them

    Returns
    -------
    The test split, and the number of openings of this data set's test images, this one included.

    Raises
    ------
    OSError
        The opening cannot be logged, e.g. because the disk is full; the images stay closed.
    DamagedError
        The images or the log have changed since they were written.
    """
    test = Split.read(verified(folder), "test")
    log.parent.mkdir(parents=True, exist_ok=True)
    with line_log.opened(log, wait=True) as openings:
        openings.append({"fingerprint": fingerprint, "reader": reader, "time": round(time.time())})
        return test, sum(record["fingerprint"] == fingerprint for record in line_log.read(log)[0])
