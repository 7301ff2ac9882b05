"""The data sets by name: files, mirrors, checksums and readers.

The checksums of MNIST and Fashion-MNIST are those of the *uncompressed* content, so a recompressed file is accepted. KMNIST
publishes only checksums of the compressed files, so a recompressed file is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import artifacts
from pipeline.config import Data
from pipeline.data import DataError
from pipeline.data.cifar import read_cifar10
from pipeline.data.dataset import Published
from pipeline.data.digits import CLASSES as DIGITS
from pipeline.data.digits import read_digits
from pipeline.data.idx import read_pair
from pipeline.data.image_folder import read_folder


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a data set.

    name : as published
    bytes : of its uncompressed content, or of the file itself where only that can be verified
    md5 : of the file as published
    content_md5 : of the uncompressed content; None: unknown
    """

    name: str
    bytes: int
    md5: str
    content_md5: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names the file may have; an uncompressed one is accepted only if the checksum of the content is known."""
        return (self.name, self.name.removesuffix(".gz")) if self.content_md5 else (self.name,)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set: its files and mirrors (none for digits and image_folder) and the reader of the fetched folder."""

    name: str
    read: Callable[[Path, Data], Published]
    files: tuple[RemoteFile, ...] = ()
    mirrors: tuple[str, ...] = ()


IDX_BYTES = {
    "train-images-idx3-ubyte.gz": 47_040_016,
    "train-labels-idx1-ubyte.gz": 60_008,
    "t10k-images-idx3-ubyte.gz": 7_840_016,
    "t10k-labels-idx1-ubyte.gz": 10_008,
}


def _idx_files(md5: tuple[str, ...], content_md5: tuple[str | None, ...] = (None,) * 4) -> tuple[RemoteFile, ...]:
    rows = zip(IDX_BYTES.items(), md5, content_md5, strict=True)
    return tuple(RemoteFile(name=name, bytes=size, md5=whole, content_md5=content) for (name, size), whole, content in rows)


def _idx_reader(classes: tuple[str, ...]) -> Callable[[Path, Data], Published]:
    def read(folder: Path, section: Data) -> Published:
        parts = {}
        for part, prefix in (("train", "train"), ("test", "t10k")):
            images, labels = (_present(folder, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
            parts[part] = read_pair(images, labels, len(classes))
        return Published(classes, parts)

    return read


def _present(folder: Path, name: str) -> Path:
    """Return the path of a file, compressed or not."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(f"{folder}: lacks {name}.gz; run the download stage again (dvc repro)")


CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source(name="digits", read=lambda folder, section: read_digits(folder)),
        Source(
            name="mnist",
            read=_idx_reader(DIGITS),
            files=_idx_files(
                md5=(
                    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                    "d53e105ee54ea40749a09fcbcd1e9432",
                    "9fb629c4189551a2d022fa330f9573f3",
                    "ec29112dd5afa0611ce80d1b7f02629c",
                ),
                content_md5=(
                    "6bbc9ace898e44ae57da46a324031adb",
                    "a25bea736e30d166cdddb491f175f624",
                    "2646ac647ad5339dbf082846283269ea",
                    "27ae3e4e09519cfbb04c329615203637",
                ),
            ),
            mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        ),
        Source(
            name="fashion_mnist",
            read=_idx_reader(CLOTHES),
            files=_idx_files(
                md5=(
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "25c81989df183df01b3e8a0aad5dffbe",
                    "bef4ecab320f06d8554ea6380940ec79",
                    "bb300cfdad3c16e7a12a480ee83cd310",
                ),
                content_md5=(
                    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                    "9018921c3c673c538a1fc5bad174d6f9",
                    "8181f5470baa50b63fa0f6fddb340f0a",
                    "15d484375f8d13e6eb1aabb0c3f46965",
                ),
            ),
            mirrors=(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
            ),
        ),
        Source(
            name="kmnist",
            read=_idx_reader(KUZUSHIJI),
            files=_idx_files(
                md5=(
                    "bdb82020997e1d708af4cf47b453dcf7",
                    "e144d726b3acfaa3e44228e80efcd344",
                    "5c965bf0a639b31b8f53240b1b52f4d7",
                    "7320c461ea6c1c855c0b718fb2a4b134",
                ),
            ),
            mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist", "http://codh.rois.ac.jp/kmnist/dataset/kmnist"),
        ),
        Source(
            name="cifar10",
            read=lambda folder, section: read_cifar10(folder / "cifar-10-binary.tar.gz"),
            files=(RemoteFile(name="cifar-10-binary.tar.gz", bytes=170_052_171, md5="c32a1d4ab5d03f1284b67883e8d87530"),),
            mirrors=("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz"),
        ),
        Source(name="image_folder", read=read_folder),
    )
}


def read_published(raw: Path, section: Data) -> Published:
    """Return the data set ``section.name`` from the files of the download stage in ``raw``.

    Raises
    ------
    DataError
        ``raw`` is empty or holds another data set.
    DamagedError
        A file has changed since it was written.
    """
    if not (raw / "source.json").is_file():
        raise DataError(f"{raw} holds no data set; run the download stage (dvc repro)")
    name = artifacts.read_json(artifacts.verified(raw) / "source.json")["name"]
    if name != section.name:
        raise DataError(f"{raw} holds {name}, but data.name is {section.name}; run the download stage (dvc repro)")
    return SOURCES[section.name].read(raw, section)
