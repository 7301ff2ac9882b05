"""Read the binary version of CIFAR-10: records of one label byte and 3072 pixel bytes, in files of a tar archive.

Source: https://www.cs.toronto.edu/~kriz/cifar.html. The Python version of the archive is a pickle, which can run code.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.data import DataError
from pipeline.data.dataset import Published, Split
from pipeline.data.idx import check_labels

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
MOST = 100_000_000  # bytes of one member; the published ones have 30,730,000


def read_cifar10(archive: Path) -> Published:
    """Return the images in ``cifar-10-binary.tar.gz``; members are read in memory, nothing is extracted to disk.

    Raises DataError for a damaged or truncated archive, a member that is missing, repeated, not a plain file or of a wrong size,
    or a label out of range.
    """
    members: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if member.size > MOST:
                    raise DataError(f"{archive}: member {member.name} has {member.size} bytes, more than {MOST}")
                if name in (*TRAIN, TEST):
                    if name in members:
                        raise DataError(f"{archive}: each member must occur once, got {name} twice; fetch the file again")
                    members[name] = _records(archive, tar, member)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive}: damaged archive ({error}); fetch the file again") from None
    missing = [name for name in (*TRAIN, TEST) if name not in members]
    if missing:
        raise DataError(f"{archive}: lacks {', '.join(missing)}; fetch the file again")
    return Published(CLASSES, {"train": _split(members, TRAIN), "test": _split(members, (TEST,))})


def _records(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    """Return the records of one member: uint8 (n, RECORD)."""
    file = tar.extractfile(member) if member.isreg() else None
    if file is None or not member.size or member.size % RECORD:
        raise DataError(f"{archive}: member {member.name} must be a file of whole records of {RECORD} bytes, got {member.size}")
    content = file.read()
    if len(content) < member.size:
        raise DataError(f"{archive}: ends within {member.name}; fetch the file again")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    check_labels(archive / member.name, records[:, 0], len(CLASSES))
    return records


def _split(members: dict[str, np.ndarray], names: tuple[str, ...]) -> Split:
    images = np.concatenate([members[name][:, 1:] for name in names]).reshape(-1, *SHAPE)
    return Split(images, np.concatenate([members[name][:, 0] for name in names]).astype(np.int64))
